"""Check Chromium and playwright, which only the tests of the leaderboard's pages use."""

from __future__ import annotations

import importlib.util
import shutil

from polyrefuse_models.doctor.finding import Finding, State, pip_install


def chromium() -> Finding:
    """Check whether the tests in a browser can run."""
    name = "Chromium for the tests"
    path = shutil.which("chromium")
    if path is None:
        said = "not on PATH, so the tests in a browser are skipped"
        return Finding(name, State.WARNING, said, "sudo apt-get install chromium")
    if importlib.util.find_spec("playwright") is None:
        said = f"{path} is there, but playwright is not, so the tests in a browser are skipped"
        return Finding(name, State.WARNING, said, pip_install("playwright"))
    return Finding(name, State.OK, path)
