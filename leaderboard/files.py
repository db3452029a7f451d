"""Text files that appear on disk whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from polyrefuse_tasks.errors import UserError


class CannotWrite(UserError):
    """A file that the disk refuses."""


def write_whole(path: Path, text: str) -> None:
    """Write a file in UTF-8, or leave what was there; parents are made.

    Raises:
        CannotWrite: the disk refuses.
    """
    # Hidden, of this process alone, and of a name that fits wherever the file's own does.
    draft = path.parent / f".polyrefuse-{os.getpid()}.partial"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_text(text, encoding="utf-8")
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


def _cannot(path: Path, error: OSError) -> CannotWrite:
    reason = error.strerror or error
    return CannotWrite(f"{path} cannot be written ({reason}); name another or make room.")
