"""Drafts: hidden files and folders that either become the result or are removed.

A draft is locked while the process that writes it lives. A draft without a lock was left by a
killed process, and the next draft in the same folder removes it. Its name is random, so that two
processes with the same number, in two containers, do not collide.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from polyrefuse_shared.errors import UserError

try:
    import fcntl
except ImportError:  # Windows has no such locks: no draft counts as stale there.
    fcntl = None  # type: ignore[assignment]

PATTERN = ".polyrefuse-*.partial"

ATTEMPTS = 100
"""How often a folder is made again that other processes remove. There has to be an end, because
some file systems, such as /proc, refuse a new folder with the same error."""


class Busy(UserError):
    """Another process has locked the folder."""


@contextmanager
def draft(parent: Path, make: Callable[[Path], object]) -> Iterator[Path]:
    """Make a draft in a folder, and remove it at the end unless it was renamed.

    Args:
        parent: the folder, which is made if it is missing.
        make: the function that makes the draft at a path: `Path.mkdir` or `Path.touch`.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    path, lock = _locked_draft(parent, make)
    try:
        # Stale drafts are removed only after the new one is made, so that a folder with a draft is
        # never without one.
        remove_stale(parent)
        yield path
    finally:
        _remove(path)
        _unlock(lock)


def is_draft(name: str) -> bool:
    """Return whether a file or folder of that name is a draft."""
    return fnmatch(name, PATTERN)


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents.

    Raises:
        OSError: the folder cannot be made, or there are more parents than Python can make.
    """
    for left in reversed(range(ATTEMPTS)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return
        except RecursionError:
            raise OSError(errno.ENAMETOOLONG, "it is nested too deeply", str(folder)) from None
        except FileNotFoundError:
            # Another process may have removed a parent, after `mkdir` had made or found it.
            if not left:
                raise
        except FileExistsError as error:
            # `mkdir` looks twice. Another process may have removed the folder in between.
            with suppress(FileNotFoundError):
                if not left or not stat.S_ISDIR(os.lstat(error.filename).st_mode):
                    raise


def remove_stale(parent: Path) -> None:
    """Remove the drafts of dead processes from a folder."""
    for path in list(parent.glob(PATTERN)):
        with suppress(OSError):
            lock = _lock(path)
            if lock is not None:
                _remove(path)
                _unlock(lock)


def discard(folder: Path) -> None:
    """Remove a folder that another process may be reading, all of it at once.

    Files that cannot be removed stay, and a missing folder is not an error.
    """
    away = _unused(folder.parent)
    with suppress(OSError):
        os.replace(folder, away)
        _remove(away)


@contextmanager
def locked(folder: Path, *, patience: float) -> Iterator[int | None]:
    """Lock a folder against every other process that locks it with this function.

    Args:
        folder: the folder, which is made if it is missing.
        patience: how long to wait for another process, in seconds.

    Yields:
        The file descriptor that holds the lock. A process that inherits it holds the lock as well.
        It is None where there are no locks.

    Raises:
        Busy: another process still holds the lock.
        OSError: the folder cannot be made.
    """
    lock = _wait_for(folder, patience)
    try:
        yield lock
    finally:
        _unlock(lock)


@contextmanager
def alone(name: Path, *, patience: float) -> Iterator[None]:
    """Lock a name against every other process that locks the same name.

    Args:
        name: the path of a hidden folder that exists as long as the lock does.
        patience: how long to wait for another process, in seconds.

    Raises:
        Busy: another process still holds the lock.
        OSError: the folder cannot be made.
    """
    lock = _wait_for(name, patience)
    try:
        yield
    finally:
        # The folder is removed before it is unlocked, so that whoever waits for it makes another.
        with suppress(OSError):
            name.rmdir()
        _unlock(lock)


def _wait_for(folder: Path, patience: float) -> int | None:
    """Lock a folder, which is made if it is missing."""
    begun = time.monotonic()
    while True:
        make_folder(folder)
        try:
            return _lock(folder)
        except FileNotFoundError:
            # Its owner has removed the folder. It is made again, because nobody holds it.
            waited = time.monotonic() - begun > max(patience, 1.0)
        except BlockingIOError:
            waited = time.monotonic() - begun >= patience
        if waited:
            raise Busy(
                f"Another process is writing to {folder}; wait until it ends, or name another "
                "folder."
            )
        time.sleep(0.05)


def _locked_draft(parent: Path, make: Callable[[Path], object]) -> tuple[Path, int | None]:
    left = ATTEMPTS
    while True:
        make_folder(parent)
        path = _unused(parent)
        left -= 1
        try:
            make(path)
            return path, _lock(path)
        except (BlockingIOError, FileNotFoundError):
            # Another process may remove the empty folder before it has a draft, or think the draft
            # stale before it is locked.
            if not left:
                raise


def _lock(path: Path) -> int | None:
    """Lock a file or a folder until the process ends or `_unlock` is called.

    Returns:
        The lock, or None where the operating system or the file system has no locks.

    Raises:
        BlockingIOError: another process, or another call in this one, holds the lock.
        FileNotFoundError: the file or folder no longer exists.
    """
    if fcntl is None:
        return None
    try:
        lock = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except PermissionError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The previous holder of the lock may have removed or replaced it.
        if not os.path.samestat(os.fstat(lock), os.stat(path)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    except (BlockingIOError, FileNotFoundError):
        os.close(lock)
        raise
    except OSError:
        os.close(lock)
        return None
    return lock


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _unused(parent: Path) -> Path:
    # The name does not contain that of the result, which may already have the greatest length.
    return parent / f".polyrefuse-{uuid.uuid4().hex}.partial"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
