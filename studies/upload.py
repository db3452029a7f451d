"""Sends results to an fsspec address: the folder of each finished job, while other jobs run.

A job's `finished.json` is sent last, so that a folder with this file is complete. The next run
sends what a killed run did not send.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from urllib.parse import parse_qsl, unquote

from polyrefuse_studies.folder import FINISHED, MARK, OtherStudy, StudyFolder
from polyrefuse_studies.jobs import Placed
from polyrefuse_studies.perform import CACHE

from polyrefuse_shared.drafts import is_draft
from polyrefuse_shared.errors import UserError, first_line

ANSWER = 60.0
"""The time in which the address must accept the first small file, in seconds."""


class CannotUpload(UserError):
    """The address cannot be written to."""


@dataclass
class Uploaded:
    """The outcome of sending.

    Attributes:
        there: the number of folders of jobs that are at the address, complete.
        failed: what is not at the address, with the reasons.
    """

    there: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


class Upload:
    """Sends a study's folder to an address, in a thread of its own.

    Args:
        url: the address of a folder, as fsspec takes it. No message shows secrets in it.
        study: the name of the study.
        folder: the folder of the study.

    Raises:
        CannotUpload: no small file can be written there.
        OtherStudy: the address holds another study or something else.
    """

    def __init__(self, url: str, study: str, folder: StudyFolder) -> None:
        self._url = url
        self._folder = folder
        self._work: SimpleQueue[tuple[Callable[[], None], Future[None]]] = SimpleQueue()
        self._jobs: dict[str, Future[None]] = {}
        self.shown = shown(url)
        if not re.match(r"[\w+.-]+(://|::)", url):
            raise CannotUpload(
                f"--upload {self.shown} is not an fsspec address, such as s3://bucket/study or "
                "file:///shared/study."
            )
        # The thread must not keep the process alive, because an address may never answer.
        threading.Thread(target=self._do, daemon=True).start()
        opened = self._later(lambda: self._open(study))
        if not wait([opened], ANSWER).done:
            raise self._cannot(f"there is no answer in {ANSWER:g} seconds")
        try:
            opened.result()
        except UserError:
            raise
        except Exception as error:  # every file system has its own
            raise self._cannot(self._reason(error)) from None

    def send(self, job: Placed) -> None:
        """Send a finished job's folder later, unless it is there already."""
        self._jobs[job.job.name] = self._later(lambda: self._send(job))

    def wait(self) -> Uploaded:
        """Wait until everything was sent or has failed."""
        uploaded = Uploaded()
        for name, future in self._jobs.items():
            try:
                future.result()
                uploaded.there += 1
            except Exception as error:
                uploaded.failed.append((name, self._reason(error)))
        return uploaded

    def send_report(self, site: Path, summary: Path) -> str | None:
        """Send the leaderboard and the summary now, and remove files of an older leaderboard.

        Returns:
            The reason for a failure, or None.
        """
        try:
            self._later(lambda: self._send_report(site, summary)).result()
        except Exception as error:
            return self._reason(error)
        return None

    # --- in the thread

    def _do(self) -> None:
        while True:
            work, future = self._work.get()
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

    def _later(self, work: Callable[[], None]) -> Future[None]:
        future: Future[None] = Future()
        self._work.put((work, future))
        return future

    def _open(self, study: str) -> None:
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        self._there, root = url_to_fs(self._url)
        self._root = root.rstrip("/")
        own = self._folder.path.resolve()
        if isinstance(self._there, LocalFileSystem):
            path = Path(self._root or "/").resolve()
            if path in (own, *own.parents) or own in path.parents:
                raise CannotUpload(
                    f"One of --upload {self.shown} and the study's folder {own} contains the "
                    "other; name another address."
                )
        mark = self._at(MARK)
        held = self._read(mark)
        if held is None and self._names():
            raise OtherStudy(f"{self.shown} holds no study; name a new or an empty place.")
        mine = (json.dumps({"study": study}) + "\n").encode()
        # A run that was killed while it wrote the mark may have left a part of it.
        if held is not None and not (_is_mark(held, study) or mine.startswith(held)):
            raise OtherStudy(
                f"{self.shown} holds a study other than {study!r}; name another place."
            )
        self._write_first(mark, mine)

    def _write_first(self, mark: str, content: bytes) -> None:
        try:
            self._there.pipe_file(mark, content)
        except Exception as error:
            # A missing bucket is not created, because its name may be misspelt. Folders are.
            bucket = self._root.partition("/")[0]
            if self._there.root_marker == "" and not self._there.exists(bucket):
                raise error
            self._there.makedirs(self._root, exist_ok=True)
            self._there.pipe_file(mark, content)

    def _names(self) -> list[str]:
        try:
            return list(self._there.ls(self._root, detail=False))
        except FileNotFoundError:
            return []

    def _send(self, job: Placed) -> None:
        mark = self._at(job.folder, FINISHED)
        finished = (self._folder.job(job) / FINISHED).read_bytes()
        held = self._read(mark)
        if held == finished:
            return
        # What is there is incomplete, or of another run of the job, whose files have other names.
        if held is not None:
            self._there.rm_file(mark)
        if self._there.exists(self._at(job.folder)):
            self._there.rm(self._at(job.folder), recursive=True)
        for path in self._files(job):
            self._put(path)
        self._there.pipe_file(mark, finished)

    def _files(self, job: Placed) -> Iterator[Path]:
        """Return the files of a job's folder that are sent, except for `finished.json`."""
        folder = self._folder.job(job)
        for path in sorted(folder.rglob("*")):
            parts = path.relative_to(folder).parts
            is_kept_here = parts[0].startswith(CACHE) or parts == (FINISHED,)
            if path.is_file() and not any(map(is_draft, parts)) and not is_kept_here:
                yield path

    def _send_report(self, site: Path, summary: Path) -> None:
        files = [path for path in sorted(site.rglob("*")) if path.is_file()]
        for path in files:
            self._put(path)
        kept = {path.relative_to(site).as_posix() for path in files}
        there = self._at(site.relative_to(self._folder.path).as_posix())
        for found in self._there.find(there) if kept else ():
            _, _, name = str(found).partition(f"{there.lstrip('/')}/")
            if name and name not in kept:
                self._there.rm_file(found)
        self._put(summary)

    def _put(self, path: Path) -> None:
        there = self._at(path.relative_to(self._folder.path).as_posix())
        self._there.makedirs(there.rpartition("/")[0], exist_ok=True)
        self._there.put_file(str(path), there)

    def _read(self, path: str) -> bytes | None:
        try:
            content: bytes = self._there.cat_file(path)
        except FileNotFoundError:
            return None
        return content

    def _at(self, *parts: str) -> str:
        return "/".join((self._root, *parts))

    # --- what is said

    def _cannot(self, reason: str) -> CannotUpload:
        return CannotUpload(
            f"--upload {self.shown} cannot be written to, and nothing was run: {reason}."
        )

    def _reason(self, error: Exception) -> str:
        said = first_line(error)
        if isinstance(error, PermissionError | FileNotFoundError):
            # Some messages consist of the path alone.
            said = (
                f"{'no permission' if isinstance(error, PermissionError) else 'not found'}: {said}"
            )
        return hidden(said, self._url).rstrip(".")


def _is_mark(held: bytes, study: str) -> bool:
    try:
        content = json.loads(held)
    except ValueError:
        return False
    return isinstance(content, dict) and content.get("study") == study


def shown(url: str) -> str:
    """Return an address without its user, password and query, which may be secrets."""
    plain = re.split(r"[?#]", url)[0]
    start, sign, rest = plain.rpartition("@")
    scheme = re.match(r"(?:[\w+.-]+::)*[\w+.-]+://", start)
    return f"{scheme.group() if scheme else ''}{rest}" if sign else plain


def hidden(said: str, url: str) -> str:
    """Return what a library says, without the secrets of an address."""
    query = url.partition("?")[2]
    user = url.partition("?")[0].rpartition("@")[0].rpartition("://")[2]
    name, _, password = user.partition(":")
    secrets = {query, user, password, *(value for _, value in parse_qsl(query))}
    # The identifier of a key is that long. The shorter name of a user may be part of any word.
    if len(name) >= 8:
        secrets.add(name)
    said = said.replace(url, shown(url))
    # The longest come first, because one secret may be part of another.
    for secret in sorted(secrets | set(map(unquote, secrets)), key=len, reverse=True):
        if secret:
            said = said.replace(secret, "***")
    return said
