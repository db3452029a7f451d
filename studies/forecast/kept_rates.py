"""What a probe measured, kept in the user's cache, so that the next plan does not probe again."""

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
"""Where they are, in the data cache."""

FORMAT = 2
"""Of what is kept; with another number all are measured anew."""

SETTINGS = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
"""Of the environment, which decide what a process computes on."""


def key(jobs: Sequence[Placed], settings: Any) -> str:
    """What the probe of a model is kept under: all that decides its result, on this machine.

    Args:
        jobs: of the model.
        settings: of the study, in values that JSON can hold.
    """
    content = [
        FORMAT,
        settings,
        os.uname().nodename,
        {name: os.environ.get(name) for name in SETTINGS},
        # Its weights and the versions are in each job's key; the rest is what is asked.
        [one.key for one in jobs],
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read(name: str) -> dict[str, Any]:
    """What was kept; empty where nothing was, or nothing that can be read."""
    return read_json(_file(name))


def keep(name: str, measured: dict[str, Any]) -> None:
    """Keep what was measured; where that is not possible, the next plan measures again."""
    with suppress(CannotWrite):
        write_whole(_file(name), json.dumps(measured) + "\n")


def _file(name: str) -> Path:
    return cache.cache() / FOLDER / f"{name}.json"
