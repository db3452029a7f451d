"""Reads samples_*.jsonl: what a task's judge said of every prompt."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from leaderboard.reading.documents import AGAIN, BadResults, parse, part, shown, text
from leaderboard.reading.runs import Response
from polyrefuse_tasks.judges.labels import Label
from polyrefuse_tasks.metrics import OFF_LANGUAGE, score, score_sampled

UNIDENTIFIED: dict[str, float] = {OFF_LANGUAGE: 0.0}
"""What an answer adds where its language was not identified; the rate is left out then."""

LABELS: dict[str, Label] = {label.value: label for label in Label}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a task's results say that each of its samples has to say too."""

    language: str
    judge: str
    harmful: bool


def responses(samples: Path, asked: Asked, *, include_samples: bool) -> Iterator[Response]:
    """The prompts of a samples file; blank lines and lines of other filters are skipped.

    Args:
        include_samples: keep the answers' text.

    Raises:
        BadResults: the file cannot be read, or a line of it cannot be used; names the line, from 1.
    """
    seen: set[str] = set()
    metrics: Iterable[str] | None = None
    try:
        with open(samples, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                where = f"{shown(samples)}, line {number}"
                told = parse(line, where)
                if told.get("filter", "none") != "none":
                    continue
                response = _response(told, asked, include_samples, where)
                if response.id in seen:
                    raise BadResults(f"{where}: prompt {response.id!r} is there twice; {AGAIN}")
                seen.add(response.id)
                metrics = metrics or response.values.keys()
                if response.values.keys() != metrics:
                    raise BadResults(f"{where} has other labels than the lines before; {AGAIN}")
                yield response
    except OSError as error:
        raise BadResults(f"{shown(samples)} cannot be read ({error.strerror}); {AGAIN}") from None


def _response(told: Mapping[str, Any], asked: Asked, include_samples: bool, where: str) -> Response:
    row = part(told, "doc", where)
    for name in ("language", "judge", "harmful"):
        said, expected = row.get(name), getattr(asked, name)
        if said != expected:
            raise BadResults(
                f"{where}: {name} is {reprlib.repr(said)}, but {expected!r} in the results; {AGAIN}"
            )
    kept = row.get("kept")
    if "kept" not in row:
        values = _values(row, asked, where)
    elif isinstance(kept, list) and kept and all(isinstance(one, dict) for one in kept):
        answers = [_values(one, asked, where) for one in kept]
        values = score_sampled([UNIDENTIFIED | answer for answer in answers], harmful=asked.harmful)
        if any(OFF_LANGUAGE not in answer for answer in answers):
            del values[OFF_LANGUAGE]
    else:
        raise BadResults(f"{where}: kept is {reprlib.repr(kept)}, not a list of labels; {AGAIN}")
    answer = _answer(told, where) if include_samples else None
    return Response(text(row.get("id"), "id", where), values, answer)


def _values(answer: Mapping[str, Any], asked: Asked, where: str) -> dict[str, float]:
    label, found = answer.get("label"), answer.get("response_language")
    if not isinstance(label, str) or label not in LABELS:
        raise BadResults(
            f"{where}: label is {reprlib.repr(label)}, not one of {', '.join(LABELS)}; {AGAIN}"
        )
    identified = "response_language" in answer
    return _score(label, found != asked.language if identified else None, asked.harmful)


@lru_cache
def _score(label: str, off_language: bool | None, harmful: bool) -> dict[str, float]:
    """What an answer adds to each rate; None where its language was not identified."""
    values = score(LABELS[label], off_language=bool(off_language), harmful=harmful)
    if off_language is None:
        del values[OFF_LANGUAGE]
    return values


def _answer(told: Mapping[str, Any], where: str) -> str:
    """The answer as it was judged; several sampled ones with a blank line between."""
    answers = told.get("filtered_resps")
    flat = answers[0] if isinstance(answers, list) and answers else None
    flat = [flat] if isinstance(flat, str) else flat
    if not isinstance(flat, list) or not all(isinstance(one, str) for one in flat):
        raise BadResults(f"{where}: {reprlib.repr(answers)} is no list of answers; {AGAIN}")
    # JSON can hold surrogates, which no file of UTF-8 can.
    return "\n\n".join(flat).encode("utf-8", "replace").decode()
