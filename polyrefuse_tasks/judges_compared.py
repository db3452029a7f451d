"""Several judges on the same saved answers: how far they agree, and where they do not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

from polyrefuse_shared.errors import UserError
from polyrefuse_tasks.judges.kappa import Kappa, cohens_kappa
from polyrefuse_tasks.judges.labels import Judgement, Label
from polyrefuse_tasks.rejudging import read_answers
from polyrefuse_tasks.saved_results.folders import find_results
from polyrefuse_tasks.saved_results.judged import judged_beside, read_judged
from polyrefuse_tasks.saved_results.tasks import SavedTask, saved_tasks

On = Literal["refusal", "harm"]


class NothingToCompare(UserError):
    """No two judges that measure the same on the same answers."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One answer on which two judges say different things."""

    task: str
    date: str
    id: str
    answer: int
    first: str
    second: str


@dataclass(frozen=True)
class Compared:
    """Two judges on what both measure.

    Attributes:
        on: refusal, or harm.
        first: name of a judge.
        second: name of the other.
        languages: by language of the prompts, sorted, on the answers that both decided.
        pooled: on all of them.
        undecided: answers on which one or both did not decide; not in the figures above.
        disagreements: in the order of the samples.
    """

    on: On
    first: str
    second: str
    languages: dict[str, Kappa]
    pooled: Kappa
    undecided: int
    disagreements: tuple[Disagreement, ...]


Place = tuple[str, str, str, int]
"""Task, date, id of the row and place of the answer."""


def compare_judges(paths: Sequence[Path]) -> list[Compared]:
    """Every two judges that measure the same, on the answers that both judged.

    Args:
        paths: results files, or folders of which every subfolder is read.

    Raises:
        NothingToCompare: there are no two such judges.
        BadResults: a file cannot be used.
    """
    said: dict[str, dict[Place, Judgement]] = defaultdict(dict)
    languages: dict[Place, str] = {}
    problems: list[str] = []
    for file in find_results(paths, problems):
        for task in saved_tasks(file):
            for judge, place, language, judgement in _judgements(task, file.beside):
                languages[place] = language
                said[judge][place] = judgement
    verdicts: dict[On, dict[str, dict[Place, bool | None]]] = {
        "refusal": {
            judge: {place: _refuses(one) for place, one in judgements.items()}
            for judge, judgements in said.items()
            if any(one.label in (Label.REFUSAL, Label.COMPLIANCE) for one in judgements.values())
        },
        "harm": {
            judge: {place: _harms(one) for place, one in judgements.items()}
            for judge, judgements in said.items()
            if any(one.harmful is not None for one in judgements.values())
        },
    }
    compared = [
        _compare(on, (a, judges[a]), (b, judges[b]), languages)
        for on, judges in verdicts.items()
        for a, b in combinations(sorted(judges), 2)
        if judges[a].keys() & judges[b].keys()
    ]
    if not compared:
        raise NothingToCompare(
            " ".join(problems)
            or f"{', '.join(map(str, paths))}: no answers with the labels of two judges; label "
            "them with `polyrefuse judge run RESULTS --judge NAME`."
        )
    return compared


def _compare(
    on: On,
    first: tuple[str, dict[Place, bool | None]],
    second: tuple[str, dict[Place, bool | None]],
    languages: dict[Place, str],
) -> Compared:
    (first_name, ours), (second_name, theirs) = first, second
    words = ("harmless", "harmful") if on == "harm" else ("no refusal", "refusal")
    counts: dict[str, Counter[tuple[Hashable, Hashable]]] = defaultdict(Counter)
    disagreements = []
    undecided = 0
    for place, mine in ours.items():
        if place not in theirs:
            continue
        other = theirs[place]
        if mine is None or other is None:
            undecided += 1
            continue
        counts[languages[place]][mine, other] += 1
        if mine != other:
            disagreements.append(Disagreement(*place, words[mine], words[other]))
    pooled: Counter[tuple[Hashable, Hashable]] = sum(counts.values(), Counter())
    return Compared(
        on=on,
        first=first_name,
        second=second_name,
        languages={name: cohens_kappa(counts[name]) for name in sorted(counts)},
        pooled=cohens_kappa(pooled) if pooled else Kappa(0, 0.0, None, None, None),
        undecided=undecided,
        disagreements=tuple(disagreements),
    )


def _judgements(
    task: SavedTask, beside: frozenset[str]
) -> Iterator[tuple[str, Place, str, Judgement]]:
    """Judge, place, language and judgement of a task's answers: newer labels take older's place."""
    languages: dict[tuple[str, int], str] = {}
    for answer in read_answers(task):
        languages[answer.key] = answer.language
        if task.judge is not None and answer.judgement is not None:
            place = (task.name, task.date, *answer.key)
            yield task.judge, place, answer.language, answer.judgement
    for name in judged_beside(beside, task.name, task.date):
        judged = read_judged(task.samples.with_name(name), str(Path(task.shown).with_name(name)))
        if judged is None or judged.judging.task != task.name:
            continue
        for key, one in judged.answers.items():
            if key in languages:
                place = (task.name, task.date, *key)
                yield judged.judging.judge, place, languages[key], one.judgement


def _refuses(judgement: Judgement) -> bool | None:
    """Whether an answer refuses; None where the judge did not decide."""
    return None if judgement.label is Label.UNDECIDED else judgement.label is Label.REFUSAL


def _harms(judgement: Judgement) -> bool | None:
    """Whether an answer does harm; None where the judge did not decide."""
    return False if judgement.label is Label.DEGENERATE else judgement.harmful
