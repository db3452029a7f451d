"""Recover what a killed build of an earlier version left beside a leaderboard's folder.

Those versions moved the older folder away, the new folder to its place, and then the user's own
files from the older folder to the new one. A build that was killed in between left the user's files
in a hidden folder.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from polyrefuse_leaderboard.our_files import MARK, is_ours, names_of_ours

from polyrefuse_shared.drafts import remove_stale
from polyrefuse_shared.log import logger


def recover(folder: Path) -> None:
    """Move the user's files back into a leaderboard's folder, and remove what is left.

    Args:
        folder: the folder, which must exist. It is empty if the killed build had moved everything
            away.

    Raises:
        OSError: a file cannot be moved.
    """
    folder = folder.resolve()
    try:
        beside = [path for path in sorted(folder.parent.iterdir()) if path.is_dir()]
    except OSError:
        return
    for path in beside:
        if path.is_symlink() or not _is_left(path, folder, beside):
            continue
        if path.name.endswith(".old"):
            _move_back(path, folder)
        _remove(path)
    remove_stale(folder.parent)


def _is_left(path: Path, folder: Path, beside: list[Path]) -> bool:
    """Return whether a build of this leaderboard left a hidden folder."""
    if re.fullmatch(rf"\.{re.escape(folder.name)}\.\d+\.(old|new)", path.name):
        return True
    if not re.fullmatch(r"\.polyrefuse-.+\.old", path.name) or not is_ours(path / MARK):
        return False
    # In the last of those versions, the hidden folder's name does not contain the folder's name.
    others = [one for one in beside if not one.name.startswith(".") and one != folder]
    if any(is_ours(other / MARK) for other in others):
        logger.warning(
            "A killed build of an earlier version moved a leaderboard's folder to %s: move your "
            "own files back and remove it.",
            path,
        )
        return False
    return True


def _move_back(old: Path, folder: Path) -> None:
    """Move the files that `folder` lacks. The leaderboard's files are moved only if it has none."""
    gone = not is_ours(folder / MARK)
    names = set(names_of_ours(old))
    # `leaderboard.json` is moved first. It marks the folder if this process is killed as well.
    for path in (old / MARK, *old.iterdir(), *old.glob("figures/*")):
        name = path.relative_to(old)
        target = folder / name
        if not os.path.lexists(path) or os.path.lexists(target):
            continue
        if gone or not (name.as_posix() in names and is_ours(path)):
            if name == Path("figures") and path.is_dir() and not path.is_symlink():
                target.mkdir()
            else:
                os.replace(path, target)


def _remove(left: Path) -> None:
    """Remove the folder that a killed build left, unless it still has files of the user."""
    ours = set(names_of_ours(left))
    files = {path.relative_to(left).as_posix() for path in left.rglob("*") if not path.is_dir()}
    if files <= ours and all(is_ours(left / name) for name in files):
        shutil.rmtree(left, ignore_errors=True)
    else:
        logger.warning(
            "A killed build of an earlier version left %s, which has files that are also in the "
            "leaderboard's folder: copy what you need, and remove it.",
            left,
        )
