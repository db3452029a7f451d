"""Check whether lm-eval knows our models and tasks, by the hook or by the entry points."""

from __future__ import annotations

import importlib
import os
import site
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from polyrefuse_models import registration
from polyrefuse_models.doctor.finding import Finding, State, reinstall

HOOKS = ("polyrefuse.pth", "polyrefuse.start")
"""The files in site-packages that put the import hook in place (setup.py)."""


def plug_in() -> Finding:
    """Check whether lm-eval's registry has our models and its task manager scans our tasks."""
    models = sorted(set(registration.MODELS) - _known_models())
    tasks = _knows_tasks()
    why = f"{_hook()}; {_entry_points()}; {_autoload()}"
    if not models and tasks:
        return Finding("plug-in", State.OK, f"registered with lm_eval: {why}")
    absent = [f"{len(models)} of {len(registration.MODELS)} models"] if models else []
    absent += [] if tasks else ["the tasks"]
    # If the hook's file is there, nothing but the variable can have turned it off.
    is_off = os.environ.get("POLYREFUSE_AUTOLOAD") == "0" and _hook_files()
    mend = "unset POLYREFUSE_AUTOLOAD" if is_off else reinstall()
    said = f"not registered with lm_eval, which lacks {' and '.join(absent)}: {why}"
    return Finding("plug-in", State.MISSING, said, mend)


def _known_models() -> set[str]:
    """Return our models that lm-eval knows, by its registry or by entry points."""
    registry: Any = importlib.import_module("lm_eval.api.registry")
    importlib.import_module("lm_eval.models")
    if hasattr(registry, "load_plugins"):
        return {one.name for one in entry_points(group="lm_eval.models")}
    return {name for name in registration.MODELS if name in registry.model_registry}


def _knows_tasks() -> bool:
    manager: Any = importlib.import_module("lm_eval.tasks.manager")
    if hasattr(manager, "TASKS_ENTRY_POINT_GROUP"):
        return any(one.name == "polyrefuse" for one in entry_points(group="lm_eval.tasks"))
    # `registration.register_tasks` uses `functools.wraps`, which keeps the original.
    return hasattr(manager.TaskManager.__init__, "__wrapped__")


def _hook_files() -> list[Path]:
    folders = [*sys.path, *site.getsitepackages(), site.getusersitepackages()]
    found = (Path(folder or ".") / name for folder in dict.fromkeys(folders) for name in HOOKS)
    return [path for path in found if path.is_file()]


def _hook() -> str:
    files = _hook_files()
    if not files:
        return f"no hook ({' or '.join(HOOKS)}) in site-packages"
    active = any(isinstance(finder, registration._Finder) for finder in sys.meta_path)
    return f"the hook {files[0]} is {'active' if active else 'there but not active'}"


def _entry_points() -> str:
    ours = {one.name for one in entry_points(group="lm_eval.models")} & set(registration.MODELS)
    return f"{len(ours)} of {len(registration.MODELS)} entry points are installed"


def _autoload() -> str:
    given = os.environ.get("POLYREFUSE_AUTOLOAD")
    if given == "0":
        return "POLYREFUSE_AUTOLOAD=0 turns the hook off"
    return "POLYREFUSE_AUTOLOAD does not turn it off"
