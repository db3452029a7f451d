"""The report of a study: its leaderboard and a summary of every job."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polyrefuse_leaderboard.our_files import is_ours, names_of_ours
from polyrefuse_studies.environment import of_a_job
from polyrefuse_studies.folder import LOG, StudyFolder
from polyrefuse_studies.jobs import Placed
from polyrefuse_studies.plan import ANSWERS, LABELS, TRANSFER
from polyrefuse_studies.runner import Outcome
from polyrefuse_studies.schema import Study

from polyrefuse_shared.drafts import discard
from polyrefuse_shared.versions import versions
from polyrefuse_shared.writing import write_whole
from polyrefuse_tasks.saved_results.documents import is_number, part
from polyrefuse_tasks.saved_results.folders import find_results
from polyrefuse_tasks.saved_results.links import link, link_results
from polyrefuse_tasks.saved_results.tasks import read_results

SITE = "site"
RESULTS = "results"
"""The subfolder of a study's folder with links to the results of its finished jobs."""

SUMMARY = "summary.json"


def summary(study: Study, jobs: Sequence[Placed], outcome: Outcome) -> dict[str, Any]:
    """Return what became of each job, with the command that repeats it."""
    states: dict[str, dict[str, Any]] = {
        one.job.name: {"state": "finished"} for one in (*outcome.finished_before, *outcome.finished)
    }
    for one, ended in outcome.failed:
        states[one.job.name] = {
            "state": "failed",
            "exit": ended.get("exit"),
            "said": ended.get("said", "its process ended without a message"),
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
                "results": f"{RESULTS}/{Path(one.folder).name}",
                **states[one.job.name],
            }
            for one in jobs
        ],
    }


def write_summary(folder: StudyFolder, document: dict[str, Any]) -> None:
    """Write `document` as the study's summary.json, whole or not at all."""
    write_whole(folder.path / SUMMARY, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def assemble(folder: StudyFolder, jobs: Sequence[Placed]) -> Path:
    """Link the results of the finished jobs of the present study into one folder.

    The labels of the judges that the study names are beside each folder of answers.

    Returns:
        The folder, which has a subfolder for each job that asked a model.
    """
    results = folder.path / RESULTS
    discard(results)
    results.mkdir()
    finished = [one for one in jobs if folder.is_finished(one)]
    for one in finished:
        if one.job.kind in ("answers", "capability"):
            link_results([folder.job(one) / ANSWERS], results / Path(one.folder).name)
    answered = {one.job.name: results / Path(one.folder).name for one in finished}
    for one in finished:
        if one.job.kind == "judging":
            (asked,) = one.job.needs
            labels = folder.job(one) / LABELS
            for file in labels.rglob("judged_*"):
                link(file, answered[asked] / file.relative_to(labels))
    return results


def build_site(folder: StudyFolder, jobs: Sequence[Placed], names: Path) -> tuple[int, str]:
    """Write the leaderboard of all finished jobs with the command that a user would type.

    Returns:
        The exit code of the command, and its output.
    """
    if not any(assemble(folder, jobs).iterdir()):
        _remove_site(folder.path / SITE)
        return 0, "No job has written results yet."
    transfers = [
        f"{one.folder}/{TRANSFER}"
        for one in jobs
        if one.job.kind == "transfer" and folder.is_finished(one)
    ]
    command = [
        *(sys.executable, "-m", "polyrefuse", "leaderboard", "build", RESULTS, *transfers),
        *_capability(folder, jobs),
        *("--output", SITE, "--model-names", str(names), "--study", SUMMARY),
    ]
    done = subprocess.run(command, cwd=folder.path, env=of_a_job(), capture_output=True, text=True)
    return done.returncode, (done.stderr + done.stdout).strip()


def _remove_site(site: Path) -> None:
    """Remove a leaderboard of settings that the study no longer has."""
    for name in names_of_ours(site) if site.is_dir() else ():
        if is_ours(site / name):
            (site / name).unlink()


def _capability(folder: StudyFolder, jobs: Sequence[Placed]) -> list[str]:
    """Return the option that names the other tasks of lm-eval that were asked.

    Their names come from the results, because the file may give a pattern, a tag or a task's file.
    """
    answers = [
        folder.job(one) / ANSWERS
        for one in jobs
        if one.job.kind == "capability" and folder.is_finished(one)
    ]
    tasks = dict.fromkeys(
        name for file in find_results(answers, []) for name in shown_tasks(read_results(file))
    )
    return ["--capability", ",".join(tasks)] if tasks else []


def shown_tasks(document: Mapping[str, Any]) -> list[str]:
    """Return the groups and tasks with a value in a results file, without the members of a group.

    Args:
        document: the content of the results file.
    """
    results = part(document, "results", "the results")
    groups = document.get("group_subtasks") or {}
    valued = {
        name
        for name, entry in results.items()
        if any(
            is_number(value) for key, value in entry.items() if "," in key and "_stderr," not in key
        )
    }
    below = {name for group in valued for name in groups.get(group, ())}
    return [name for name in results if name in valued - below]
