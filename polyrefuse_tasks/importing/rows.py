"""JSONL of answers: rows in our own format, and rows that heretic's JSONL logger writes.

A row in our format has `prompt`, `response` and `language`. A labelled row also has `refusal` or
`harmful` (true, false, 1, 0 or null) and `judge`, the name of the judge. Rows in several languages
with the same `id` are translations of one prompt, and a row without an id pairs with no other.

A row of heretic (p-e-w/heretic on GitHub, loggers/jsonl.py) has `session_id`, `phase` and
`trial_number`, but no label. The number is null for the untouched model, and for a model that
heretic only evaluates, in the phase `model_evaluation`.
"""

from __future__ import annotations

import reprlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from polyrefuse_shared.reading import load_json
from polyrefuse_tasks.importing.answers import (
    About,
    BadAnswers,
    Published,
    PublishedRun,
    checked,
    flag_in,
    name_or_none,
    on_both,
    on_harm,
    on_refusal,
    read_content,
    run_of,
    text_in,
    text_or_none,
)
from polyrefuse_tasks.judges.contract import Measure
from polyrefuse_tasks.judges.labels import Judgement

EVALUATED = "model_evaluation"
"""The phase in which heretic only evaluates a model that it did not make."""


def read(path: Path, about: About) -> Iterator[PublishedRun]:
    """Yield a run for each language of the rows.

    Raises:
        BadAnswers: the file cannot be read or a row cannot be used. The message names the row.
    """
    rows, file = _rows(path)
    languages: dict[str, list[Published]] = defaultdict(list)
    measures: dict[str, Measure] = {}
    for where, row in rows:
        language = name_or_none(row, "language", where) or about.name("language", None, path)
        judgements: dict[str, Judgement] = {}
        if "refusal" in row or "harmful" in row:
            judge = checked("judge", text_in(row, "judge", where), where)
            judgements[judge], measured = _judgement(row, where)
            if measures.setdefault(judge, measured) != measured:
                raise BadAnswers(
                    f"{where}: {judge} measures {measured} here but {measures[judge]} before: "
                    "give every row of a judge the same labels, with null for a missing one."
                )
        languages[language].append(
            Published(
                text_in(row, "prompt", where),
                text_in(row, "response", where),
                judgements,
                response_english=text_or_none(row, "response_translated", where),
                id=name_or_none(row, "id", where),
            )
        )
    for language, answers in languages.items():
        # The language of a row takes precedence over that of the user.
        of_language = replace(about, language=language)
        yield run_of(path, of_language, answers, file, measures, condition="baseline")


def read_heretic(path: Path, about: About) -> Iterator[PublishedRun]:
    """Yield a run for each trial of heretic's log.

    Raises:
        BadAnswers: see `read`.
    """
    rows, file = _rows(path)
    trials: dict[tuple[int | None, str | None], list[Published]] = defaultdict(list)
    sessions = set()
    for where, row in rows:
        trial = row.get("trial_number")
        if isinstance(trial, bool) or not isinstance(trial, int | None):
            raise BadAnswers(
                f"{where}: trial_number is {reprlib.repr(trial)}, neither a whole number nor null; "
                "check --format."
            )
        phase = text_or_none(row, "phase", where) if trial is None else None
        answer = Published(text_in(row, "prompt", where), text_in(row, "response", where))
        trials[trial, phase].append(answer)
        sessions.add(text_or_none(row, "session_id", where))
    if len(sessions) > 1:
        raise BadAnswers(
            f"{path} holds {len(sessions)} sessions of heretic, whose trials are separate: write "
            "each session_id to a file of its own, and import each file into a folder of its own."
        )
    of_log = {
        key: "ablation" if key[0] is not None else "baseline" if key[1] != EVALUATED else None
        for key in trials
    }
    if about.condition is not None and None not in of_log.values():
        raise BadAnswers(
            f"{path} names the condition of every trial, and not all are {about.condition!r}: "
            "leave out --condition."
        )
    for key, answers in trials.items():
        made = f"heretic trial {key[0]} of {file['sha256'][:16]}"
        yield run_of(
            path,
            about if of_log[key] is None else replace(about, condition=of_log[key]),
            answers,
            file,
            {},
            language="en",
            intervention={"direction_sha256": made} if of_log[key] == "ablation" else {},
        )


def _judgement(row: dict[str, Any], where: str) -> tuple[Judgement, Measure]:
    refused, harmful = flag_in(row, "refusal", where), flag_in(row, "harmful", where)
    if "refusal" in row and "harmful" in row:
        return on_both(refused, harmful), "both"
    if "refusal" in row:
        return on_refusal(refused), "refusal"
    return on_harm(harmful), "harm"


def _rows(path: Path) -> tuple[list[tuple[str, dict[str, Any]]], dict[str, str]]:
    content, file = read_content(path)
    rows = []
    for number, line in enumerate(content.splitlines(), 1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            row = load_json(line)
        except ValueError:
            raise BadAnswers(f"{where} is not JSON; correct or remove it.") from None
        if not isinstance(row, dict):
            raise BadAnswers(f"{where} is not an object; correct or remove it.")
        rows.append((where, row))
    if not rows:
        raise BadAnswers(f"{path} has no rows; name a file of answers.")
    return rows, file
