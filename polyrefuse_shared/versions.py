"""The versions of software with which a result or an artifact was made."""

import platform
from importlib.metadata import PackageNotFoundError, version

OLDEST_PYTHON = (3, 10)
"""The oldest supported version of Python, as in setup.cfg."""

TRIED_PYTHON = (3, 11)
"""The version of Python that CI uses."""

TRIED = {
    "lm_eval": ("0.4.13", "0.4.13"),
    "torch": ("2.6.0", "2.15.0"),
    "transformers": ("5.16.0", "5.24.0"),
}
"""The oldest and the newest tested version of each package, as in setup.cfg."""

PACKAGES = ("lm-eval-polyrefuse", "lm_eval", "transformers", "torch", "datasets")


def versions() -> dict[str, str]:
    """Return the versions of Python and of each package that can change a number.

    The version of a package that is not installed is "unknown".
    """
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
