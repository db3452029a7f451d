"""Files and folders that appear on disk whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from polyrefuse_shared.drafts import draft, make_folder
from polyrefuse_shared.errors import UserError


class CannotWrite(UserError):
    """A file or a folder that is there already, or cannot be made or written to."""


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, text in UTF-8, or leave what was there; parents are made.

    Raises:
        CannotWrite: the disk refuses.
    """
    with whole_file(path) as new:
        new.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A draft to write into, which takes the place of a file when the block ends well.

    Parents are made, links are followed, and the mode and owner of a file that is there are kept.

    Raises:
        CannotWrite: the disk refuses, or is full, in the block too.
    """
    try:
        target = Path(os.path.realpath(path))
    except ValueError as error:  # A NUL byte in it.
        raise cannot_write(path, error) from None
    try:
        make_folder(target.parent)
        with draft(target.parent, lambda new: new.touch(exist_ok=False)) as new:
            yield new
            put(new, target)
    except OSError as error:
        raise cannot_write(path, error) from None


def put(file: Path, target: Path) -> None:
    """Move a file to where an older one may be, whose mode and owner it gets.

    Raises:
        OSError: the disk refuses.
    """
    with suppress(FileNotFoundError):
        older = os.stat(target)
        if not (stat.S_ISREG(older.st_mode) or stat.S_ISDIR(older.st_mode)):
            # A pipe, or /dev/null, would be a file from then on.
            raise OSError(errno.EINVAL, "it is no regular file", str(target))
        os.chmod(file, stat.S_IMODE(older.st_mode))
        if hasattr(os, "chown"):
            # Only a superuser may give files away.
            with suppress(PermissionError):
                os.chown(file, older.st_uid, older.st_gid)
    os.replace(file, target)


def append(path: Path, text: str) -> None:
    """Add to the end of a file in UTF-8, which others may have written to; it is made if missing.

    Raises:
        CannotWrite: the disk refuses.
    """
    try:
        # A pipe is not waited for until somebody reads it.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(path, flags, 0o666)
        os.set_blocking(descriptor, True)
        with open(descriptor, "a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise cannot_write(path, error) from None


def require_new(folder: Path) -> None:
    """Refuse, before work that may take hours, a folder that its result could not be written to.

    Parents are made, and a draft is made and removed.

    Raises:
        CannotWrite: `folder` exists already, even as a dangling link, or cannot be made.
    """
    with _new_folder(folder):
        pass


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A draft to write into, which takes the name of `folder` when the block ends well.

    Raises:
        CannotWrite: as `require_new`, and where the disk fails, or is full, in the block.
    """
    with _new_folder(folder) as new:
        yield new
        os.replace(new, folder)


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    try:
        # Not `lexists`, to which a name that is too long is one that is not there.
        with suppress(FileNotFoundError):
            os.lstat(folder)
            raise CannotWrite(f"{folder} exists already; name a new folder or remove it.")
        if not folder.parent.exists():
            make_folder(folder.parent)
        with draft(folder.parent, Path.mkdir) as new:
            yield new
    except OSError as error:
        raise cannot_write(folder, error) from error


def cannot_write(path: Path, error: Exception) -> CannotWrite:
    """What to raise for an error of the operating system."""
    reason = getattr(error, "strerror", None) or error
    return CannotWrite(f"{path} cannot be written ({reason}); name another or make room.")
