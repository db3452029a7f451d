"""The folder of the tasks' YAML: `task_configs/` of a checkout, or the installed copy."""

from importlib.util import find_spec
from pathlib import Path

PACKAGE = "polyrefuse_task_configs"
"""The installed name of `task_configs/`."""


def task_folder() -> Path:
    """Return the folder, in a normal or an editable installation.

    Raises:
        ModuleNotFoundError: the folder is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{PACKAGE} is not installed; install lm-eval-polyrefuse again.")
    return Path(spec.origin).parent
