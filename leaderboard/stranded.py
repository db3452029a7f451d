"""Recover what a killed build of an earlier version left beside a leaderboard's folder.

Those versions moved the older folder away, the new one to its place, and then the user's own files
from the one to the other. Killed in between, they left the user's files in a hidden folder.
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
        folder: is there; empty where the killed build had moved all of it away.

    Raises:
        OSError: the disk refuses.
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
    """Whether a hidden folder was left by a build of this leaderboard."""
    if re.fullmatch(rf"\.{re.escape(folder.name)}\.\d+\.(old|new)", path.name):
        return True
    if not re.fullmatch(r"\.polyrefuse-.+\.old", path.name) or not is_ours(path / MARK):
        return False
    # The last of those versions did not put the folder's name into this one.
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
    """Move what is not in `folder`; the leaderboard's own files only where it has none."""
    gone = not is_ours(folder / MARK)
    names = set(names_of_ours(old))
    # `leaderboard.json` first: by it the folder is known again, should this be killed too.
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
    """Remove what a killed build left, unless there is still something in it that is not ours."""
    ours = set(names_of_ours(left))
    files = {path.relative_to(left).as_posix() for path in left.rglob("*") if not path.is_dir()}
    if files <= ours and all(is_ours(left / name) for name in files):
        shutil.rmtree(left, ignore_errors=True)
    else:
        logger.warning(
            "A killed build of an earlier version left %s, which has files in it that are in the "
            "leaderboard's folder as well: take what you need, and remove it.",
            left,
        )
