"""Measure what the start-up hook costs an interpreter that never imports lm_eval.

    python benchmarks/autoload.py

The program makes two virtual environments that contain our compiled package, one with the `.pth`
file and one without it. It starts their interpreters in turn and prints medians in milliseconds.
The hook may cost at most 2 ms.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
import venv
from ast import literal_eval
from pathlib import Path

ROOT = Path(__file__).parent.parent
RUNS = 101
# A test harness may have turned off byte code or the hook, which would change the measurement.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "POLYREFUSE_AUTOLOAD")
}


def hook_line() -> str:
    """Return the line of the `.pth` file.

    The line is read from setup.py, so that the timed line is the installed one.
    """
    source = (ROOT / "setup.py").read_text()
    return literal_eval(re.search(r"^LINE = (\(.*?^\))", source, re.M | re.S).group(1))


def make_environment(folder: Path, line: str | None) -> Path:
    """Make a virtual environment with our package, and with the hook if `line` is given.

    Returns:
        The path of its interpreter.
    """
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    shutil.copytree(ROOT / "polyrefuse_models", packages / "polyrefuse_models")
    if line:
        (packages / "polyrefuse.pth").write_text(line)
    python = folder / "bin/python"
    subprocess.run([python, "-m", "compileall", "-q", packages], check=True, env=ENVIRONMENT)
    return python


def run(python: Path, code: str = "pass") -> tuple[float, str]:
    """Run one interpreter and return its wall time in ms and what it printed."""
    start = time.perf_counter()
    done = subprocess.run(
        [python, "-c", code], check=True, capture_output=True, text=True, env=ENVIRONMENT
    )
    return 1e3 * (time.perf_counter() - start), done.stdout


def main() -> None:
    line = hook_line()
    timed = f"import time; t = time.perf_counter(); exec({line!r}); print(time.perf_counter() - t)"
    with tempfile.TemporaryDirectory() as folder:
        bare = make_environment(Path(folder, "bare"), None)
        hooked = make_environment(Path(folder, "hooked"), line)
        without, with_hook, inside = [], [], []
        for _ in range(RUNS):
            without.append(run(bare)[0])
            with_hook.append(run(hooked)[0])
            inside.append(1e3 * float(run(bare, timed)[1]))
    differences = [b - a for a, b in zip(without, with_hook, strict=True)]
    print(f"{RUNS} runs each, median ms")
    print(f"interpreter without the hook   {statistics.median(without):8.3f}")
    print(f"interpreter with the hook      {statistics.median(with_hook):8.3f}")
    print(f"difference, pair by pair       {statistics.median(differences):8.3f}   (bound: 2)")
    print(f"the line alone, inside         {statistics.median(inside):8.3f}   (bound: 2)")


if __name__ == "__main__":
    main()
