"""The contract of an executor, which starts jobs and says which have ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from polyrefuse_studies.jobs import Job

from polyrefuse_shared.errors import UserError


class TooLarge(UserError):
    """A job needs more than the machines have, and would wait forever."""


@dataclass(frozen=True)
class Ended:
    """A job whose process has ended.

    Attributes:
        folder: the folder of the job.
        said: what became of the process, for a job that has not recorded how it ended. It is ""
            if the folder has the record, now or as soon as a shared disk shows it.
    """

    folder: Path
    said: str


class Executor(Protocol):
    """A place where jobs run, each by `perform.perform`.

    It is used in a `with` block, at whose end none of its jobs is running.
    """

    def __enter__(self) -> Executor:
        """Prepare the executor.

        Raises:
            UserError: a package that it needs is not installed, or a cluster does not answer.
        """
        ...

    def __exit__(self, *raised: object) -> None:
        """End the jobs that are running."""
        ...

    def require(self, job: Job) -> None:
        """Check that a job can ever be started.

        Raises:
            TooLarge: the job needs more than the machines have.
        """
        ...

    def room_for(self, job: Job) -> bool:
        """Return whether a job can be started now."""
        ...

    def start(self, folder: Path, job: Job) -> None:
        """Start a job whose folder is prepared.

        Raises:
            UserError: the job cannot be started.
        """
        ...

    def ended(self) -> list[Ended]:
        """Wait a moment, and return the jobs that have ended since the last call."""
        ...
