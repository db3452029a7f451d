"""What a study leaves for people: its leaderboard, and a summary of every job."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polyrefuse_studies.folder import LOG, StudyFolder
from polyrefuse_studies.jobs import Placed
from polyrefuse_studies.plan import ANSWERS, TRANSFER
from polyrefuse_studies.runner import Outcome
from polyrefuse_studies.schema import Study

from polyrefuse_shared.versions import versions
from polyrefuse_shared.writing import write_whole

SITE = "site"
SUMMARY = "summary.json"


def summary(study: Study, jobs: Sequence[Placed], outcome: Outcome) -> dict[str, Any]:
    """What became of each job, and the command to repeat it."""
    states: dict[str, dict[str, Any]] = {
        one.job.name: {"state": "finished"} for one in (*outcome.finished_before, *outcome.finished)
    }
    for one, ended in outcome.failed:
        states[one.job.name] = {
            "state": "failed",
            "exit": ended.get("exit"),
            "said": ended.get("said", "its process ended without a word"),
            "log": f"{one.folder}/{LOG}",
        }
    for one, failed in outcome.waiting:
        states[one.job.name] = {"state": "not begun", "because": f"{failed} failed"}
    return {
        "study": study.study,
        "versions": versions(),
        "jobs": [
            {
                "name": one.job.name,
                "kind": one.job.kind,
                "model": one.job.model,
                "key": one.key,
                "folder": one.folder,
                "needs": list(one.job.needs),
                "command": one.typed,
                "condition": one.job.condition,
                "rests_on": one.job.rests_on,
                **states[one.job.name],
            }
            for one in jobs
        ],
    }


def write_summary(folder: StudyFolder, document: dict[str, Any]) -> None:
    write_whole(folder.path / SUMMARY, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def build_site(folder: StudyFolder, jobs: Sequence[Placed], names: Path) -> tuple[int, str]:
    """Write the leaderboard of all finished jobs, by the command that a user would type.

    Returns:
        Its exit code, and what it said.
    """
    written = {"answers": ANSWERS, "transfer": TRANSFER}
    results = [
        f"{one.folder}/{written[one.job.kind]}"
        for one in jobs
        if one.job.kind in written and folder.is_finished(one)
    ]
    if not results:
        return 0, "No job has written results yet."
    command = [
        *(sys.executable, "-m", "polyrefuse", "leaderboard", "build", *results),
        *("--output", SITE, "--model-names", str(names), "--study", SUMMARY),
    ]
    done = subprocess.run(command, cwd=folder.path, capture_output=True, text=True)
    return done.returncode, (done.stderr + done.stdout).strip()
