"""The versions that a result or an artifact was made with."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("lm-eval-polyrefuse", "lm_eval", "transformers", "torch", "datasets")


def versions() -> dict[str, str]:
    """Of Python and of each package that can change a number; "unknown" where not installed."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
