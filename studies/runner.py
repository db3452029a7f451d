"""Runs the unfinished jobs of a study, each when the jobs that it waits for are finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyrefuse_studies.executors.executor import Ended, Executor
from polyrefuse_studies.folder import FAILED, StudyFolder, read
from polyrefuse_studies.jobs import Placed


@dataclass
class Outcome:
    """What became of the jobs.

    Attributes:
        finished_before: the jobs that were finished before, and were not run again.
        finished: the jobs that finished now.
        failed: the jobs that failed, with how they ended, as in `failed.json`.
        waiting: the jobs that were not begun, each with the failed job that it waited for.
    """

    finished_before: list[Placed] = field(default_factory=list)
    finished: list[Placed] = field(default_factory=list)
    failed: list[tuple[Placed, dict[str, Any]]] = field(default_factory=list)
    waiting: list[tuple[Placed, str]] = field(default_factory=list)


LAG = 60.0
"""The time after which a shared disk shows what another machine wrote, in seconds."""

Told = Callable[[str, Placed], None]
"""A function that is called with what a job does ("starts", "finished" or "failed") and the job."""


def run(jobs: Sequence[Placed], folder: StudyFolder, executor: Executor, told: Told) -> Outcome:
    """Run all unfinished jobs, except those that depend on a job that fails.

    Args:
        jobs: the jobs, each after those that it needs.
        folder: the folder of the study, which is locked.
        executor: the executor, within its `with` block.
        told: the function to call when a job starts or ends.

    Raises:
        UserError: a job needs more than the machines have, or cannot be started.
    """
    outcome = Outcome()
    left: list[Placed] = []
    done: set[str] = set()
    for one in jobs:
        if folder.is_finished(one):
            outcome.finished_before.append(one)
            done.add(one.job.name)
        else:
            executor.require(one.job)
            left.append(one)
    stopped: dict[str, str] = {}
    running: dict[Path, Placed] = {}
    while left or running:
        for one in list(left):
            blocked = next((stopped[name] for name in one.job.needs if name in stopped), None)
            if blocked is not None:
                left.remove(one)
                stopped[one.job.name] = blocked
                outcome.waiting.append((one, blocked))
            elif done.issuperset(one.job.needs) and executor.room_for(one.job):
                left.remove(one)
                path = folder.prepare(one)
                running[path] = one
                told("starts", one)
                executor.start(path, one.job)
        for ended in executor.ended() if running else ():
            one = running.pop(ended.folder)
            failure = _failure(folder, one, ended)
            if failure is None:
                done.add(one.job.name)
                outcome.finished.append(one)
                told("finished", one)
            else:
                stopped[one.job.name] = one.job.name
                outcome.failed.append((one, failure))
                told("failed", one)
    return outcome


def _failure(folder: StudyFolder, one: Placed, ended: Ended) -> dict[str, Any] | None:
    """Return how a job failed, from its folder or else its executor; None if it is finished."""
    last = time.monotonic() + (0 if ended.said else LAG)
    while not folder.is_finished(one):
        failure = read(ended.folder / FAILED)
        if failure:
            return failure
        if time.monotonic() >= last:
            said = ended.said or "it ended, but its folder shows no result"
            return folder.failed(one, said)
        time.sleep(0.5)
    return None
