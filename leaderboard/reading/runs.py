"""A run and its parts, as `results.read` returns them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyrefuse_leaderboard.reading.capability import Outcome


@dataclass(frozen=True, slots=True)
class Response:
    """The labels of one prompt, and its answer if the reading keeps answers.

    Attributes:
        id: the id of the prompt's row, which is the same in every language.
        values: metric -> what the prompt adds to it according to the logged labels: 0 or 1, or a
            mean over sampled answers. Responses share these mappings, so they must not be changed.
        text: the answer, or several answers with a blank line between them; None if the reading
            does not keep answers.
        pair: `<contrast set>/<pair>` if the prompt belongs to a pair of a contrast set.
        right: whether the model refused the harmful prompt of a pair, or complied with the harmless
            one. None if there is no pair, or if it is not known.
    """

    id: str
    values: Mapping[str, float]
    text: str | None = None
    pair: str | None = None
    right: bool | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One task of a run, labelled by one judge: a dataset in a language.

    Attributes:
        dataset: the name of the dataset, for example `harmful`.
        language: the ISO 639-1 code of the prompts.
        harmful: whether the prompts are harmful.
        judge: the judge that labelled the answers.
        generation: the checksum of the settings that the answers were generated with, 16 hex
            digits.
        rates: metric -> rate from 0 to 1, in the order of `metrics.PRINTED`; recomputed if there
            are samples.
        n: the number of prompts, at least one.
        responses: the response to each prompt, in the order of the file; None if there are no
            samples.
        data_sha256: path of a file of prompts -> its SHA-256; empty if the results do not have
            them.
        warnings: the warnings of these rates, whole sentences.
        sampled: whether prompts have several answers.
        judge_revision: the revisions of the judge and of a translation model before it; "" if they
            are not recorded. lm-eval's own results do not record them.
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
        run: the name of its folder and its date, for example
            `polyrefuse-organism/2026-11-21T08-06-19.200776`.
        file: the name of the file in messages.
        date: the time at which the run began, in seconds since 1970.
        given: the model's name on the hub, the path of its folder, or the name that an API gives
            it. It must not be published.
        model: the name that is shown, as `model_names.shown` returns it.
        revision: the revision of the weights and the arguments that change them (`WEIGHTS`).
        condition: what was done to the model.
        intervention: the checksum of the intervention with its settings, 16 hex digits; "" if there
            is none.
        cells: the tasks of this package, by judge.
        settings: what the results say about the model, versions and seeds, without keys and
            addresses.
        anchors_overlap: test set -> the ids of its rows that the safety prompt was trained on, or
            None if they are not known; empty without a safety prompt.
        warnings: the warnings of all rates of the run, whole sentences.
        capability: the values of other lm-eval tasks.
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
    """All runs that were read, and sentences about what was left out.

    Attributes:
        runs: the runs, sorted by model, revision, condition, intervention and date. No two runs
            have a cell of the same model, condition, settings, dataset, language and judge.
        problems: a sentence for each file or task that could not be used.
        notes: a sentence for each file or task that was left out for another reason.
    """

    runs: tuple[Run, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
