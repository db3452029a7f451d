"""Speeds that a probe measured, kept in the user's cache so that the next plan does not probe."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from polyrefuse_studies.folder import read as read_json
from polyrefuse_studies.jobs import Placed

from polyrefuse_shared.writing import CannotWrite, write_whole
from polyrefuse_tasks.data import cache

FOLDER = "probes"
"""The folder in the data cache."""

FORMAT = 2
"""The version of the kept speeds. If it changes, everything is measured again."""

SETTINGS = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
"""Environment variables that decide on which device and with how many threads a process runs."""


def key(jobs: Sequence[Placed], settings: Any) -> str:
    """Return the key of a model's probe: a checksum of all that decides its result here.

    Args:
        jobs: the jobs of the model.
        settings: settings of the study, as values that JSON can hold.
    """
    content = [
        FORMAT,
        settings,
        os.uname().nodename,
        {name: os.environ.get(name) for name in SETTINGS},
        # The keys of the jobs cover the weights and the versions.
        [one.key for one in jobs],
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read(name: str) -> dict[str, Any]:
    """Return what was kept, or an empty dictionary if nothing was kept or it cannot be read."""
    return read_json(_file(name))


def keep(name: str, measured: dict[str, Any]) -> None:
    """Keep what was measured. If that is not possible, the next plan measures again."""
    with suppress(CannotWrite):
        write_whole(_file(name), json.dumps(measured) + "\n")


def _file(name: str) -> Path:
    return cache.cache() / FOLDER / f"{name}.json"
