"""Runs a study's jobs: each when what it waits for is finished, and none that is finished."""

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
        finished_before: and not run again.
        finished: now.
        failed: with how they ended, as `failed.json` has it.
        waiting: those that were not begun, and the failed job for which.
    """

    finished_before: list[Placed] = field(default_factory=list)
    finished: list[Placed] = field(default_factory=list)
    failed: list[tuple[Placed, dict[str, Any]]] = field(default_factory=list)
    waiting: list[tuple[Placed, str]] = field(default_factory=list)


LAG = 60.0
"""Seconds in which a shared disk shows what another machine has written."""

Told = Callable[[str, Placed], None]
"""What is told of each job: "starts", "finished" or "failed"."""


def run(jobs: Sequence[Placed], folder: StudyFolder, executor: Executor, told: Told) -> Outcome:
    """Run all jobs that are not finished, and what depends on none that fails.

    Args:
        jobs: each behind those that it needs.
        folder: of the study, taken.
        executor: where, within its `with` block.
        told: is called as things happen.

    Raises:
        UserError: a job needs more than there is, or cannot be started.
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
    """How a job failed, as its folder or else its executor says; None where it is finished."""
    last = time.monotonic() + (0 if ended.said else LAG)
    while not folder.is_finished(one):
        failure = read(ended.folder / FAILED)
        if failure:
            return failure
        if time.monotonic() >= last:
            said = ended.said or "it ended, and its folder shows no result of it"
            return folder.failed(one, said)
        time.sleep(0.5)
    return None
