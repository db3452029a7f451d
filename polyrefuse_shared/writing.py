"""Writing files and folders that appear on disk whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from polyrefuse_shared.drafts import draft
from polyrefuse_shared.errors import UserError


class CannotWrite(UserError):
    """A file or a folder exists already, or cannot be made or written to."""


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole, or leave the old one as it was. Missing parents are made.

    Args:
        path: the file.
        content: bytes, or text that is written in UTF-8.

    Raises:
        CannotWrite: the file cannot be written.
    """
    with whole_file(path) as new:
        new.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a draft to write into, which replaces a file when the block ends without an error.

    Missing parents are made, links are followed, and the mode and owner of an old file are kept.

    Raises:
        CannotWrite: the file cannot be written, or an `OSError` is raised within the block.
    """
    try:
        target = Path(os.path.realpath(path))
    except ValueError as error:  # The path contains a NUL byte.
        raise cannot_write(path, error) from None
    try:
        with draft(target.parent, lambda new: new.touch(exist_ok=False)) as new:
            yield new
            put(new, target)
    except OSError as error:
        raise cannot_write(path, error) from None


def put(file: Path, target: Path) -> None:
    """Move a file to `target`. It takes the mode and owner of an older file there.

    Raises:
        OSError: the file cannot be moved.
    """
    with suppress(FileNotFoundError):
        older = os.stat(target)
        if not (stat.S_ISREG(older.st_mode) or stat.S_ISDIR(older.st_mode)):
            # A pipe, or /dev/null, would be a regular file from then on.
            raise OSError(errno.EINVAL, "it is not a regular file", str(target))
        os.chmod(file, stat.S_IMODE(older.st_mode))
        if hasattr(os, "chown"):
            # Only a superuser may give files away.
            with suppress(PermissionError):
                os.chown(file, older.st_uid, older.st_gid)
    os.replace(file, target)


def append(path: Path, text: str) -> None:
    """Append UTF-8 text to a file that others may write to as well, or make the file.

    Raises:
        CannotWrite: the file cannot be written.
    """
    try:
        # Opening a pipe must not wait until somebody reads it.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(path, flags, 0o666)
        os.set_blocking(descriptor, True)
        with open(descriptor, "a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise cannot_write(path, error) from None


def require_new(folder: Path) -> None:
    """Check before hours of work that their result can be written to a new folder.

    Missing parents are made, and a draft is made and removed.

    Raises:
        CannotWrite: `folder` exists already, even as a broken link, or cannot be made.
    """
    with _new_folder(folder):
        pass


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a draft to write into, which becomes `folder` when the block ends without an error.

    Raises:
        CannotWrite: as `require_new`, or an `OSError` is raised within the block.
    """
    with _new_folder(folder) as new:
        yield new
        os.replace(new, folder)


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    try:
        # `lexists` would say that a name which is too long does not exist.
        with suppress(FileNotFoundError):
            os.lstat(folder)
            raise CannotWrite(f"{folder} exists already; name a new folder or remove it.")
        with draft(folder.parent, Path.mkdir) as new:
            yield new
    except OSError as error:
        raise cannot_write(folder, error) from error


def cannot_write(path: Path, error: Exception) -> CannotWrite:
    """Return the exception to raise for an error of the operating system."""
    reason = getattr(error, "strerror", None) or error
    return CannotWrite(f"{path} cannot be written ({reason}); name another path or free space.")
