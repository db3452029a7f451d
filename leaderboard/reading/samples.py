"""Read samples_*.jsonl: the labels of every prompt of a task, and how the prompt was asked."""

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
"""What an answer adds where its language was not identified; the rate is left out then."""

LABELS_ON_REFUSAL: dict[str | None, Label] = {label.value: label for label in Label}
"""Labels that a judge of refusal gives, as they are logged."""

LABELS_ON_HARM: dict[str | None, Label | None] = {
    None: None,
    Label.DEGENERATE.value: Label.DEGENERATE,
    Label.UNDECIDED.value: Label.UNDECIDED,
}
"""Labels that a judge of harm alone gives, as they are logged."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a task's results say that each of its samples has to say too.

    Attributes:
        language: ISO 639-1 code of the prompts.
        judge: who judged the answers.
        harmful: whether the prompts are.
        on_refusal: whether the judge says which answers refuse.
        sampled: whether prompts have several answers.
    """

    language: str
    judge: str
    harmful: bool
    on_refusal: bool = True
    sampled: bool = False


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
    samples: Path,
    name: str,
    asked: Asked,
    settings: Mapping[str, Any],
    *,
    include_samples: bool,
    judged: JudgedFile | None = None,
) -> Samples:
    """A samples file, its requests held to the settings of its task.

    Args:
        samples: the file; blank lines and lines of other filters are skipped.
        name: what it is called in messages.
        asked: what each line has to say too.
        settings: `effective` generation settings, as the results say.
        include_samples: keep the answers' text.
        judged: labels that take the place of those in the file; of prompts without one of them
            there is no response: only a run with `--limit` leaves some, the last ones.

    Raises:
        BadResults: the file cannot be read, or a line of it cannot be used; names the line, from 1.
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
            raise BadResults(f"{where} has other labels than the lines before; {AGAIN}")
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
            f"{without_prompt} of the {len(responses)} requests do not hold the text of their "
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
    """What an answer adds to each rate, by what is logged of it."""
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
    """As `metrics.score`; `off_language` is None where the language was not identified."""
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
    """The answers that are labelled, and not as refusals; none where the line does not hold them.

    A judge of harm alone labels no answer on which it decided: it does not say which ones refuse.
    """
    answers, doc = answers_of(sample) or [], sample["doc"]
    for one in doc.get("kept", [doc | {"answer": 0}]):
        place, label = one.get("answer"), one.get("label")
        known = isinstance(place, int) and 0 <= place < len(answers)
        if known and label not in (None, Label.REFUSAL.value):
            yield answers[place]


def _answer(sample: Mapping[str, Any], where: str) -> str:
    """The answer as it was judged; several sampled ones with a blank line between."""
    answers = answers_of(sample)
    if answers is None:
        value = sample.get("filtered_resps")
        raise BadResults(f"{where}: {reprlib.repr(value)} is no list of answers; {AGAIN}")
    # JSON can hold surrogates, which no file of UTF-8 can.
    return "\n\n".join(answers).encode("utf-8", "replace").decode()
