"""Reads samples_*.jsonl: what a task's judge said of every prompt, and how it was asked."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from polyrefuse_leaderboard.reading.documents import AGAIN, BadResults, parse, part, shown, text
from polyrefuse_leaderboard.reading.requests import difference, lacks_prompt
from polyrefuse_leaderboard.reading.runs import Response

from polyrefuse_shared.lm_eval_internals import DEFAULT_FILTER
from polyrefuse_tasks.judges.labels import Label
from polyrefuse_tasks.metrics import OFF_LANGUAGE, score, score_sampled
from polyrefuse_tasks.same_answers import warn_of_same_answers

UNIDENTIFIED: dict[str, float] = {OFF_LANGUAGE: 0.0}
"""What an answer adds where its language was not identified; the rate is left out then."""

LABELS: dict[str, Label] = {label.value: label for label in Label}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a task's results say that each of its samples has to say too."""

    language: str
    judge: str
    harmful: bool


@dataclass(frozen=True, slots=True)
class Samples:
    """What a samples file says.

    Attributes:
        responses: by prompt, in the order of the file.
        warnings: what the rates must not be read without, whole sentences.
    """

    responses: tuple[Response, ...]
    warnings: tuple[str, ...]


def read_samples(
    samples: Path, asked: Asked, settings: Mapping[str, Any], *, include_samples: bool
) -> Samples:
    """A samples file, its requests held to the settings of its task.

    Args:
        samples: the file; blank lines and lines of other filters are skipped.
        asked: what each line has to say too.
        settings: `effective` generation settings, as the results say.
        include_samples: keep the answers' text.

    Raises:
        BadResults: the file cannot be read, or a line of it cannot be used; names the line, from 1.
    """
    found: list[Response] = []
    answered: list[list[str]] = []
    without = 0
    for where, told in _lines(samples):
        other = difference(told, settings)
        if other:
            raise BadResults(
                f"{where}: {other}, because lm-eval's --cache_requests keeps the settings that it "
                "was filled with; run lm_eval again with --cache_requests refresh, or without it."
            )
        response = _response(told, asked, include_samples, where)
        if found and response.values.keys() != found[0].values.keys():
            raise BadResults(f"{where} has other labels than the lines before; {AGAIN}")
        found.append(response)
        answered.append(list(_not_refused(told)))
        without += lacks_prompt(told, told["doc"].get("prompt"))
    every = [answer for answers in answered for answer in answers]
    warnings = [warn_of_same_answers(every, sum(map(bool, answered)))]
    if without:
        warnings.append(
            f"{without} of the {len(found)} requests do not hold the text of their prompt: check "
            "that the chat template passes it on."
        )
    return Samples(tuple(found), tuple(filter(None, warnings)))


def _lines(samples: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line with its place, for messages.

    Raises:
        BadResults: as `read_samples`.
    """
    seen: set[str] = set()
    try:
        with open(samples, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                where = f"{shown(samples)}, line {number}"
                told = parse(line, where)
                if told.get("filter", DEFAULT_FILTER) != DEFAULT_FILTER:
                    continue
                prompt = part(told, "doc", where).get("id")
                if isinstance(prompt, str) and prompt in seen:
                    raise BadResults(f"{where}: prompt {prompt!r} is there twice; {AGAIN}")
                seen.add(str(prompt))
                yield where, told
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


def _not_refused(told: Mapping[str, Any]) -> Iterator[str]:
    """The answers that are not labelled as refusals; none where the line does not hold them."""
    answers, row = _answers(told), told["doc"]
    kept = row.get("kept", [row | {"answer": 0}])
    for one in kept if answers else ():
        place = one.get("answer")
        known = isinstance(place, int) and 0 <= place < len(answers)
        if known and one.get("label") != Label.REFUSAL.value:
            yield answers[place]


def _answer(told: Mapping[str, Any], where: str) -> str:
    """The answer as it was judged; several sampled ones with a blank line between."""
    answers = _answers(told)
    if answers is None:
        found = told.get("filtered_resps")
        raise BadResults(f"{where}: {reprlib.repr(found)} is no list of answers; {AGAIN}")
    # JSON can hold surrogates, which no file of UTF-8 can.
    return "\n\n".join(answers).encode("utf-8", "replace").decode()


def _answers(told: Mapping[str, Any]) -> list[str] | None:
    """The answers to a prompt, one or several sampled ones; None where they are no such list."""
    answers = told.get("filtered_resps")
    flat = answers[0] if isinstance(answers, list) and answers else None
    flat = [flat] if isinstance(flat, str) else flat
    if not isinstance(flat, list) or not all(isinstance(one, str) for one in flat):
        return None
    return flat
