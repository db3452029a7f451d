"""What an executor is: it starts jobs, and says which have ended."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Executor(Protocol):
    """Where jobs are done, each by `perform.perform`."""

    def room_for(self, gpus: int | None) -> bool:
        """Whether a job can be started now that needs so many GPUs; None: one where there are any.

        Raises:
            NoDevice: no device here will ever do.
        """
        ...

    def start(self, folder: Path, gpus: int | None) -> None:
        """Start the job of a folder."""
        ...

    def ended(self) -> list[Path]:
        """Folders of jobs that have ended since this was asked, after waiting a moment for one."""
        ...

    def stop(self) -> None:
        """End what is running."""
        ...
