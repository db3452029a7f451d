"""The environment of the processes that a study starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

FOLDERS = (
    *("POLYREFUSE_DATA_DIR", "POLYREFUSE_CACHE_DIR", "XDG_CACHE_HOME", "TORCH_HOME"),
    *("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ASSETS_CACHE", "HF_XET_CACHE"),
    *("HF_DATASETS_CACHE", "HF_MODULES_CACHE", "HF_TOKEN_PATH", "LM_HARNESS_CACHE_PATH"),
)
"""Variables that name a folder or a file. A relative path starts where the study was started, but a
job runs in another folder."""

OWN_MODULES = {"PYTHONSAFEPATH": "1"}
"""Keeps `python -m` and `python -c` from looking for modules first in the folder where the study
was started, where they might find a user's `random.py`. Python 3.10 does not have it."""


def of_a_job() -> dict[str, str]:
    """Return the environment of this process, for a process that runs in another folder."""
    # The commands of the environment that runs the study come first on the path.
    own = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": f"{own}{os.pathsep}{os.environ.get('PATH', '')}"}
    for name in FOLDERS:
        value = environment.get(name, "")
        # The libraries themselves expand a user's folder and variables.
        if value and not value.startswith(("~", "$")):
            environment[name] = os.path.abspath(value)
    if modules := environment.get("PYTHONPATH"):
        folders = map(os.path.abspath, modules.split(os.pathsep))
        environment["PYTHONPATH"] = os.pathsep.join(folders)
    return environment
