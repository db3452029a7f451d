"""Check whether Python and the packages are installed, can be imported, and are tested versions."""

from __future__ import annotations

import importlib
import platform
import sys
from importlib.metadata import PackageNotFoundError, requires, version

from polyrefuse_models.doctor.finding import (
    DISTRIBUTION,
    Finding,
    State,
    pip_install,
    reinstall,
)
from polyrefuse_shared.versions import OLDEST_PYTHON, TRIED, TRIED_PYTHON


def python() -> Finding:
    """Check whether Python is new enough, and whether it is the version that CI uses."""
    seen, place = platform.python_version(), sys.executable
    if sys.version_info[:2] < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return Finding(
            "Python",
            State.MISSING,
            f"{seen} at {place}, but this package needs {oldest} or newer",
            f"conda create --name polyrefuse python={'.'.join(map(str, TRIED_PYTHON))}",
        )
    tested = ".".join(map(str, TRIED_PYTHON))
    state = State.OK if sys.version_info[:2] == TRIED_PYTHON else State.WARNING
    return Finding("Python", state, f"{seen} at {place} (tested: {tested})")


def package(name: str) -> Finding:
    """Check whether a package of `TRIED` is installed, can be imported, and is a tested version."""
    from packaging.version import Version

    oldest, newest = TRIED[name]
    tested = oldest if oldest == newest else f"{oldest} to {newest}"
    mend = pip_install(f"{name}=={newest}")
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(name, State.MISSING, f"not installed (tested: {tested})", mend)
    try:
        importlib.import_module(name)
    except Exception as error:
        return Finding(
            name,
            State.MISSING,
            f"{found} cannot be imported ({described(error)})",
            pip_install("--force-reinstall", "--no-deps", f"{name}=={found}"),
        )
    if Version(found) < Version(oldest):
        return Finding(name, State.MISSING, f"{found} is too old (tested: {tested})", mend)
    # A build such as 2.13.0+cu130 counts as the version 2.13.0.
    if Version(found).release > Version(newest).release:
        return Finding(
            name, State.WARNING, f"{found} is newer than the tested versions ({tested})", mend
        )
    return Finding(name, State.OK, f"{found} (tested: {tested})")


def requirements() -> Finding:
    """Check whether all required packages are installed, in versions that are allowed."""
    from packaging.requirements import Requirement

    name = "other packages"
    try:
        wanted = [Requirement(line) for line in requires(DISTRIBUTION) or ()]
    except PackageNotFoundError:
        return Finding(name, State.MISSING, f"{DISTRIBUTION} is not installed", reinstall())
    needed = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    lacking = {}
    for one in needed:
        try:
            found = version(one.name)
        except PackageNotFoundError:
            lacking[str(one)] = f"{one.name} is not installed"
        else:
            if not one.specifier.contains(found, prereleases=True):
                lacking[str(one)] = f"{one.name} {found} is not {one.specifier}"
    if lacking:
        said = "; ".join(lacking.values())
        return Finding(name, State.MISSING, said, pip_install(*lacking))
    return Finding(name, State.OK, f"all {len(needed)} required packages are installed")


def described(error: BaseException) -> str:
    """Return an exception's class and message in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
