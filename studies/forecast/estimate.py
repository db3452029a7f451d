"""The time that jobs take: their workload divided by the speed that a probe measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polyrefuse_studies.jobs import Job

from polyrefuse_models.workload import Part, Workload

BACKWARD = 2.0
"""The cost of a training step in passes: one forward, and one backward that ends at the vectors of
the prompt and computes no gradient of a weight."""

LOADS = {"drift": 2}
"""Kind of job -> how often it loads a model, if not once. Drift loads the untouched model first."""


@dataclass(frozen=True)
class Seconds:
    """An estimate of time in seconds.

    Attributes:
        about: the time if answers end as early as those of the probe.
        at_most: the time if every answer has the greatest length and every optional step is done.
    """

    about: float
    at_most: float

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.about + other.about, self.at_most + other.at_most)


NONE = Seconds(0.0, 0.0)


class NoEstimate(Exception):
    """There is no estimate of a job; the message is a clause without a full stop."""


def seconds(
    job: Job, workload: Workload, harness: float, rates: Mapping[str, Any], engine: str
) -> Seconds:
    """Estimate how long a job takes.

    Args:
        job: the job.
        workload: the workload of the job.
        harness: the time that lm-eval takes for the job without a model, in seconds.
        rates: the measured speeds, as in `polyrefuse_models.wrappers.rates.Rates`.
        engine: the engine of the probe.

    Raises:
        NoEstimate: the probe does not show the speed of such a job.
    """
    if job.kind == "judging":
        judge = job.command[job.command.index("--judge") + 1]
        labelling = rates["light"] + workload.judged / rates["judged"][judge]
        return Seconds(labelling, labelling)
    if engine != "hf" and job.kind not in ("answers", "capability"):
        raise NoEstimate(f"it runs with transformers, but the probe ran with {engine}")
    loads = LOADS.get(job.kind, 1)
    begun = rates["imports"] + harness + loads * rates["loading"]
    begun += workload.judged / rates["judged"]["native"]
    total = Seconds(begun, begun)
    for part in workload.parts:
        total += _of_part(part, rates)
    return total


def _of_part(part: Part, rates: Mapping[str, Any]) -> Seconds:
    reading = part.prompt_tokens * (BACKWARD if part.trains else 1.0) / rates["read"]
    # A batch runs until its longest answer ends, and the last batch takes as long as a full one.
    batches = -(-part.answers // rates["rows"])
    a_token = batches * rates["rows"] / rates["generated"]
    longest = rates["longest"] or part.tokens_each
    about = reading + a_token * min(longest, part.tokens_each)
    return Seconds(about if part.certain else 0.0, reading + a_token * part.tokens_each)


def chain(jobs: Sequence[Job], of: Mapping[str, Seconds]) -> Seconds:
    """Return the time of the longest chain of jobs that wait for one another.

    No number of devices needs less.

    Args:
        jobs: the jobs, each after those that it needs.
        of: the times of the jobs that count; other jobs take no time.
    """
    ends: dict[str, Seconds] = {}
    for job in jobs:
        before = [ends[name] for name in job.needs]
        begun = Seconds(
            max((one.about for one in before), default=0.0),
            max((one.at_most for one in before), default=0.0),
        )
        ends[job.name] = begun + of.get(job.name, NONE)
    return Seconds(
        max((one.about for one in ends.values()), default=0.0),
        max((one.at_most for one in ends.values()), default=0.0),
    )


def with_slots(jobs: Sequence[Job], of: Mapping[str, float], slots: int) -> float:
    """Return the seconds that the jobs take on `slots` devices, started as by `runner.run`.

    Args:
        jobs: the jobs, each after those that it needs.
        of: the seconds of the jobs that count; other jobs take no time.
        slots: the number of devices, or of processes if there is no device.
    """
    left = list(jobs)
    running: dict[str, tuple[float, int]] = {}
    done: set[str] = set()
    now = 0.0
    while left or running:
        free = slots - sum(taken for _, taken in running.values())
        for job in list(left):
            if done.issuperset(job.needs) and _slots(job, slots) <= free:
                left.remove(job)
                free -= _slots(job, slots)
                running[job.name] = now + of.get(job.name, 0.0), _slots(job, slots)
        now = min(end for end, _ in running.values())
        ended = [name for name, (end, _) in running.items() if end <= now]
        done.update(ended)
        for name in ended:
            del running[name]
    return now


def _slots(job: Job, slots: int) -> int:
    return min(max(job.gpus or 1, 1), slots)
