"""What an executor is: it starts jobs, and says which have ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from polyrefuse_studies.jobs import Job

from polyrefuse_shared.errors import UserError


class TooLarge(UserError):
    """A job that needs more than there is, and would wait for ever."""


@dataclass(frozen=True)
class Ended:
    """A job whose process has ended.

    Attributes:
        folder: of the job.
        said: what became of the process, for a job that has not written how it ended; "" where its
            folder is known to say it, here or as soon as a shared disk shows it.
    """

    folder: Path
    said: str


class Executor(Protocol):
    """Where jobs are done, each by `perform.perform`.

    It is used within a `with` block, at whose end nothing of it is running any more.
    """

    def __enter__(self) -> Executor:
        """Raises:
        UserError: what it needs is not installed, or does not answer.
        """
        ...

    def __exit__(self, *raised: object) -> None:
        """End what is running."""
        ...

    def require(self, job: Job) -> None:
        """Raises:
        TooLarge: a job needs more than there is.
        """
        ...

    def room_for(self, job: Job) -> bool:
        """Whether a job can be started now."""
        ...

    def start(self, folder: Path, job: Job) -> None:
        """Start a job, whose folder is prepared.

        Raises:
            UserError: it cannot be started.
        """
        ...

    def ended(self) -> list[Ended]:
        """Jobs that have ended since this was asked, after waiting a moment for one."""
        ...
