"""JSONL of answers: rows of ours, and what heretic's JSONL logger appends.

A row of ours has `prompt`, `response`, `language`, and, where it is labelled, `refusal` or
`harmful` (true, false, 1, 0 or null) and `judge`, the name of who labelled it. A row of heretic's
(p-e-w/heretic on GitHub, loggers/jsonl.py) has `trial_number`, null for the untouched model, and no
label.
"""

from __future__ import annotations

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
    flag_in,
    on_both,
    on_harm,
    on_refusal,
    read_content,
    run_of,
    text_in,
)
from polyrefuse_tasks.judges.contract import Measure
from polyrefuse_tasks.judges.labels import Judgement


def read(path: Path, about: About) -> Iterator[PublishedRun]:
    """A run for each language of the rows.

    Raises:
        BadAnswers: the file cannot be read, or a row cannot be used; names it.
    """
    rows, told = _rows(path)
    languages: dict[str, list[Published]] = defaultdict(list)
    measures: dict[str, Measure] = {}
    for where, row in rows:
        language = row.get("language") or about.required("language", path)
        judgements: dict[str, Judgement] = {}
        if "refusal" in row or "harmful" in row:
            judge = text_in(row, "judge", where)
            judgements[judge], measured = _judgement(row, where)
            if measures.setdefault(judge, measured) != measured:
                raise BadAnswers(
                    f"{where}: {judge} measures {measured} here and {measures[judge]} before; "
                    "give every row of a judge the same labels, null where there is none."
                )
        translated = row.get("response_translated")
        languages[str(language)].append(
            Published(
                text_in(row, "prompt", where),
                text_in(row, "response", where),
                judgements,
                translated if isinstance(translated, str) else None,
            )
        )
    for language, answers in languages.items():
        # A row's own language goes before the user's.
        of_language = replace(about, language=language)
        yield run_of(path, of_language, answers, told, measures)


def read_heretic(path: Path, about: About) -> Iterator[PublishedRun]:
    """A run for each trial of heretic's log.

    Raises:
        BadAnswers: as `read`.
    """
    rows, told = _rows(path)
    trials: dict[Any, list[Published]] = defaultdict(list)
    for where, row in rows:
        answer = Published(text_in(row, "prompt", where), text_in(row, "response", where))
        trials[row.get("trial_number")].append(answer)
    for trial, answers in trials.items():
        condition = "baseline" if trial is None else "ablation"
        made = {"direction_sha256": f"heretic trial {trial} of {told['sha256'][:16]}"}
        # The log says which model answered, so that no other condition fits all of its trials.
        of_trial = replace(about, condition=condition)
        yield run_of(path, of_trial, answers, told, {}, intervention=made)


def _judgement(row: dict[str, Any], where: str) -> tuple[Judgement, Measure]:
    refused, harmful = flag_in(row, "refusal", where), flag_in(row, "harmful", where)
    if "refusal" in row and "harmful" in row:
        return on_both(refused, harmful), "both"
    if "refusal" in row:
        return on_refusal(refused), "refusal"
    return on_harm(harmful), "harm"


def _rows(path: Path) -> tuple[list[tuple[str, dict[str, Any]]], dict[str, str]]:
    content, told = read_content(path)
    rows = []
    for number, line in enumerate(content.splitlines(), 1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            row = load_json(line)
        except ValueError:
            raise BadAnswers(f"{where} is not JSON; mend or remove it.") from None
        if not isinstance(row, dict):
            raise BadAnswers(f"{where} is no object; mend or remove it.")
        rows.append((where, row))
    if not rows:
        raise BadAnswers(f"{path} has no rows; name a file of answers.")
    return rows, told
