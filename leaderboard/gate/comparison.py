"""Compare results with a baseline: what got worse, and what can no longer be compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from polyrefuse_leaderboard import warnings
from polyrefuse_leaderboard.gate.baseline import Baseline, Score, scores
from polyrefuse_leaderboard.gate.thresholds import ALPHA, TOLERANCE, require
from polyrefuse_leaderboard.statistics import (
    fisher_worse,
    holm,
    mcnemar_worse,
    newcombe_paired,
    newcombe_unpaired,
)

from polyrefuse_shared.errors import UserError

if TYPE_CHECKING:
    from polyrefuse_leaderboard.reading.runs import Reading, Run


class BadChoice(UserError):
    """There are no results, or results of several models or conditions where a gate needs one."""


@dataclass(frozen=True)
class Change:
    """The change of a rate from the baseline; a higher rate is worse.

    Attributes:
        test: "mcnemar" for prompts paired by id, "fisher" for unpaired prompts; both are exact and
            one-sided.
        hits_before: the number of compared prompts that the metric counted in the baseline.
        n_before: the number of compared prompts in the baseline.
        hits: the number of compared prompts that the metric counts now.
        n: the number of compared prompts now; the same prompts if they are paired.
        difference: the share now minus the share before.
        low, high: the 95% interval of the difference (Newcombe 1998).
        p: the probability of this rise or a larger one if nothing got worse.
        worse: the number of prompts counted now and not before; None if unpaired.
        better: the number of prompts counted before and not now; None if unpaired.
    """

    test: Literal["mcnemar", "fisher"]
    hits_before: int
    n_before: int
    hits: int
    n: int
    difference: float
    low: float
    high: float
    p: float
    worse: int | None = None
    better: int | None = None


@dataclass(frozen=True)
class Comparison:
    """One cell of the baseline, compared with the results.

    Attributes:
        before: the score of the baseline.
        now: the score of the results; None if they have none by the same judge.
        change: the change from `before` to `now`; None without `now`.
        adjusted: the p-value after Holm's correction over all tests of the gate.
        failures: a sentence for each reason why it fails; it passes if there are none.
        notes: a sentence for each thing that a reader should know.
    """

    before: Score
    now: Score | None
    change: Change | None
    adjusted: float | None
    failures: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """The result of a gate.

    Attributes:
        baseline: the baseline that the results were compared with.
        model: the model of the results.
        condition: the condition of the model.
        runs: the runs of the results.
        alpha: the family-wise error rate, which is the level of the whole gate.
        tolerance: the rise of an observed rate that is tolerated.
        comparisons: one for each cell of the baseline, in its order.
        problems: a sentence for each result file that could not be used. Any of them fails the
            gate, because the compared results may be older or fewer than the ones you meant.
        notes: a sentence for each thing that a reader should know.
    """

    baseline: Baseline
    model: str
    condition: str
    runs: tuple[str, ...]
    alpha: float
    tolerance: float
    comparisons: tuple[Comparison, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def failed(self) -> tuple[Comparison, ...]:
        """The comparisons that fail."""
        return tuple(comparison for comparison in self.comparisons if comparison.failures)

    @property
    def passed(self) -> bool:
        """Whether no comparison fails and every file could be used."""
        return not self.failed and not self.problems


def choose_runs(
    reading: Reading, *, model: str | None = None, condition: str | None = None
) -> tuple[Run, ...]:
    """Choose the runs of one model in one condition.

    Args:
        reading: all results.
        model: the name of the model, if there are several.
        condition: the name of the condition, if there are several.

    Raises:
        BadChoice: no run has these names, or several models or conditions are left; the sentence
            lists the choices.
    """
    chosen = [
        run
        for run in reading.runs
        if model in (None, run.model) and condition in (None, run.condition)
    ]
    if not chosen:
        asked = [
            f"{option} {value}"
            for option, value in (("--model", model), ("--condition", condition))
            if value is not None
        ]
        raise BadChoice(
            f"the results have no runs with {' and '.join(asked)}; "
            f"choose one of: {_choices(reading.runs)}."
        )
    if len({(run.model, run.condition) for run in chosen}) > 1:
        raise BadChoice(
            "the results have several models or conditions; choose one with --model and "
            f"--condition: {_choices(chosen)}."
        )
    paths = {(run.revision, run.intervention): run.file for run in chosen}
    if len(paths) > 1:
        raise BadChoice(
            f"the results of {chosen[0].model}, {chosen[0].condition}, come from several revisions "
            f"or interventions; give only one of these files: {'; '.join(sorted(paths.values()))}."
        )
    return tuple(chosen)


def check(
    baseline: Baseline,
    reading: Reading,
    *,
    model: str | None = None,
    condition: str | None = None,
    alpha: float = ALPHA,
    tolerance: float = TOLERANCE,
) -> Outcome:
    """Compare results with a baseline.

    Args:
        baseline: the baseline, read from its file.
        reading: the results.
        model: as in `choose_runs`.
        condition: as in `choose_runs`.
        alpha: as in `compare`.
        tolerance: as in `compare`.

    Raises:
        BadChoice: as in `choose_runs`.
        BadThreshold: as in `thresholds.require`.
        BadBaseline: as in `baseline.scores`.
    """
    runs = choose_runs(reading, model=model, condition=condition)
    now = scores(runs)
    comparisons = compare(baseline.cells, now, alpha=alpha, tolerance=tolerance)
    return Outcome(
        baseline=baseline,
        model=runs[0].model,
        condition=runs[0].condition,
        runs=tuple(run.run for run in runs),
        alpha=alpha,
        tolerance=tolerance,
        comparisons=comparisons,
        problems=reading.problems,
        notes=(
            *reading.notes,
            *(warning.sentence for warning in warnings.collect(replace(reading, runs=runs), ())),
            *_unused(comparisons, now),
        ),
    )


def compare(
    before: Sequence[Score],
    now: Sequence[Score],
    *,
    alpha: float = ALPHA,
    tolerance: float = TOLERANCE,
) -> tuple[Comparison, ...]:
    """Compare every score of a baseline with the same score of the results.

    A comparison fails if the observed rate rose by more than the tolerance AND the exact one-sided
    p-value that it rose at all, after Holm's correction over all tests, is below alpha. It also
    fails if the two scores cannot be compared: the results have none, or they have another judge,
    fewer prompts, other or unknown prompts, or other generation settings.

    Args:
        before: the scores of the baseline.
        now: the scores of the results, of one model in one condition.
        alpha: the family-wise error rate: the highest probability of any failure for "got worse"
            although nothing did.
        tolerance: as in `thresholds.require`.

    Raises:
        BadThreshold: as in `thresholds.require`.
    """
    require(alpha, tolerance)
    places: defaultdict[tuple[str, str, str], list[Score]] = defaultdict(list)
    for score in now:
        places[score.place].append(score)
    comparisons = [_compare(score, places[score.place], now, tolerance) for score in before]
    p_values = [comparison.change.p for comparison in comparisons if comparison.change]
    adjusted = iter(holm(p_values).tolist())
    return tuple(
        _decide(comparison, comparison.change, len(p_values), next(adjusted), alpha, tolerance)
        if comparison.change
        else comparison
        for comparison in comparisons
    )


def _compare(
    before: Score, candidates: Sequence[Score], now: Sequence[Score], tolerance: float
) -> Comparison:
    """Compare one score, without what depends on the other comparisons."""
    same = [score for score in candidates if score.judge == before.judge]
    if not same:
        failure = _absence(before, candidates, now)
        return Comparison(before, None, None, None, (failure,), ())
    # A dataset may have greedy and sampled answers. Those made with the baseline's settings are
    # compared.
    score = max(same, key=lambda score: (score.generation == before.generation, score.n))
    change, notes = _change(before, score)
    notes += _beside(before, score, tolerance)
    return Comparison(before, score, change, None, tuple(_mismatches(before, score)), tuple(notes))


def _absence(before: Score, candidates: Sequence[Score], now: Sequence[Score]) -> str:
    if candidates:
        judges = ", ".join(sorted({score.judge for score in candidates}))
        return f"the judge is {judges}, and {before.judge} in the baseline"
    languages = {score.language for score in now if score.dataset == before.dataset}
    if not languages:
        return f"the results have no {before.dataset}"
    if before.language not in languages:
        return f"the results have no {before.dataset} in {before.language}"
    return f"the results have no {before.metric} of {before.dataset} in {before.language}"


def _beside(before: Score, now: Score, tolerance: float) -> Iterable[str]:
    """Note the rates of answers that no metric counts, if they rose or are missing."""
    for name, was in before.beside.items():
        share = now.beside.get(name)
        if share is None:
            yield f"the results have no {name}"
        elif share - was > tolerance:
            yield (
                f"{name} rose from {_percent(was)} to {_percent(share)}, and {before.metric} does "
                "not count those answers"
            )


def _mismatches(before: Score, now: Score) -> Iterable[str]:
    if now.n < before.n:
        yield f"the results have {now.n} prompts, and the baseline has {before.n}"
    elif before.labels and now.labels and before.labels.keys() - now.labels.keys():
        missing = len(before.labels.keys() - now.labels.keys())
        yield f"the prompts are not those of the baseline: {missing} of its {before.n} are missing"
    if before.data_sha256 and not now.data_sha256:
        yield "the results have no checksums of the data, so the prompts are not known"
    elif before.data_sha256 and now.data_sha256 != before.data_sha256:
        yield "the prompts are not those of the baseline: the checksums of the data differ"
    if before.judge_revision and now.judge_revision not in ("", before.judge_revision):
        yield (
            f"the revision of judge {now.judge} is {now.judge_revision}, and "
            f"{before.judge_revision} in the baseline"
        )
    if now.generation != before.generation:
        yield (
            f"the generation settings differ: their checksum is {now.generation}, and "
            f"{before.generation} in the baseline"
        )


def _change(before: Score, now: Score) -> tuple[Change, list[str]]:
    """Return the change between two scores, and notes on how they were compared."""
    unpaired = "not paired, Fisher's exact test: "
    for labels, where in ((before.labels, "baseline"), (now.labels, "results")):
        if labels is None:
            return _fisher(before, now), [f"{unpaired}no labels by prompt id in the {where}"]
    assert before.labels is not None and now.labels is not None
    ids = before.labels.keys() & now.labels.keys()
    if len(ids) < min(len(before.labels), len(now.labels)):
        note = f"{unpaired}the results have only {len(ids)} of the baseline's {before.n} prompt ids"
        return _fisher(before, now), [note]
    more = now.n - len(ids)
    notes = [f"{more} prompts that the baseline does not have are left out"] if more else []
    return _mcnemar([(now.labels[each], before.labels[each]) for each in ids]), notes


def _mcnemar(pairs: Sequence[tuple[int, int]]) -> Change:
    """Compute the change by McNemar's test from pairs of labels: now and before."""
    both, worse, better = (pairs.count(kind) for kind in ((1, 1), (1, 0), (0, 1)))
    n = len(pairs)
    difference, low, high = newcombe_paired(both, worse, better, n - both - worse - better)
    return Change(
        test="mcnemar",
        hits_before=both + better,
        n_before=n,
        hits=both + worse,
        n=n,
        difference=difference,
        low=low,
        high=high,
        p=float(mcnemar_worse(worse, better)),
        worse=worse,
        better=better,
    )


def _fisher(before: Score, now: Score) -> Change:
    counts = now.hits, now.n, before.hits, before.n
    difference, low, high = newcombe_unpaired(*counts)
    return Change(
        test="fisher",
        hits_before=before.hits,
        n_before=before.n,
        hits=now.hits,
        n=now.n,
        difference=difference,
        low=low,
        high=high,
        p=fisher_worse(*counts),
    )


def _decide(
    comparison: Comparison,
    change: Change,
    tests: int,
    adjusted: float,
    alpha: float,
    tolerance: float,
) -> Comparison:
    """Decide a comparison by its p-value after Holm's correction over all tests."""
    failures, notes = comparison.failures, comparison.notes
    if change.difference > tolerance and adjusted < alpha:
        was, is_now = change.hits_before / change.n_before, change.hits / change.n
        failures = (
            f"{comparison.before.metric} rose from {_percent(was)} to {_percent(is_now)}, "
            f"p {adjusted:.2g} after Holm's correction",
            *failures,
        )
    least = _least_p(change) * tests
    if 1 - change.hits_before / change.n_before > tolerance and least >= alpha:
        notes = (
            *notes,
            "there are too few prompts for this comparison to fail by itself: if all "
            f"{change.n} were counted, p would be {min(least, 1.0):.2g} after Holm's correction",
        )
    return replace(comparison, adjusted=adjusted, failures=failures, notes=notes)


def _least_p(change: Change) -> float:
    """Return the smallest possible p-value, with every prompt counted now."""
    if change.test == "mcnemar":
        return float(mcnemar_worse(change.n - change.hits_before, 0))
    return fisher_worse(change.n, change.n, change.hits_before, change.n_before)


def _unused(comparisons: Sequence[Comparison], now: Sequence[Score]) -> Iterable[str]:
    """Note the scores of the results that no comparison uses."""
    known = {(*each.before.place, each.before.judge) for each in comparisons}
    taken = {id(each.now) for each in comparisons}
    left: defaultdict[tuple[str, str, str, str], set[str]] = defaultdict(set)
    for score in now:
        if id(score) not in taken:
            other = (*score.place, score.judge) in known
            why = "has other generation settings" if other else "is not in the baseline"
            left[why, score.dataset, score.metric, score.judge].add(score.language)
    for (why, dataset, metric, judge), languages in sorted(left.items()):
        yield (
            f"{metric} of {dataset} by {judge} in {', '.join(sorted(languages))} {why} and is not "
            "compared"
        )


def _choices(runs: Iterable[Run]) -> str:
    kinds = sorted({(run.model, run.condition) for run in runs})
    return "; ".join(f"--model {model} --condition {condition}" for model, condition in kinds)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
