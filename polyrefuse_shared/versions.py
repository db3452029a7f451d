"""The versions that a result or an artifact was made with."""

import platform
from importlib.metadata import PackageNotFoundError, version

OLDEST_PYTHON = (3, 10)
"""The oldest Python that is allowed, as setup.cfg has it."""

TRIED_PYTHON = (3, 11)
"""The Python that CI uses."""

TRIED = {
    "lm_eval": ("0.4.13", "0.4.13"),
    "torch": ("2.6.0", "2.15.0"),
    "transformers": ("5.16.0", "5.24.0"),
}
"""The oldest and the newest version of each package that was tried, as setup.cfg has them."""

PACKAGES = ("lm-eval-polyrefuse", "lm_eval", "transformers", "torch", "datasets")


def versions() -> dict[str, str]:
    """Of Python and of each package that can change a number; "unknown" where not installed."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
