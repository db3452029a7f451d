"""A study's folder: whose it is, which jobs are finished, which failed, and why."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyrefuse_studies.jobs import JOBS, Placed

from polyrefuse_shared.drafts import Busy, locked
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.writing import CannotWrite, cannot_write, write_whole

MARK = "study.json"
"""In a study's folder: which study it is of."""

CHECKSUMS = "checksums.json"
"""In a study's folder: of the files that it names, so that each is read once."""

JOB, LOG, FINISHED, FAILED = "job.json", "log.txt", "finished.json", "failed.json"
"""In a job's folder: what to do, what its process printed, and how it ended."""


class OtherStudy(UserError):
    """A folder that holds something else."""


@dataclass(frozen=True)
class StudyFolder:
    """Attributes:
    path: the folder, which `polyrefuse study run --output` names. It may be no folder at all, and
        have a name that is too long for one, which `Path.exists` raises for.
    """

    path: Path

    @contextmanager
    def taken(self, study: str) -> Iterator[None]:
        """Take the folder for a study, and keep every other process that runs one out of it.

        Raises:
            OtherStudy: the folder holds another study, or something else.
            Busy: another process is running a study in it.
            CannotWrite: it is no folder, or none that can be made or written to.
        """
        self.require_free_for(study)
        with self._locked():
            self.require_free_for(study)
            if not self.is_of_a_study:
                write_whole(self.path / MARK, json.dumps({"study": study}) + "\n")
            yield

    def require_free_for(self, study: str) -> None:
        """Refuse a folder that a study cannot have; nothing is written.

        Raises:
            OtherStudy: the folder holds another study, or something else.
            CannotWrite: it is no folder.
        """
        with _told(self.path):
            if self.path.exists() and not self.path.is_dir():
                raise CannotWrite(f"{self.path} is no folder; name a new or an empty one.")
            if self.path.is_dir() and any(self.path.iterdir()) and not self.is_of_a_study:
                raise OtherStudy(f"{self.path} holds no study; name a new or an empty folder.")
            if self.is_of_a_study and (held := read(self.path / MARK).get("study")) != study:
                raise OtherStudy(
                    f"{self.path} holds the study {held!r} and not {study!r}; name another folder."
                )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with ExitStack() as stack:
            with _told(self.path):
                stack.enter_context(locked(self.path, patience=0.0))
            yield

    @property
    def is_of_a_study(self) -> bool:
        return os.path.exists(self.path / MARK)

    def made(self) -> dict[str, str]:
        """Folders of jobs that are there, as `jobs.place` takes them; of two the finished one."""
        folders = sorted(
            (self.path / JOBS).glob("*.*") if self.is_of_a_study else (),
            key=lambda path: ((path / FINISHED).exists(), path.name),
        )
        return {path.name.rpartition(".")[2]: f"{JOBS}/{path.name}" for path in folders}

    def checksums(self) -> dict[str, str]:
        """Of files that were read before, by what `files.Files` makes of them."""
        known = read(self.path / CHECKSUMS) if self.is_of_a_study else {}
        return {stamp: digest for stamp, digest in known.items() if isinstance(digest, str)}

    def keep_checksums(self, known: Mapping[str, str]) -> None:
        """Write them down, where the folder is a study's."""
        if self.is_of_a_study and dict(known) != self.checksums():
            with suppress(CannotWrite):  # They only save time.
                write_whole(self.path / CHECKSUMS, json.dumps(dict(known)) + "\n")

    def job(self, placed: Placed) -> Path:
        return self.path / placed.folder

    def is_finished(self, placed: Placed) -> bool:
        return os.path.exists(self.job(placed) / FINISHED)

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

    def failed(self, placed: Placed, said: str) -> dict[str, Any]:
        """Write down a failure that the job's own process could not."""
        failure = {"key": placed.key, "exit": None, "said": said}
        write_whole(self.job(placed) / FAILED, json.dumps(failure) + "\n")
        return failure


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Raises:
    CannotWrite: in the place of what the operating system, or Python, says of a path.
    """
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise cannot_write(path, error) from None


def read(path: Path) -> dict[str, Any]:
    """A JSON object of this package, or an empty one where it is not there or is broken."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


__all__ = ["Busy", "OtherStudy", "StudyFolder", "read"]
