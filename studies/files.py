"""The files and folders that a study names, and checksums of their contents.

A relative path starts at the folder of the study's file, and `~` is the user's home folder. As for
lm-eval's models, the name of a bundled organism means that organism even if the folder has a file
with this name.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from polyrefuse_models import bundled
from polyrefuse_shared.errors import UserError


class MissingFile(UserError):
    """A study names a path that does not exist."""


class Files:
    """The files of one study.

    Args:
        beside: the folder of the study's file.
        known: the known checksums by `_stamp` of each file. New checksums are added.

    Attributes:
        known: the checksums, as in the arguments.
    """

    def __init__(self, beside: Path, known: MutableMapping[str, str] | None = None) -> None:
        self._beside = beside
        self.known: MutableMapping[str, str] = {} if known is None else known

    def find(self, named: str) -> Path | None:
        """Return the file or folder that a name in the study's file means, or None.

        The name of a bundled organism is not a path.
        """
        if named in bundled.SHIPPED or not named:
            return None
        path = os.path.join(self._beside, os.path.expanduser(named))
        # A name may be too long for a path, and `Path.exists` then raises an error.
        return Path(os.path.realpath(path)) if os.path.exists(path) else None

    def require(self, named: str, where: str, what: str, also: str = "") -> Path:
        """Find a file or folder that must exist.

        Args:
            named: its name in the study's file.
            where: the key in the file, for the message.
            what: what it must be: "file", "folder" or "file or folder".
            also: what else the value could be, for the message.

        Raises:
            MissingFile: it does not exist.
        """
        path = self.find(named)
        fits = {"file": os.path.isfile, "folder": os.path.isdir}.get(what, os.path.exists)
        if path is None or not fits(path):
            raise MissingFile(
                f"{where} is {named!r}, but there is no such {what}{also}; a relative path starts "
                f"in {self._beside}."
            )
        return path

    def contents(self, path: Path, *, below: bool = True) -> str:
        """Return a checksum of a file, or of the names and contents of a folder's files.

        Args:
            path: the file or folder.
            below: whether to include the files of subfolders. Hidden files are left out.

        Raises:
            MissingFile: a file cannot be read.
        """
        try:
            if not path.is_dir():
                return self._of_file(path)
            digest = hashlib.sha256()
            for file in sorted(_files(path, below)):
                name = file.relative_to(path).as_posix()
                digest.update(json.dumps([name, self._of_file(file)]).encode())
            return digest.hexdigest()
        except OSError as error:
            raise MissingFile(f"{path} cannot be read ({error.strerror}).") from None

    def _of_file(self, path: Path) -> str:
        """Return the checksum of a file, which is read only once unless it changes."""
        stamp = _stamp(path)
        if stamp not in self.known:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while part := file.read(2**24):
                    digest.update(part)
            self.known[stamp] = digest.hexdigest()
        return self.known[stamp]


def looks_like_a_path(named: str) -> bool:
    """Return whether a name cannot be on the hub, where names have at most one slash inside."""
    return named.startswith((".", "/", "~", "\\")) or named.count("/") > 1 or named.endswith("/")


def _files(folder: Path, below: bool) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.is_file():
            yield entry
        elif below and entry.is_dir() and not entry.name.startswith("."):
            yield from _files(entry, below)


def _stamp(path: Path) -> str:
    """Return a file's path, size and time as one text."""
    state = path.stat()
    return f"{path.resolve()} {state.st_size} {state.st_mtime_ns}"
