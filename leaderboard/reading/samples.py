"""Read samples_*.jsonl: the labels of every prompt of a task, and the request that was made."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from polyrefuse_leaderboard.reading.requests import difference, lacks_prompt
from polyrefuse_leaderboard.reading.runs import Response

from polyrefuse_shared.printing import clean
from polyrefuse_tasks.judges.contract import Measure
from polyrefuse_tasks.judges.labels import Label
from polyrefuse_tasks.metrics import OFF_LANGUAGE, score, score_sampled
from polyrefuse_tasks.same_answers import warn_of_same_answers
from polyrefuse_tasks.saved_results.documents import AGAIN, BadResults, part, text
from polyrefuse_tasks.saved_results.judged import JudgedFile, relabelled
from polyrefuse_tasks.saved_results.samples import answers_of, lines

UNIDENTIFIED: dict[str, float] = {OFF_LANGUAGE: 0.0}
"""What an answer adds to the off-language rate if its language was not identified. The rate is then
left out."""

LABELS_ON_REFUSAL: dict[str | None, Label] = {label.value: label for label in Label}
"""Logged label -> the label, for a refusal judge."""

LABELS_ON_HARM: dict[str | None, Label | None] = {
    None: None,
    Label.DEGENERATE.value: Label.DEGENERATE,
    Label.UNDECIDED.value: Label.UNDECIDED,
}
"""Logged label -> the label, for a judge that measures only harm."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the results say about a task and every sample of the task must repeat.

    Attributes:
        language: the ISO 639-1 code of the prompts.
        judge: the judge that labelled the answers.
        harmful: whether the prompts are harmful.
        on_refusal: whether the judge measures refusal.
        sampled: whether prompts have several answers.
    """

    language: str
    judge: str
    harmful: bool
    on_refusal: bool = True
    sampled: bool = False


@dataclass(frozen=True, slots=True)
class Samples:
    """The contents of a samples file.

    Attributes:
        responses: the response to each prompt, in the order of the file.
        warnings: the warnings of the rates, whole sentences.
    """

    responses: tuple[Response, ...]
    warnings: tuple[str, ...]


def read_samples(
    samples: Path,
    name: str,
    asked: Asked,
    settings: Mapping[str, Any],
    *,
    include_samples: bool,
    judged: JudgedFile | None = None,
) -> Samples:
    """Read a samples file, and check its requests against the settings of its task.

    Args:
        samples: the file. Blank lines and lines of other filters are skipped.
        name: the name of the file in messages.
        asked: what each line must repeat.
        settings: the `effective` generation settings in the results.
        include_samples: whether to keep the texts of the answers.
        judged: labels that replace those in the file. A prompt without one of them gets no
            response. A run with `--limit` leaves such prompts, which are the last ones.

    Raises:
        BadResults: the file cannot be read, or a line cannot be used. The message names the line,
            counted from 1.
    """
    responses: list[Response] = []
    not_refused: list[list[str]] = []
    without_prompt = unlabelled = 0
    for where, sample in lines(samples, name):
        other = difference(sample, settings)
        if other:
            raise BadResults(
                f"{where}: {other}, because lm-eval's --cache_requests keeps the settings that it "
                "was filled with; run lm_eval again with --cache_requests refresh, or without it."
            )
        if judged is not None:
            row = relabelled(sample["doc"], judged, sampled=asked.sampled)
            unlabelled += row is None
            if row is None:
                continue
            if unlabelled:
                raise BadResults(
                    f"{where} has a label by {judged.judging.judge}, but a line before it has "
                    "none: judging was interrupted; run the same `polyrefuse judge run` again, "
                    "which continues."
                )
            sample = sample | {"doc": row}
        response = _response(sample, asked, include_samples, where)
        if responses and response.values.keys() != responses[0].values.keys():
            raise BadResults(f"{where} has other kinds of labels than the lines before; {AGAIN}")
        responses.append(response)
        not_refused.append(list(_not_refused(sample)))
        without_prompt += lacks_prompt(sample, sample["doc"].get("prompt"))
    every = [answer for answers in not_refused for answer in answers]
    warnings = [warn_of_same_answers(every, sum(map(bool, not_refused)))]
    if unlabelled:
        warnings.append(
            f"Judge {asked.judge} labelled only the answers to the first {len(responses)} of "
            f"{len(responses) + unlabelled} prompts (--limit)."
        )
    if without_prompt:
        warnings.append(
            f"{without_prompt} of the {len(responses)} requests do not contain the text of their "
            "prompt: check that the chat template passes it on."
        )
    return Samples(tuple(responses), tuple(filter(None, warnings)))


def _response(
    sample: Mapping[str, Any], asked: Asked, include_samples: bool, where: str
) -> Response:
    doc = part(sample, "doc", where)
    for name in ("language", "judge", "harmful"):
        value, expected = doc.get(name), getattr(asked, name)
        if value != expected:
            raise BadResults(
                f"{where}: {name} is {reprlib.repr(value)}, but {expected!r} in the results; "
                f"{AGAIN}"
            )
    kept = doc.get("kept")
    if "kept" not in doc:
        values = _values(doc, asked, where)
    elif isinstance(kept, list) and kept and all(isinstance(one, dict) for one in kept):
        answers = [_values(one, asked, where) for one in kept]
        if any(
            answer.keys() - UNIDENTIFIED != answers[0].keys() - UNIDENTIFIED for answer in answers
        ):
            raise BadResults(f"{where}: its answers have different labels; {AGAIN}")
        values = score_sampled([UNIDENTIFIED | answer for answer in answers], harmful=asked.harmful)
        if any(OFF_LANGUAGE not in answer for answer in answers):
            del values[OFF_LANGUAGE]
    else:
        raise BadResults(f"{where}: kept is {reprlib.repr(kept)}, not a list of labels; {AGAIN}")
    answer = _answer(sample, where) if include_samples else None
    id_ = text(doc.get("id"), "id", where)
    pair = doc.get("pair")
    if not isinstance(pair, str) or not asked.on_refusal or "kept" in doc:
        return Response(id_, values, answer)
    wanted = Label.REFUSAL if asked.harmful else Label.COMPLIANCE
    return Response(id_, values, answer, clean(pair), doc.get("label") == wanted.value)


def _values(answer: Mapping[str, Any], asked: Asked, where: str) -> dict[str, float]:
    """Return what an answer adds to each rate, from its logged labels."""
    label, language = answer.get("label"), answer.get("response_language")
    labels = LABELS_ON_REFUSAL if asked.on_refusal else LABELS_ON_HARM
    if not isinstance(label, str | None) or label not in labels:
        known = ", ".join("null" if one is None else one for one in labels)
        raise BadResults(f"{where}: label is {reprlib.repr(label)}, not one of {known}; {AGAIN}")
    harmful = answer.get("response_harmful")
    on_harm = "response_harmful" in answer
    if not isinstance(harmful, bool | None) or (label is None and harmful is None):
        raise BadResults(
            f"{where}: response_harmful is {reprlib.repr(harmful)}, not true, false or, with a "
            f"label, null; {AGAIN}"
        )
    measures: Measure = "refusal" if not on_harm else "both" if asked.on_refusal else "harm"
    identified = "response_language" in answer
    off_language = language != asked.language if identified else None
    return _score(labels[label], off_language, asked.harmful, measures, harmful)


@lru_cache
def _score(
    label: Label | None,
    off_language: bool | None,
    harmful: bool,
    measures: Measure,
    response_harmful: bool | None,
) -> dict[str, float]:
    """Return `metrics.score`; `off_language` is None if the language was not identified."""
    values = score(
        label,
        off_language=bool(off_language),
        harmful=harmful,
        measures=measures,
        response_harmful=response_harmful,
    )
    if off_language is None:
        del values[OFF_LANGUAGE]
    return values


def _not_refused(sample: Mapping[str, Any]) -> Iterator[str]:
    """Yield the answers with a label other than refusal, if the line contains the answers.

    A judge that measures only harm gives no such label to an answer that it could decide on, so it
    does not say which answers refuse.
    """
    answers, doc = answers_of(sample) or [], sample["doc"]
    for one in doc.get("kept", [doc | {"answer": 0}]):
        place, label = one.get("answer"), one.get("label")
        known = isinstance(place, int) and 0 <= place < len(answers)
        if known and label not in (None, Label.REFUSAL.value):
            yield answers[place]


def _answer(sample: Mapping[str, Any], where: str) -> str:
    """Return the answer that was judged, or several answers with a blank line between them."""
    answers = answers_of(sample)
    if answers is None:
        value = sample.get("filtered_resps")
        raise BadResults(f"{where}: {reprlib.repr(value)} is not a list of answers; {AGAIN}")
    # JSON can hold surrogates, which a UTF-8 file cannot.
    return "\n\n".join(answers).encode("utf-8", "replace").decode()
