"""A study's folder: whose it is, which jobs are finished, which failed, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyrefuse_studies.jobs import Placed

from polyrefuse_shared.drafts import Busy, locked
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.writing import write_whole

MARK = "study.json"
"""In a study's folder: which study it is of."""

JOB, LOG, FINISHED, FAILED = "job.json", "log.txt", "finished.json", "failed.json"
"""In a job's folder: what to do, what its process printed, and how it ended."""


class OtherStudy(UserError):
    """A folder that holds something else."""


@dataclass(frozen=True)
class StudyFolder:
    """Attributes:
    path: the folder, which `polyrefuse study run --output` names.
    """

    path: Path

    @contextmanager
    def taken(self, study: str) -> Iterator[None]:
        """Take the folder for a study, and keep every other process that runs one out of it.

        Raises:
            OtherStudy: the folder holds another study, or something else.
            Busy: another process is running a study in it.
        """
        mark = self.path / MARK
        if not mark.exists() and self.path.is_dir() and any(self.path.iterdir()):
            raise OtherStudy(f"{self.path} holds no study; name a new or an empty folder.")
        with locked(self.path, patience=0.0):
            if mark.exists():
                held = read(mark)
                if held.get("study") != study:
                    raise OtherStudy(
                        f"{self.path} holds the study {held.get('study')!r} and not {study!r}; "
                        "name another folder."
                    )
            else:
                write_whole(mark, json.dumps({"study": study}) + "\n")
            yield

    def job(self, placed: Placed) -> Path:
        return self.path / placed.folder

    def is_finished(self, placed: Placed) -> bool:
        return (self.job(placed) / FINISHED).exists()

    def prepare(self, placed: Placed) -> Path:
        """Write what is to be done into a job's folder, and forget that it failed before."""
        folder = self.job(placed)
        document = {
            "name": placed.job.name,
            "kind": placed.job.kind,
            "key": placed.key,
            "command": placed.command,
            "in": str(self.path.resolve()),
            "rests_on": placed.job.rests_on,
        }
        write_whole(folder / JOB, json.dumps(document, indent=1) + "\n")
        (folder / FAILED).unlink(missing_ok=True)
        return folder


def read(path: Path) -> dict[str, Any]:
    """A JSON object of this package, or an empty one where it is not there or is broken."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


__all__ = ["Busy", "OtherStudy", "StudyFolder", "read"]
