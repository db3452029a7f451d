"""`python -m benchmarks.real_model runs|stability|effects|tables|record FOLDER`."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.real_model import effects, runs, stability, tables
from polyrefuse_tasks.data.cache import cache
from tests.real.checkpoint import fetch

PAGE = Path(__file__).parent.parent.parent / "docs" / "real-model.md"

parser = argparse.ArgumentParser(prog="python -m benchmarks.real_model")
parser.add_argument("what", choices=["runs", "stability", "effects", "tables", "record"])
parser.add_argument("folder", type=Path)
asked = parser.parse_args()
asked.folder.mkdir(parents=True, exist_ok=True)
if asked.what == "tables":
    tables.write_into(PAGE, asked.folder)
elif asked.what == "record":
    tables.record(asked.folder, PAGE.with_suffix(""))
else:
    model = fetch(cache())
    {"runs": runs.evaluate, "stability": stability.measure, "effects": effects.measure}[asked.what](
        model, asked.folder
    )
