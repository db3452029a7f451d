"""The files and folders that a study names: which they are, and what tells their contents.

A relative path begins where the study's file is, `~` is the user's own folder, and the name of a
bundled organism is that organism, whatever lies beside the file: so lm-eval's models read it.
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
    """A path that a study names and that is not there."""


class Files:
    """The files of one study.

    Args:
        beside: folder of the study's file.
        known: checksums of files by what `_stamp` makes of them, to which new ones are added.

    Attributes:
        known: the same.
    """

    def __init__(self, beside: Path, known: MutableMapping[str, str] | None = None) -> None:
        self._beside = beside
        self.known: MutableMapping[str, str] = {} if known is None else known

    def find(self, named: str) -> Path | None:
        """The file or the folder that a name in the study's file means; None where there is none.

        The name of a bundled organism is no path.
        """
        if named in bundled.SHIPPED or not named:
            return None
        path = os.path.join(self._beside, os.path.expanduser(named))
        # Of a name that is too long for a path there is none, which `Path.exists` raises for.
        return Path(os.path.realpath(path)) if os.path.exists(path) else None

    def require(self, named: str, where: str, what: str, also: str = "") -> Path:
        """`find`, of what has to be there.

        Args:
            named: in the study's file.
            where: its key there.
            what: it shall be: "file", "folder" or "file or folder".
            also: what else could stand there, for the message.

        Raises:
            MissingFile: there is none.
        """
        path = self.find(named)
        fits = {"file": os.path.isfile, "folder": os.path.isdir}.get(what, os.path.exists)
        if path is None or not fits(path):
            raise MissingFile(
                f"{where} is {named!r}, and there is no such {what}{also}; a relative path begins "
                f"in {self._beside}."
            )
        return path

    def contents(self, path: Path, *, below: bool = True) -> str:
        """A checksum of a file, or of the names and contents of a folder's files.

        Args:
            path: which.
            below: whether a folder's own folders are looked into. What is hidden is not.

        Raises:
            MissingFile: one cannot be read.
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
        """Of a file's contents, which are read once as long as it is untouched."""
        stamp = _stamp(path)
        if stamp not in self.known:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while part := file.read(2**24):
                    digest.update(part)
            self.known[stamp] = digest.hexdigest()
        return self.known[stamp]


def looks_like_a_path(named: str) -> bool:
    """Whether a name can be no name of the hub: those have one slash at most, and no dots first."""
    return named.startswith((".", "/", "~", "\\")) or named.count("/") > 1 or named.endswith("/")


def _files(folder: Path, below: bool) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.is_file():
            yield entry
        elif below and entry.is_dir() and not entry.name.startswith("."):
            yield from _files(entry, below)


def _stamp(path: Path) -> str:
    """A file's place, size and time."""
    state = path.stat()
    return f"{path.resolve()} {state.st_size} {state.st_mtime_ns}"
