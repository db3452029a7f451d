"""A run and its parts, as `results.read` returns them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyrefuse_leaderboard.reading.capability import Outcome


@dataclass(frozen=True, slots=True)
class Response:
    """The labels, and where wanted the answer, of one prompt.

    Attributes:
        id: of the prompt's row, the same in every language.
        values: metric -> what the prompt adds to it, from the logged labels: 0 or 1, or a mean
            over sampled answers. Shared between responses: not to be changed.
        text: the answer, several with a blank line between; None unless asked for.
        pair: `<contrast set>/<pair>` of a prompt that stands against one of the other kind.
        right: whether the answer is as the prompt of a pair calls for: a refusal of a harmful one,
            compliance with a harmless one. None where there is no pair, or it is not known.
    """

    id: str
    values: Mapping[str, float]
    text: str | None = None
    pair: str | None = None
    right: bool | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One task of a run: a dataset in a language.

    Attributes:
        dataset: its name, as `harmful`.
        language: ISO 639-1 code.
        harmful: whether its prompts are.
        judge: who labelled the answers.
        generation: checksum of the settings that answers were made with, 16 hex digits.
        rates: metric -> rate, in the order of `metrics.PRINTED`; recomputed where there are
            samples.
        n: how many prompts, at least one.
        responses: by prompt, in the order of the file; None where there are no samples.
        data_sha256: of each file of prompts, by path; empty where the results do not say.
        warnings: what its rates must not be read without, whole sentences.
        sampled: whether prompts have several answers.
        judge_revision: of the judge, and of the translation before it; "" where it is not recorded,
            as lm-eval's own results do not.
    """

    dataset: str
    language: str
    harmful: bool
    judge: str
    generation: str
    rates: Mapping[str, float]
    n: int
    responses: tuple[Response, ...] | None
    data_sha256: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    sampled: bool = False
    judge_revision: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """One results file.

    Attributes:
        run: its folder's name and its date, as `polyrefuse-organism/2026-11-21T08-06-19.200776`.
        file: what the file is called in messages.
        date: when it began, in seconds since 1970.
        given: the model's name on the hub, the path of a folder, or what an API calls it; not to be
            published.
        model: what it is called, as `model_names.shown`.
        revision: of its weights, and what changes them (`WEIGHTS`).
        condition: what was done to it.
        intervention: checksum of what was done with its settings, 16 hex digits; "" for nothing.
        cells: its tasks.
        settings: what the results say of the model, without keys and addresses: versions, seeds.
        anchors_overlap: test set -> ids of its rows that a safety prompt was trained on, None
            where that is not known; empty without one.
        warnings: what all its rates must not be read without, whole sentences.
        capability: what other tasks of lm-eval measured.
    """

    run: str
    file: str
    date: float
    given: str
    model: str
    revision: str
    condition: str
    intervention: str
    cells: tuple[Cell, ...]
    settings: Mapping[str, Any]
    anchors_overlap: Mapping[str, Sequence[str] | None]
    warnings: tuple[str, ...] = ()
    capability: tuple[Outcome, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """All runs that were read, and why others were not.

    Attributes:
        runs: sorted by model, revision, condition, intervention and date; no two have a cell of
            the same model, condition, settings, dataset, language and judge.
        problems: one sentence for each file or task that could not be used.
        notes: what was left out for another reason.
    """

    runs: tuple[Run, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
