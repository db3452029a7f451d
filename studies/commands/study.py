"""`polyrefuse study`: init, plan and run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.options import Json, count_option, show
from polyrefuse_shared.printing import clean
from polyrefuse_shared.writing import CannotWrite, cannot_write, write_whole

app = typer.Typer(no_args_is_help=True, help="Run a whole study from one file.")

File = Annotated[Path, typer.Argument(metavar="STUDY", help="The study's YAML file.")]


class Kind(str, Enum):
    """What `--executor` may be."""

    local = "local"
    ray = "ray"
    slurm = "slurm"


Output = Annotated[Path, typer.Option("--output", help="The study's folder.")]


@app.command()
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new YAML file.")] = Path(
        "study.yaml"
    ),
) -> None:
    """Write a commented file to start from."""
    from polyrefuse_studies.example import EXAMPLE

    try:
        file.lstat()
    except FileNotFoundError:
        write_whole(file, EXAMPLE)
    except (OSError, ValueError) as error:
        raise cannot_write(file, error) from None
    else:
        raise CannotWrite(f"{file} exists already; name a new file or remove it.")
    print(f"{file}: edit it, then `polyrefuse study plan {file}`")


@app.command()
def plan(
    file: File,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="The study's folder, to see what is finished in it."),
    ] = None,
    probe: Annotated[
        bool | None,
        typer.Option(
            "--probe/--no-probe",
            help="Load each model and measure it for some seconds, for the estimate of time. By "
            "default what was measured before on this machine is taken where there is something.",
            show_default=False,
        ),
    ] = None,
    slots: Annotated[
        int, count_option("--slots", help="Jobs at a time, on as many devices, for the estimate.")
    ] = 1,
    as_json: Json = False,
) -> None:
    """Print a study's jobs: what each waits for, how much it asks, and about how long it takes.

    Nothing is downloaded: what is not on this machine is not known, and left out of the sums.
    """
    from polyrefuse_studies.folder import StudyFolder
    from polyrefuse_studies.forecast import forecast
    from polyrefuse_studies.forecast_text import lines

    study, jobs = _jobs(file, output)
    folder = None if output is None else StudyFolder(output)
    finished = {one.job.name for one in jobs if folder is not None and folder.is_finished(one)}
    found = forecast(
        study, jobs, finished, probe, lambda what: print(what, file=sys.stderr, flush=True)
    )
    rows = [
        {
            "name": entry.placed.job.name,
            "kind": entry.placed.job.kind,
            "needs": list(entry.placed.job.needs),
            "tasks": len(entry.placed.job.tasks),
            "key": entry.placed.key,
            "finished": entry.finished,
            "command": entry.placed.typed,
            **entry.document(),
        }
        for entry in found.entries
    ]
    document = {
        "study": study.study,
        "jobs": rows,
        "total": found.totals(slots),
        "probes": found.probes,
    }
    show(as_json, document, *map(clean, lines(found, slots)))


@app.command()
def run(
    file: File,
    output: Output,
    devices: Annotated[
        str | None,
        typer.Option(
            help="Numbers of the GPUs to use, with commas; all by default. Each runs a process."
        ),
    ] = None,
    slots: Annotated[
        int, count_option("--slots", help="Processes at a time where there is no GPU.")
    ] = 1,
    executor: Annotated[
        Kind,
        typer.Option(
            help="Where jobs run: on this machine, on a Ray cluster (the extra ray), or on a Slurm "
            "cluster (the extra slurm). Every machine has to see the study's folder."
        ),
    ] = Kind.local,
    ray_address: Annotated[
        str | None,
        typer.Option(help="Of the Ray cluster, such as auto; a local one by default."),
    ] = None,
    slurm_parameters: Annotated[
        str | None,
        typer.Option(
            help="A JSON object of submitit's parameters, such as "
            '\'{"timeout_min": 600, "slurm_partition": "gpu"}\'.'
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the jobs of a study that are not finished, and write its report.

    After an interruption of any kind the same command goes on.
    """
    from polyrefuse_studies import report
    from polyrefuse_studies.folder import StudyFolder
    from polyrefuse_studies.runner import run as run_jobs

    if any(sign in os.path.abspath(output) for sign in ",="):
        raise UserError(
            f"lm_eval takes no path with a comma or an equals sign in it: {output}; name another."
        )
    study, jobs = _jobs(file, output)
    folder = StudyFolder(output)
    where = _executor(executor, output, devices, slots, ray_address, slurm_parameters)
    with folder.taken(study.study):
        write_whole(folder.path / "study.yaml", file.read_text(encoding="utf-8"))
        done = [0]

        def told(what: str, one: Any) -> None:
            done[0] += what != "starts"
            count = f"{done[0]}/{len(jobs)}"
            print(f"[{count}] {what}: {one.job.name}\n    {one.typed}", file=sys.stderr, flush=True)

        outcome = run_jobs(jobs, folder, where, told)
        document = report.summary(study, jobs, outcome)
        # The site shows what became of each job, so that the summary is there before it.
        report.write_summary(folder, document)
        names = folder.path / "names.json"
        write_whole(names, json.dumps(_names(study, file)) + "\n")
        code, said = report.build_site(folder, jobs, names.relative_to(folder.path))
        document["site"] = {"exit": code, "said": said}
        report.write_summary(folder, document)
    lines = [
        f"{len(outcome.finished_before)} jobs were finished before, {len(outcome.finished)} are "
        f"finished now, {len(outcome.failed)} failed, {len(outcome.waiting)} were not begun"
    ]
    for row in document["jobs"]:
        if row["state"] == "failed":
            lines += [f"{row['name']} failed: {_last(row['said'])}", f"    {row['command']}"]
        elif row["state"] == "not begun":
            lines.append(f"{row['name']} was not begun: {row['because']}")
    lines.append(said.splitlines()[-1] if said else "")
    show(as_json, document, *map(clean, lines))
    if outcome.failed or code:
        raise typer.Exit(1)


def _executor(
    kind: Kind,
    output: Path,
    devices: str | None,
    slots: int,
    ray_address: str | None,
    slurm_parameters: str | None,
) -> Any:
    """Where the jobs run.

    Raises:
        UserError: an option belongs to another executor, or it cannot be used.
    """
    for option, given, of in (
        ("--devices", devices, Kind.local),
        ("--ray-address", ray_address, Kind.ray),
        ("--slurm-parameters", slurm_parameters, Kind.slurm),
    ):
        if given is not None and kind != of:
            raise UserError(f"{option} is for --executor {of.value}, and not for {kind.value}.")
    if kind == Kind.ray:
        from polyrefuse_studies.executors.ray import Ray

        return Ray(ray_address, slots=slots)
    if kind == Kind.slurm:
        from polyrefuse_studies.executors.slurm import Slurm, parse

        return Slurm(output / "slurm", parameters=parse(slurm_parameters))
    from polyrefuse_studies.executors.local import Local, find_devices

    return Local(find_devices(devices), slots)


def _jobs(file: Path, output: Path | None) -> tuple[Any, Sequence[Any]]:
    """The study of a file, and its jobs with their folders."""
    from polyrefuse_studies import models, plan, schema
    from polyrefuse_studies.folder import read
    from polyrefuse_studies.jobs import place

    from polyrefuse_shared.versions import versions

    study = schema.read(file)
    beside = file.resolve().parent
    cache = None if output is None else output / "checksums.json"
    known: dict[str, str] = {} if cache is None else read(cache)
    before = len(known)
    identities = models.identities(study.models, beside, known)
    if cache is not None and output is not None and output.is_dir() and len(known) > before:
        write_whole(cache, json.dumps(known) + "\n")
    rests_on = {name: {**of, "versions": versions()} for name, of in identities.items()}
    return study, place(plan.jobs(study, beside, rests_on))


def _names(study: Any, file: Path) -> dict[str, str]:
    """What the leaderboard calls models that are folders."""
    folders = {
        name: file.resolve().parent / Path(model.pretrained).expanduser()
        for name, model in study.models.items()
    }
    return {str(path.resolve()): name for name, path in folders.items() if path.is_dir()}


def _last(said: str) -> str:
    return said.splitlines()[-1] if said else ""
