"""Compare several judges on the same saved answers: how often they agree, and where they differ."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.lm_eval_internals import metric_key
from polyrefuse_tasks.judges.agreement import On
from polyrefuse_tasks.judges.contract import measures_harm, measures_refusal
from polyrefuse_tasks.judges.kappa import Kappa, cohens_kappa
from polyrefuse_tasks.judges.labels import Judgement, Label
from polyrefuse_tasks.metrics import METRICS
from polyrefuse_tasks.rejudging import read_answers
from polyrefuse_tasks.saved_results.documents import part, printable
from polyrefuse_tasks.saved_results.folders import ResultsFile, find_results
from polyrefuse_tasks.saved_results.judged import judged_beside, read_judged
from polyrefuse_tasks.saved_results.tasks import SavedTask, read_results, saved_tasks


class NothingToCompare(UserError):
    """There are no two judges that measure the same thing on the same answers."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One answer on which two judges give different verdicts."""

    task: str
    date: str
    id: str
    answer: int
    first: str
    second: str


@dataclass(frozen=True)
class Compared:
    """The comparison of two judges on one run's answers to one dataset.

    Attributes:
        model: the model that answered, as the results name it.
        condition: what was done to the model; None if the results do not say.
        date: the date of the run, as in the names of its files.
        tasks: the name of the dataset's tasks, without the language.
        on: refusal or harm.
        first: the name of one judge.
        second: the name of the other judge.
        languages: the agreement by language of the prompts, sorted, on answers that both decided.
        pooled: the agreement on all of these answers.
        undecided: the number of answers that one or both did not decide, not counted above.
        disagreements: the answers on which they differ, in the order of the samples.
    """

    model: str
    condition: str | None
    date: str
    tasks: str
    on: On
    first: str
    second: str
    languages: dict[str, Kappa]
    pooled: Kappa
    undecided: int
    disagreements: tuple[Disagreement, ...]

    @property
    def run(self) -> str:
        """The model, condition and date, which identify the run in a line for people."""
        return " ".join(filter(None, (self.model, self.condition, self.date)))


Place = tuple[str, str, str, int]
"""Task, date, id of the row and place of the answer."""


@dataclass
class _Answers:
    """One run's answers to one dataset: the language of each, and the judgement of each judge."""

    languages: dict[Place, str] = field(default_factory=dict)
    said: dict[str, dict[Place, Judgement]] = field(default_factory=lambda: defaultdict(dict))


def compare_judges(paths: Sequence[Path], on: On | None = None) -> list[Compared]:
    """Compare every two judges that measure the same thing, on the answers that both judged.

    Answers of different runs or datasets are not pooled, because kappa depends on how often a
    verdict is given at all, and this differs between them.

    Args:
        paths: results files, or folders, whose subfolders are read as well.
        on: refusal or harm; None for both.

    Raises:
        NothingToCompare: there are no two such judges.
        BadResults: a file cannot be used.
    """
    problems: list[str] = []
    compared = [
        one
        for file in find_results(paths, problems)
        for one in _compare_run(file, get_args(On) if on is None else (on,))
    ]
    if not compared:
        raise NothingToCompare(
            " ".join(problems)
            or f"{', '.join(map(str, paths))}: no answers with the labels of two judges that "
            f"measure {on or 'the same thing'}; label them with `polyrefuse judge run RESULTS "
            "--judge NAME`."
        )
    return compared


def _compare_run(file: ResultsFile, asked: Sequence[On]) -> Iterator[Compared]:
    """Compare every two judges of a run that measure the same thing, for each dataset."""
    document = read_results(file)
    answers: dict[str, _Answers] = defaultdict(_Answers)
    measured: dict[str, set[On]] = defaultdict(set)
    for task in saved_tasks(file, document):
        # A run of `mcd_` tasks has several answers to the same dataset's prompts.
        group = answers[task.name.removesuffix(f"_{task.language}")]
        outcome = part(part(document, "results", file.name), task.name, f"{file.name}, results")
        _read(task, outcome, file.beside, group, measured)
    for tasks, group in sorted(answers.items()):
        for on in asked:
            judges = sorted(judge for judge in group.said if on in measured[judge])
            for first, second in combinations(judges, 2):
                if group.said[first].keys() & group.said[second].keys():
                    yield _compare(_run(file, document), tasks, on, (first, second), group)


def _run(file: ResultsFile, document: Mapping[str, Any]) -> tuple[str, str | None, str]:
    """Return the model, condition and date of a run."""
    config = document.get("config")
    config = config if isinstance(config, dict) else {}
    model = config.get("model_name") or document.get("model_name")
    condition = config.get("condition")
    return (
        printable(str(model or file.path.absolute().parent.name)),
        None if condition is None else printable(str(condition)),
        file.date_id,
    )


def _compare(
    run: tuple[str, str | None, str],
    tasks: str,
    on: On,
    judges: tuple[str, str],
    answers: _Answers,
) -> Compared:
    decided = _harms if on == "harm" else _refuses
    words = ("harmless", "harmful") if on == "harm" else ("no refusal", "refusal")
    counts: dict[str, Counter[tuple[Hashable, Hashable]]] = defaultdict(Counter)
    disagreements = []
    undecided = 0
    ours, theirs = (answers.said[judge] for judge in judges)
    for place, language in answers.languages.items():
        if place not in ours or place not in theirs:
            continue
        mine, other = decided(ours[place]), decided(theirs[place])
        # A language is shown even if nothing in it was decided.
        counted = counts[language]
        if mine is None or other is None:
            undecided += 1
            continue
        counted[mine, other] += 1
        if mine != other:
            disagreements.append(Disagreement(*place, words[mine], words[other]))
    model, condition, date = run
    first, second = judges
    return Compared(
        model=model,
        condition=condition,
        date=date,
        tasks=tasks,
        on=on,
        first=first,
        second=second,
        languages={name: cohens_kappa(counts[name]) for name in sorted(counts)},
        pooled=cohens_kappa(sum(counts.values(), Counter())),
        undecided=undecided,
        disagreements=tuple(disagreements),
    )


def _read(
    task: SavedTask,
    outcome: Mapping[str, Any],
    beside: frozenset[str],
    into: _Answers,
    measured: dict[str, set[On]],
) -> None:
    """Add the judgements of a task's answers, and what their judges measure.

    Newer labels replace older ones.

    Args:
        task: the task.
        outcome: the task's rates.
        beside: the names of the files in the folder.
        into: the answers to which the judgements are added.
        measured: for each judge, what it measures.
    """
    known: set[tuple[str, int]] = set()
    for answer in read_answers(task):
        known.add(answer.key)
        place = (task.name, task.date, *answer.key)
        into.languages[place] = answer.language
        if task.judge is not None and answer.judgement is not None:
            into.said[task.judge][place] = answer.judgement
            measured[task.judge] |= _shown_by(answer.judgement)
    if task.judge is not None:
        # The rates show what a judge measures, even if it decided nothing.
        measured[task.judge] |= {
            metric.measured_by
            for metric in METRICS.values()
            if metric.measured_by is not None and metric_key(metric.name) in outcome
        }
    for name in judged_beside(beside, task.name, task.date):
        judged = read_judged(task.samples.with_name(name), str(Path(task.shown).with_name(name)))
        if judged is None or judged.judging.task != task.name:
            continue
        judge, measures = judged.judging.judge, judged.judging.measures
        if measures_refusal(measures):
            measured[judge].add("refusal")
        if measures_harm(measures):
            measured[judge].add("harm")
        for key, one in judged.answers.items():
            if key in known:
                place = (task.name, task.date, *key)
                into.said[judge][place] = one.judgement


def _shown_by(judgement: Judgement) -> set[On]:
    """Return what a judge must measure to give this judgement."""
    shown: set[On] = set()
    if judgement.label in (Label.REFUSAL, Label.COMPLIANCE):
        shown.add("refusal")
    if judgement.harmful is not None:
        shown.add("harm")
    return shown


def _refuses(judgement: Judgement) -> bool | None:
    """Return whether an answer refuses; None if the judge did not decide."""
    if judgement.label is None or judgement.label is Label.UNDECIDED:
        return None
    return judgement.label is Label.REFUSAL


def _harms(judgement: Judgement) -> bool | None:
    """Return whether an answer does harm; None if the judge did not decide."""
    return False if judgement.label is Label.DEGENERATE else judgement.harmful
