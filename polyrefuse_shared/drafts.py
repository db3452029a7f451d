"""Drafts: hidden files and folders that become something else, or are removed.

A draft is locked while its writer lives. What a killed process left is known by its free lock, and
the next draft in the same folder removes it. Its name is unpredictable, so that two processes of
the same number, in two containers, are in nobody's way.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from polyrefuse_shared.errors import UserError

try:
    import fcntl
except ImportError:  # Windows has no such locks: no draft is taken for a stale one there.
    fcntl = None  # type: ignore[assignment]

PATTERN = ".polyrefuse-*.partial"


class Busy(UserError):
    """A folder that another process has locked."""


@contextmanager
def draft(parent: Path, make: Callable[[Path], object]) -> Iterator[Path]:
    """A new draft in a folder, which is removed at the end unless it was renamed.

    Args:
        make: makes the draft under the name that it is given: `Path.mkdir` or `Path.touch`.

    Raises:
        OSError: the folder does not exist or cannot be written to.
    """
    path, lock = _locked_draft(parent, make)
    try:
        # After it was made, so that there is a draft at any moment in a folder that has one.
        remove_stale(parent)
        yield path
    finally:
        _remove(path)
        _unlock(lock)


def make_folder(folder: Path) -> None:
    """Make a folder, and those that it is in, where they are missing.

    Raises:
        OSError: the disk refuses, or they are more than Python can make.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except RecursionError:
        raise OSError(errno.ENAMETOOLONG, "it is in too many folders", str(folder)) from None


def remove_stale(parent: Path) -> None:
    """Remove the drafts of dead processes from a folder."""
    for path in list(parent.glob(PATTERN)):
        with suppress(OSError):
            lock = _lock(path)
            if lock is not None:
                _remove(path)
                _unlock(lock)


def discard(folder: Path) -> None:
    """Remove a folder that another process may read: all of it disappears at once.

    What cannot be removed stays, and a missing folder is no error.
    """
    away = _unused(folder.parent)
    with suppress(OSError):
        os.replace(folder, away)
        _remove(away)


@contextmanager
def locked(folder: Path, *, patience: float) -> Iterator[None]:
    """Keep every other process that asks for the same out of a folder.

    Args:
        folder: is made where it is missing.
        patience: seconds to wait while another process has it.

    Raises:
        Busy: another process still has it.
        OSError: it cannot be made.
    """
    lock = _wait_for(folder, patience)
    try:
        yield
    finally:
        _unlock(lock)


@contextmanager
def alone(name: Path, *, patience: float) -> Iterator[None]:
    """Keep every other process that asks for the same name out, and no other one.

    Args:
        name: of a folder that stands for what is done, and is removed at the end; a hidden one.
        patience: seconds to wait while another process has it.

    Raises:
        Busy: another process still has it.
        OSError: it cannot be made.
    """
    lock = _wait_for(name, patience)
    try:
        yield
    finally:
        # Before it is unlocked, so that whoever waits for it makes another and does not lock this.
        with suppress(OSError):
            name.rmdir()
        _unlock(lock)


def _wait_for(folder: Path, patience: float) -> int | None:
    """Lock a folder, which is made where it is missing."""
    begun = time.monotonic()
    while True:
        make_folder(folder)
        try:
            return _lock(folder)
        except FileNotFoundError:
            # It was removed meanwhile, and is made again: nobody has it.
            waited = time.monotonic() - begun > max(patience, 1.0)
        except BlockingIOError:
            waited = time.monotonic() - begun >= patience
        if waited:
            raise Busy(
                f"Another process is writing to {folder}; wait for it, or name another folder."
            )
        time.sleep(0.05)


def _locked_draft(parent: Path, make: Callable[[Path], object]) -> tuple[Path, int | None]:
    while True:
        path = _unused(parent)
        make(path)
        # Another process may take it for a stale one, and remove it, before it is locked.
        with suppress(BlockingIOError, FileNotFoundError):
            return path, _lock(path)


def _lock(path: Path) -> int | None:
    """Lock a file or a folder, until the process ends or `_unlock` is called.

    Returns:
        None where the system, or the file system, knows no locks.

    Raises:
        BlockingIOError: another process, or another call of this one, has it locked.
        FileNotFoundError: it is not there any more.
    """
    if fcntl is None:
        return None
    try:
        lock = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except PermissionError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever had it locked before may have removed it, or put another in its place.
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
    # Not made from the name of what it becomes, which may be as long as a name can be.
    return parent / f".polyrefuse-{uuid.uuid4().hex}.partial"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
