"""Files and folders that appear on disk whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from polyrefuse_shared.errors import UserError


class CannotWrite(UserError):
    """A file or a folder that is there already, or cannot be made or written to."""


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, text in UTF-8, or leave what was there; parents are made.

    Raises:
        CannotWrite: the disk refuses.
    """
    draft = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_bytes(content.encode() if isinstance(content, str) else content)
            os.replace(draft, path)
        finally:
            # Nothing to remove where it has become the file.
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot(path, error) from None


def append(path: Path, text: str) -> None:
    """Add to the end of a file in UTF-8, which others may have written to; it is made if missing.

    Raises:
        CannotWrite: the disk refuses.
    """
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise _cannot(path, error) from None


def require_new(folder: Path) -> None:
    """Refuse, before work that may take hours, a folder that its result could not be written to.

    Parents are made, and a draft is made and removed.

    Raises:
        CannotWrite: `folder` exists already, even as a dangling link, or cannot be made.
    """
    _draft(folder).rmdir()


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A draft to write into, which takes the name of `folder` when the block ends well.

    Raises:
        CannotWrite: as `require_new`, and where the disk fails, or is full, in the block.
    """
    draft = _draft(folder)
    try:
        yield draft
        os.replace(draft, folder)
    except OSError as error:
        raise _cannot(folder, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def replaced_folder(folder: Path, kept: Callable[[Path], Iterable[Path]]) -> Iterator[Path]:
    """A draft to write into, which takes the place of `folder` when the block ends well.

    Where the block or the disk fails, `folder` stays as it was.

    Args:
        folder: need not be there; links to it are followed.
        kept: called with the older folder, yields the files and folders in it that do not belong
            to what is replaced: each is moved to its place in the new one.

    Raises:
        CannotWrite: the disk fails, or is full.
    """
    folder = folder.resolve()
    draft, old = _beside(folder), _beside(folder, "old")
    try:
        draft.mkdir(parents=True)
        yield draft
        if folder.exists():
            os.replace(folder, old)
            try:
                os.replace(draft, folder)
            except BaseException:
                os.replace(old, folder)
                raise
            for path in kept(old):
                target = folder / path.relative_to(old)
                target.parent.mkdir(exist_ok=True)
                os.replace(path, target)
            shutil.rmtree(old)
        else:
            os.replace(draft, folder)
    except OSError as error:
        raise _cannot(folder, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _draft(folder: Path) -> Path:
    """A new empty folder beside `folder`, hidden and of this call alone."""
    try:
        if folder.is_symlink() or folder.exists():
            raise CannotWrite(f"{folder} exists already; name a new folder or remove it.")
        draft = _beside(folder)
        if not draft.parent.exists():
            draft.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
    except OSError as error:
        raise _cannot(folder, error) from error
    return draft


def _beside(path: Path, ending: str = "partial") -> Path:
    """A hidden name beside `path` that nobody has, and that fits wherever the path's own does.

    Two threads may write the same file at once, and a killed process leaves its draft to one that
    gets its number again.
    """
    return path.parent / f".polyrefuse-{uuid.uuid4().hex}.{ending}"


def _cannot(path: Path, error: Exception) -> CannotWrite:
    reason = getattr(error, "strerror", None) or error
    return CannotWrite(f"{path} cannot be written ({reason}); name another or make room.")
