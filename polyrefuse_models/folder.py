"""Folders that appear on disk whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from polyrefuse_tasks.errors import UserError


class CannotWrite(UserError):
    """A folder that is there already, or cannot be made or written to."""


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
    except (OSError, SafetensorError) as error:
        raise _cannot(folder, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _draft(folder: Path) -> Path:
    """A new empty folder beside `folder`, hidden and of this process alone."""
    try:
        if folder.is_symlink() or folder.exists():
            raise CannotWrite(f"{folder} exists already; name a new folder or remove it.")
        draft = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
        if not draft.parent.exists():
            draft.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
    except OSError as error:
        raise _cannot(folder, error) from error
    return draft


def _cannot(folder: Path, error: Exception) -> CannotWrite:
    reason = getattr(error, "strerror", None) or error
    return CannotWrite(f"{folder} cannot be written ({reason}); name another or make room.")
