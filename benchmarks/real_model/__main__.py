"""Measure SmolLM2-135M-Instruct under every condition, for docs/explanation/real-model.md.

    export POLYREFUSE_DATA_DIR=DATA
    python -m benchmarks.real_model runs FOLDER        # evaluations: an hour on two cores
    python -m benchmarks.real_model stability FOLDER   # choices by seeds and halves: 40 minutes
    python -m benchmarks.real_model effects FOLDER     # KL divergence and perplexity: 15 minutes
    python -m benchmarks.real_model record FOLDER      # copy all but the answers to docs/real-model
    python -m benchmarks.real_model tables docs/real-model   # write its tables into the page
    python -m benchmarks.real_model picture docs/real-model  # photograph its leaderboard's table

Each measuring command continues where it was stopped. The others read the results that exist.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.real_model import effects, picture, runs, stability, tables
from polyrefuse_tasks.data.cache import cache
from tests.real.checkpoint import fetch

PAGE = Path(__file__).parent.parent.parent / "docs" / "explanation" / "real-model.md"

parser = argparse.ArgumentParser(prog="python -m benchmarks.real_model")
parser.add_argument("what", choices=["runs", "stability", "effects", "tables", "record", "picture"])
parser.add_argument("folder", type=Path)
asked = parser.parse_args()
asked.folder.mkdir(parents=True, exist_ok=True)
if asked.what == "tables":
    tables.write_into(PAGE, asked.folder)
elif asked.what == "picture":
    picture.draw(asked.folder)
elif asked.what == "record":
    tables.record(asked.folder, PAGE.parent.parent / "real-model")
else:
    model = fetch(cache())
    {"runs": runs.evaluate, "stability": stability.measure, "effects": effects.measure}[asked.what](
        model, asked.folder
    )
