"""A study's folder: the study that it belongs to, its finished jobs, and its failed jobs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyrefuse_studies.jobs import JOBS, Placed

from polyrefuse_shared.drafts import Busy, is_draft, locked
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.writing import CannotWrite, cannot_write, write_whole

MARK = "study.json"
"""The file in a study's folder that names the study."""

CHECKSUMS = "checksums.json"
"""The file in a study's folder with checksums of the files that the study names."""

JOB, LOG, FINISHED, FAILED = "job.json", "log.txt", "finished.json", "failed.json"
"""The files in a job's folder: what to do, what its process printed, and how it ended."""


class OtherStudy(UserError):
    """The folder holds another study or something else."""


@dataclass(frozen=True)
class StudyFolder:
    """The folder of a study, which `polyrefuse study run --output` names.

    Attributes:
        path: the folder. It need not exist, and its name may be too long, in which case
            `Path.exists` raises an error.
    """

    path: Path

    @contextmanager
    def taken(self, study: str) -> Iterator[None]:
        """Lock the folder for a study against every other process that runs a study.

        Raises:
            OtherStudy: the folder holds another study or something else.
            Busy: another process is running a study in it.
            CannotWrite: it is not a folder, or cannot be made or written to.
        """
        self.require_free_for(study)
        with self._locked():
            self.require_free_for(study)
            if not self.is_of_a_study:
                write_whole(self.path / MARK, json.dumps({"study": study}) + "\n")
            yield

    def require_free_for(self, study: str) -> None:
        """Check that a study can use the folder, without writing anything.

        Raises:
            OtherStudy: the folder holds another study or something else.
            CannotWrite: it is not a folder.
        """
        with _as_cannot_write(self.path):
            if self.path.exists() and not self.path.is_dir():
                raise CannotWrite(f"{self.path} is not a folder; name a new or an empty one.")
            # A draft may be the mark that another process writes, or was killed while it wrote.
            others = self.path.is_dir() and any(
                not is_draft(path.name) for path in self.path.iterdir()
            )
            if others and not self.is_of_a_study:
                raise OtherStudy(f"{self.path} holds no study; name a new or an empty folder.")
            if self.is_of_a_study and (held := read(self.path / MARK).get("study")) != study:
                raise OtherStudy(
                    f"{self.path} holds the study {held!r} and not {study!r}; name another folder."
                )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with ExitStack() as stack:
            with _as_cannot_write(self.path):
                stack.enter_context(locked(self.path, patience=0.0))
            yield

    @property
    def is_of_a_study(self) -> bool:
        return os.path.exists(self.path / MARK)

    def made(self) -> dict[str, str]:
        """Return the existing folders of jobs, as `jobs.place` takes them.

        If a job has two folders, it is the finished one.
        """
        folders = sorted(
            (self.path / JOBS).glob("*.*") if self.is_of_a_study else (),
            key=lambda path: ((path / FINISHED).exists(), path.name),
        )
        return {path.name.rpartition(".")[2]: f"{JOBS}/{path.name}" for path in folders}

    def checksums(self) -> dict[str, str]:
        """Return the checksums of files that were read before, as `files.Files` keeps them."""
        known = read(self.path / CHECKSUMS) if self.is_of_a_study else {}
        return {stamp: digest for stamp, digest in known.items() if isinstance(digest, str)}

    def keep_checksums(self, known: Mapping[str, str]) -> None:
        """Save the checksums if the folder is a study's."""
        if self.is_of_a_study and dict(known) != self.checksums():
            with suppress(CannotWrite):  # They only save time.
                write_whole(self.path / CHECKSUMS, json.dumps(dict(known)) + "\n")

    def job(self, placed: Placed) -> Path:
        return self.path / placed.folder

    def is_finished(self, placed: Placed) -> bool:
        return os.path.exists(self.job(placed) / FINISHED)

    def prepare(self, placed: Placed) -> Path:
        """Write what is to be done into a job's folder, and remove the record of a failure."""
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
        """Record a failure that the job's own process could not record."""
        failure = {"key": placed.key, "exit": None, "said": said}
        write_whole(self.job(placed) / FAILED, json.dumps(failure) + "\n")
        return failure


@contextmanager
def _as_cannot_write(path: Path) -> Iterator[None]:
    """Turn errors of the operating system, or of Python, about a path into a `CannotWrite`.

    Raises:
        CannotWrite: instead of such an error.
    """
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise cannot_write(path, error) from None


def read(path: Path) -> dict[str, Any]:
    """Read a JSON object of this package; return an empty one if it is missing or broken."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


__all__ = ["Busy", "OtherStudy", "StudyFolder", "read"]
