"""A process that counts the workload of a model's jobs, and measures how fast the model is here.

`python -m polyrefuse_studies.forecast.survey FOLDER` reads its task from the folder and writes the
result into it. It is a separate process, so that its memory is free afterwards. It uses no network:
nothing is downloaded for a plan, and the workload of prompts that are not on this machine is not
known.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyrefuse_studies.environment import OWN_MODULES
from polyrefuse_studies.folder import read as read_json
from polyrefuse_studies.jobs import Placed

from polyrefuse_models.workload import Workload
from polyrefuse_models.workload import read as read_workload
from polyrefuse_shared.errors import first_line
from polyrefuse_shared.writing import write_whole

if TYPE_CHECKING:
    from polyrefuse_studies.forecast.workload import Asked, Counter

ASKED, COUNTS, RATES, LOG = "asked.json", "counts.json", "rates.json", "log.txt"

ROWS = 16
"""The batch size of the probe if the study leaves it to lm-eval."""

PATIENCE = 900.0
"""The time after which counting and probing a model is given up, in seconds."""

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "POLYREFUSE_OFFLINE": "1"}


@dataclass(frozen=True)
class Survey:
    """What is known of a model's jobs.

    Attributes:
        workloads: the workload of each job by its name, or a clause that says why it is not known.
        harness: the seconds that lm-eval takes for a job without a model, by the job's name.
        rates: the measured speeds, as in `polyrefuse_models.wrappers.rates.Rates`, or a clause that
            says why there are none.
    """

    workloads: dict[str, Workload | str]
    harness: dict[str, float]
    rates: dict[str, Any] | str


def survey(
    jobs: Sequence[Placed], engine: str, batch_size: int | str, own: Sequence[str], probe: bool
) -> Survey:
    """Count the workload of one model's jobs, and probe the model.

    Args:
        jobs: the jobs of the model, each after those that it needs.
        engine: the engine of the study.
        batch_size: the batch size of the study.
        own: the names of the arguments with which every condition loads the model.
        probe: whether to measure the speed.
    """
    asked = {
        "jobs": [
            {
                "name": one.job.name,
                "kind": one.job.kind,
                "needs": one.job.needs,
                "command": one.command,
                "tasks": one.job.tasks,
            }
            for one in jobs
        ],
        "engine": engine,
        "rows": batch_size if isinstance(batch_size, int) else ROWS,
        "own": list(own),
        "probe": probe,
        "began": time.time(),
    }
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_whole(folder / ASKED, json.dumps(asked))
        ended = _run(folder)
        counts, rates = read_json(folder / COUNTS), read_json(folder / RATES)
    names = [one.job.name for one in jobs]
    found = {name: counts.get(name, ended or "it was not counted") for name in names}
    return Survey(
        {name: _workload(counted) for name, counted in found.items()},
        {name: _harness(counted) for name, counted in found.items()},
        rates.get("rates") or rates.get("reason") or ended or "no probe was asked for",
    )


def _workload(counted: Any) -> Workload | str:
    return read_workload(counted) if isinstance(counted, dict) else str(counted)


def _harness(counted: Any) -> float:
    return float(counted["harness"]) if isinstance(counted, dict) else 0.0


def _run(folder: Path) -> str | None:
    """Run the process, and return a clause about its end if it failed."""
    log = folder / LOG
    with log.open("wb") as output:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "polyrefuse_studies.forecast.survey", str(folder)],
                env=os.environ | OFFLINE | OWN_MODULES,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE,
            )
        except subprocess.TimeoutExpired:
            return f"it took more than {PATIENCE:.0f} seconds"
    if done.returncode == 0:
        return None
    lines = log.read_text(errors="replace").strip().splitlines()
    said = f": {lines[-1].strip()}" if lines else ""
    return f"the process that counts and probes ended with code {done.returncode}{said}"


# --- in the process


def work(folder: Path) -> None:
    """Count and save the result, then probe and save the result."""
    from polyrefuse_studies.forecast.workload import Asked, Counter, NotKnown

    from polyrefuse_models.wrappers.rates import import_what_jobs_import

    asked = read_json(folder / ASKED)
    jobs = [Asked(**{key: _tuple(value) for key, value in job.items()}) for job in asked["jobs"]]
    _begin_to_judge()
    light = time.time() - asked["began"]
    import_what_jobs_import()
    imports = time.time() - asked["began"]
    counter = Counter(jobs, timed=asked["probe"])
    counts: dict[str, Any] = {}
    for job in jobs:
        try:
            workload = counter.count(job)
            counts[job.name] = workload.document() | {"harness": counter.harness(job)}
        except NotKnown as reason:
            counts[job.name] = str(reason)
    write_whole(folder / COUNTS, json.dumps(counts))
    if not asked["probe"]:
        return
    try:
        rates = _probe(asked, jobs, counter, light, imports)
        write_whole(folder / RATES, json.dumps({"rates": rates}))
    except Exception as error:  # each of torch, transformers and vLLM raises its own
        said = first_line(error).rstrip(".")
        write_whole(folder / RATES, json.dumps({"reason": said}))


def _begin_to_judge() -> None:
    """Import and read what the native judge needs before its first label."""
    from polyrefuse_studies.options import APPS

    from polyrefuse_tasks.judges import label_responses

    importlib.import_module(APPS["judge"])
    label_responses(["The garden is open."], ["en"], ["When is it open?"])


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _probe(
    asked: Mapping[str, Any], jobs: Sequence[Asked], counter: Counter, light: float, imports: float
) -> dict[str, Any]:
    from polyrefuse_studies.forecast.workload import is_model, model_arguments
    from polyrefuse_studies.parameters import parameters

    from polyrefuse_models.wrappers import rates

    evaluations = [job for job in jobs if job.kind == "answers"]
    given = model_arguments(evaluations[0].command)
    arguments = {name: given[name] for name in ("pretrained", *asked["own"]) if name in given}
    judges = {parameters(job.command)["judge"] for job in jobs if job.kind == "judging"}
    prompts, limit = counter.prompts(evaluations)
    return rates.probe(
        f"baseline-{asked['engine']}",
        arguments,
        prompts,
        rows=asked["rows"],
        limit=limit or rates.TOKENS,
        judges=sorted({"native", *(judge for judge in judges if not is_model(judge))}),
        light=light,
        imports=imports,
    ).document()


if __name__ == "__main__":
    work(Path(sys.argv[1]))
