"""Check whether the caches can be written to, and how much room is left."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from polyrefuse_models.doctor.finding import Finding, State

PROMPTS_GB = 0.1
"""The room for prompts, in GB. The published ones take 9 MB; a user's own add a few more."""

MODEL_GB = 16.0
"""The size of a model with 7B parameters in 16 bits, in GB."""


def own_cache() -> Finding:
    """Check the folder of downloaded prompts."""
    from polyrefuse_tasks.data import cache

    mend = 'export POLYREFUSE_CACHE_DIR="$HOME/polyrefuse-cache"'
    return _folder(
        "prompt cache", cache.cache(), PROMPTS_GB, "the prompts take", State.MISSING, mend
    )


def hub_cache() -> Finding:
    """Check the folder of the models that transformers downloads."""
    from huggingface_hub.constants import HF_HUB_CACHE

    mend = 'export HF_HOME="/path/on/a/larger/disk"'
    return _folder(
        "model cache", Path(HF_HUB_CACHE), MODEL_GB, "a 7B model takes", State.WARNING, mend
    )


def _folder(
    name: str, folder: Path, least: float, who_takes: str, small: State, mend: str
) -> Finding:
    """Check whether a folder, or the one that it will be made in, is writable and has room.

    Args:
        name: the name of the check.
        folder: the folder, which need not exist.
        least: the room that is needed, in GB.
        who_takes: what takes the room, with its verb, for the line.
        small: the state if the room is too small.
        mend: the command that fixes the problem.
    """
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Finding(name, State.MISSING, f"{folder} cannot be written to", mend)
    free = shutil.disk_usage(there).free / 1e9
    seen = f"{folder}, {free:.1f} GB free"
    if free < least:
        return Finding(name, small, f"{seen}, but {who_takes} about {least:g} GB", mend)
    return Finding(name, State.OK, seen)
