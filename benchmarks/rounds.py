"""Times and ratios of methods that take turns in each round.

Each ratio compares times of the same round, because a machine that becomes slower affects all the
methods of a round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.random_model import finish


class Spread(NamedTuple):
    """The minimum, median and maximum of n rounds."""

    least: float
    median: float
    most: float
    n: int


def spread(values: Sequence[float]) -> Spread:
    return Spread(min(values), statistics.median(values), max(values), len(values))


def seconds(work: Callable[[], object], device: str) -> float:
    """Return the seconds until the device has finished the work."""
    finish(device)
    start = time.perf_counter()
    work()
    finish(device)
    return time.perf_counter() - start


def ratios(rounds: Sequence[dict[str, float]], of: str, to: str) -> Spread:
    """Divide one entry of each round by another entry of the same round."""
    return spread([entries[of] / entries[to] for entries in rounds])
