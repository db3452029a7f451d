"""Make records of capability: the values of other lm-eval tasks, and their loss in a condition.

The value in a condition is compared with the value of the same model's baseline on the same
documents, for the same task with the same few-shot examples. If both have samples, the difference
is paired by document: by Newcombe's method 10 for documents that are right or wrong, and otherwise
by Student's t. Without samples, the two values are treated as independent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from statistics import fmean, stdev

from polyrefuse_leaderboard.reading.capability import ROUNDING, Outcome
from polyrefuse_leaderboard.reading.runs import Reading, Run
from polyrefuse_leaderboard.records import CAPABILITY, Record
from polyrefuse_leaderboard.statistics import newcombe_paired, newcombe_unpaired

from polyrefuse_shared.intervals import CONFIDENCE, wilson, z_value

Measured = tuple[Run, Outcome]


def capability_records(reading: Reading) -> tuple[list[Record], list[str]]:
    """Make a record for each model, condition and task.

    Returns:
        The records, sorted by task, model and condition, and a sentence for each value that is
        left out because it has no interval.
    """
    best: dict[tuple[str, ...], Measured] = {}
    for run in sorted(reading.runs, key=lambda run: run.date):
        for outcome in run.capability:
            # Later runs replace earlier ones with the same settings.
            asked_of = *_subject(run), outcome.task, outcome.metric, outcome.settings
            best[asked_of] = run, outcome
    records, problems = [], []
    for key in sorted(best):
        run, outcome = best[key]
        model, revision, _, _, *asked = key
        baseline = best.get((model, revision, "baseline", "", *asked))
        interval = _interval(outcome)
        if interval is None:
            problems.append(
                f"{run.file}: {outcome.task} has no standard error and no samples, so its value is "
                "left out; run lm_eval with --log_samples."
            )
            continue
        record = _record(run, outcome, interval)
        if baseline is not None and baseline[0] is not run:
            record = _compared(record, outcome, baseline[1])
        records.append(record)
    return sorted(records, key=lambda one: (one.dataset, one.metric)), problems


def _subject(run: Run) -> tuple[str, str, str, str]:
    return run.model, run.revision, run.condition, run.intervention


def _record(run: Run, outcome: Outcome, interval: tuple[float, float]) -> Record:
    return Record(
        model=run.model,
        revision=run.revision,
        condition=run.condition,
        intervention=run.intervention,
        generation=outcome.settings,
        dataset=outcome.task,
        language="",
        judge="",
        metric=outcome.metric,
        value=outcome.value,
        n=outcome.n,
        low=interval[0],
        high=interval[1],
        run=run.run,
        kind=CAPABILITY,
        higher_is_better=outcome.higher_is_better,
    )


def _interval(outcome: Outcome) -> tuple[float, float] | None:
    """Return Wilson's interval of a share of documents, or else the normal one.

    There is neither, and the result is None, if the value is not a share and has no standard error.
    """
    hits = _hits(outcome)
    if hits is not None:
        low, high = wilson(hits, outcome.n)
        return float(low), float(high)
    if outcome.stderr is None:
        return None
    half = z_value() * outcome.stderr
    return outcome.value - half, outcome.value + half


def _hits(outcome: Outcome) -> int | None:
    """Count the documents that are right; None unless each document is right or wrong.

    Without samples the standard error shows this: the mean of n zeros and ones has the standard
    error sqrt(p (1 - p) / (n - 1)), and no other values from 0 to 1 have a larger one.
    """
    values, n = outcome.documents, outcome.n
    if values is not None:
        return int(sum(values.values())) if _is_binary(values.values()) else None
    share, hits = outcome.value, round(outcome.value * n)
    if n < 2 or outcome.stderr is None or not 0 <= share <= 1 or abs(hits / n - share) > ROUNDING:
        return None
    expected = math.sqrt(share * (1 - share) / (n - 1))
    return hits if abs(outcome.stderr - expected) < ROUNDING else None


def _is_binary(values: Iterable[float]) -> bool:
    return all(value in (0.0, 1.0) for value in values)


def _compared(record: Record, outcome: Outcome, baseline: Outcome) -> Record:
    """Add to a record its difference to the baseline, if the difference has an interval."""
    pairs = None
    now, before = outcome.documents, baseline.documents
    if now is not None and before is not None and now.keys() == before.keys():
        found = _paired(now, before)
        pairs = len(now)
    else:
        found = _unpaired(outcome, baseline)
    if found is None:
        return record
    difference, low, high = found
    return replace(
        record, difference=difference, difference_low=low, difference_high=high, pairs=pairs
    )


def _paired(
    now: Mapping[str, float], before: Mapping[str, float]
) -> tuple[float, float, float] | None:
    if _is_binary(now.values()) and _is_binary(before.values()):
        pairs = [(now[key], before[key]) for key in now]
        counts = [pairs.count(kind) for kind in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0))]
        return newcombe_paired(*counts)
    differences = [now[key] - before[key] for key in now]
    mean, n = fmean(differences), len(differences)
    if n < 2:
        # A single difference does not show how much differences vary.
        return None
    from scipy.stats import t

    half = float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * stdev(differences) / math.sqrt(n)
    return mean, mean - half, mean + half


def _unpaired(outcome: Outcome, baseline: Outcome) -> tuple[float, float, float] | None:
    hits, before = _hits(outcome), _hits(baseline)
    if hits is not None and before is not None:
        return newcombe_unpaired(hits, outcome.n, before, baseline.n)
    if outcome.stderr is None or baseline.stderr is None:
        return None
    difference = outcome.value - baseline.value
    half = z_value() * math.hypot(outcome.stderr, baseline.stderr)
    return difference, difference - half, difference + half
