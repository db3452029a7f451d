"""Times that are taken in turns, and the ratios of each round: a machine that slows down slows all
that is compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.random_model import finish


class Spread(NamedTuple):
    """Least, median and greatest of n rounds."""

    least: float
    median: float
    most: float
    n: int


def spread(values: Sequence[float]) -> Spread:
    return Spread(min(values), statistics.median(values), max(values), len(values))


def seconds(work: Callable[[], object], device: str) -> float:
    """How long it takes, until the device has done it."""
    finish(device)
    start = time.perf_counter()
    work()
    finish(device)
    return time.perf_counter() - start


def ratios(rounds: Sequence[dict[str, float]], of: str, to: str) -> Spread:
    """One entry of each round divided by another of the same round."""
    return spread([entries[of] / entries[to] for entries in rounds])
