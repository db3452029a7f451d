"""`polyrefuse study`: init, plan and run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.options import Json, count_option, show
from polyrefuse_shared.printing import clean, counted
from polyrefuse_shared.writing import CannotWrite, cannot_write, write_whole

app = typer.Typer(
    no_args_is_help=True,
    help="Plan and run a whole study from one file.",
    epilog="Example: polyrefuse study init study.yaml",
)

File = Annotated[Path, typer.Argument(metavar="STUDY", help="The study's YAML file.")]


class Kind(str, Enum):
    """The values of `--executor`."""

    local = "local"
    ray = "ray"
    slurm = "slurm"


Output = Annotated[
    Path,
    typer.Option("--output", help="Folder of the study. It is made if it does not exist."),
]


@app.command(epilog="Example: polyrefuse study init study.yaml")
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Name of the new YAML file.")] = Path(
        "study.yaml"
    ),
) -> None:
    """Write a commented study file that you can edit."""
    from polyrefuse_studies.example import EXAMPLE

    try:
        file.lstat()
    except FileNotFoundError:
        write_whole(file, EXAMPLE)
    except (OSError, ValueError) as error:
        raise cannot_write(file, error) from None
    else:
        raise CannotWrite(f"{file} exists already; name a new file or remove it.")
    print(f"{file}: edit it, then run `polyrefuse study plan {file}`.")


@app.command(epilog="Example: polyrefuse study plan study.yaml --no-probe")
def plan(
    file: File,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="Folder of the study, in which the plan looks for finished jobs. Default: none; "
            "every job counts as unfinished.",
        ),
    ] = None,
    probe: Annotated[
        bool | None,
        typer.Option(
            "--probe/--no-probe",
            help="Whether to load each model and measure its speed for some seconds. Default: "
            "measure a model only if no earlier measurement on this machine was kept.",
            show_default=False,
        ),
    ] = None,
    slots: Annotated[
        int,
        count_option("--slots", help="Number of jobs at a time for which the time is estimated."),
    ] = 1,
    as_json: Json = False,
) -> None:
    """Print the jobs of a study: what each waits for, its number of prompts and estimated time.

    Nothing is downloaded. Jobs whose prompts or models are not on this machine are left out
    of the sums.
    """
    from polyrefuse_studies.folder import StudyFolder
    from polyrefuse_studies.forecast.forecast import forecast
    from polyrefuse_studies.forecast.text import lines

    study, jobs, _ = _jobs(file, output)
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


@app.command(epilog="Example: polyrefuse study run study.yaml --output study")
def run(
    file: File,
    output: Output,
    devices: Annotated[
        str | None,
        typer.Option(
            help="Numbers of the GPUs to use, separated by commas: 0,2. Each GPU runs one "
            "process. Default: all GPUs, or the processor if there is none."
        ),
    ] = None,
    slots: Annotated[
        int | None,
        count_option(
            "--slots",
            help="Number of processes to run at a time where there is no GPU. Default: 1.",
        ),
    ] = None,
    executor: Annotated[
        Kind,
        typer.Option(
            help="Where the jobs run: on this machine (local), on a Ray cluster (ray, which needs "
            "the extra ray) or on a Slurm cluster (slurm, which needs the extra slurm). Every "
            "machine must see the folder of the study."
        ),
    ] = Kind.local,
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="Address of the Ray cluster, for example auto for a running one. Default: start a "
            "local cluster."
        ),
    ] = None,
    slurm_parameters: Annotated[
        str | None,
        typer.Option(
            help="Parameters of submitit as a JSON object, for example "
            '\'{"timeout_min": 600, "slurm_partition": "gpu"}\'. Default: those of submitit.'
        ),
    ] = None,
    upload: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Send the folder of each finished job, and the report, to this fsspec address, "
            "for example s3://bucket/study. The folders contain the model's answers. Nothing is "
            "sent without this option.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the jobs of a study that are not finished, and write the report.

    After an interruption of any kind, the same command continues.
    """
    from polyrefuse_studies import report
    from polyrefuse_studies.folder import StudyFolder
    from polyrefuse_studies.names import report_names
    from polyrefuse_studies.runner import run as run_jobs
    from polyrefuse_studies.signals import ended_by_signals
    from polyrefuse_studies.upload import Upload

    if any(sign in os.path.abspath(output) for sign in ",="):
        raise UserError(
            f"lm_eval accepts no path with a comma or an equals sign: {output}; choose another."
        )
    study, jobs, files = _jobs(file, output)
    folder = StudyFolder(output)
    where = _executor(executor, output, devices, slots, ray_address, slurm_parameters)
    with ExitStack() as held:
        held.enter_context(where)
        held.enter_context(ended_by_signals())
        folder.require_free_for(study.study)
        sent = None if upload is None else Upload(upload, study.study, folder)
        held.enter_context(folder.taken(study.study))
        folder.keep_checksums(files.known)
        write_whole(folder.path / "study.yaml", file.read_text(encoding="utf-8"))
        finished = [one for one in jobs if folder.is_finished(one)]
        if sent is not None:
            for one in finished:
                sent.send(one)
        done = [len(finished)]

        def told(what: str, one: Any) -> None:
            done[0] += what != "starts"
            count = f"{done[0]}/{len(jobs)}"
            print(f"[{count}] {what}: {one.job.name}\n    {one.typed}", file=sys.stderr, flush=True)
            if what == "finished" and sent is not None:
                sent.send(one)

        outcome = run_jobs(jobs, folder, where, told)
        document = report.summary(study, jobs, outcome)
        # The site shows what became of each job, so the summary must be written before it.
        report.write_summary(folder, document)
        names = folder.path / "names.json"
        write_whole(names, json.dumps(report_names(study, jobs, file.resolve().parent)) + "\n")
        code, said = report.build_site(folder, jobs, names.relative_to(folder.path))
        document["site"] = {"exit": code, "said": said}
        report.write_summary(folder, document)
        unsent = [] if sent is None else _finish(sent, folder, document)
    lines = [
        f"jobs finished before: {len(outcome.finished_before)}, finished now: "
        f"{len(outcome.finished)}, failed: {len(outcome.failed)}, not begun: "
        f"{len(outcome.waiting)}"
    ]
    for row in document["jobs"]:
        if row["state"] == "failed":
            lines += [f"{row['name']} failed: {_last(row['said'])}", f"    {row['command']}"]
        elif row["state"] == "not begun":
            lines.append(f"{row['name']} was not begun: {row['because']}")
    lines.append(said.splitlines()[-1] if said else "")
    if sent is not None:
        at = counted(document["upload"]["jobs"], "job")
        lines += [f"at {sent.shown}: {at}", *unsent]
    show(as_json, document, *map(clean, lines))
    if outcome.failed or code or unsent:
        raise typer.Exit(1)


def _finish(sent: Any, folder: Any, document: dict[str, Any]) -> list[str]:
    """Wait until all jobs are sent, and send the report.

    Returns:
        One line for each thing that could not be sent, with the reason.
    """
    from polyrefuse_studies import report

    print(f"sending the rest to {sent.shown}", file=sys.stderr, flush=True)
    jobs = sent.wait()
    failed = [{"name": name, "said": said} for name, said in jobs.failed]
    document["upload"] = {"url": sent.shown, "jobs": jobs.there, "failed": failed}
    report.write_summary(folder, document)
    said = sent.send_report(folder.path / report.SITE, folder.path / report.SUMMARY)
    if said is not None:
        failed.append({"name": "the report", "said": said})
        report.write_summary(folder, document)
    return [
        f"{one['name']} was not sent to {sent.shown}, and the next run tries it again: "
        f"{one['said']}"
        for one in failed
    ]


def _executor(
    kind: Kind,
    output: Path,
    devices: str | None,
    slots: int | None,
    ray_address: str | None,
    slurm_parameters: str | None,
) -> Any:
    """Return the executor on which the jobs run.

    Raises:
        UserError: an option belongs to another executor, or the executor cannot be used.
    """
    for option, given, of in (
        ("--devices", devices, Kind.local),
        ("--ray-address", ray_address, Kind.ray),
        ("--slurm-parameters", slurm_parameters, Kind.slurm),
    ):
        if given is not None and kind != of:
            raise UserError(f"{option} is for --executor {of.value}, and not for {kind.value}.")
    if slots is not None and (kind == Kind.slurm or ray_address is not None):
        raise UserError(
            "--slots is only for this machine: a cluster runs as many jobs at a time as fit on it."
        )
    slots = slots or 1
    if kind == Kind.ray:
        from polyrefuse_studies.executors.ray import Ray

        return Ray(ray_address, slots=slots)
    if kind == Kind.slurm:
        from polyrefuse_studies.executors.slurm import Slurm, parse

        return Slurm(output / "slurm", parameters=parse(slurm_parameters))
    from polyrefuse_studies.executors.local import Local, find_devices

    return Local(find_devices(devices), slots)


def _jobs(file: Path, output: Path | None) -> tuple[Any, Sequence[Any], Any]:
    """Return the study of a file, its jobs with their folders, and the files that it names.

    Raises:
        UserError: something is wrong with the file, or with what it names.
    """
    from polyrefuse_studies import checks, plan, schema
    from polyrefuse_studies.arguments import arguments_of
    from polyrefuse_studies.files import Files
    from polyrefuse_studies.folder import StudyFolder
    from polyrefuse_studies.jobs import place
    from polyrefuse_studies.models import Identities

    study = schema.read(file)
    folder = None if output is None else StudyFolder(output)
    files = Files(file.resolve().parent, {} if folder is None else folder.checksums())
    with schema.in_file(file):
        checks.check(study, files)
        identities = Identities(files)
        identities.require(
            (f"{name}{under}", arguments_of(model, condition))
            for name, model in study.models.items()
            for under, condition in (
                ("", None),
                *((f" under {one!r}", of) for one, of in study.conditions.items()),
            )
        )
        jobs = plan.jobs(study, files, identities)
        placed = place(jobs, {} if folder is None else folder.made())
    return study, placed, files


def _last(said: str) -> str:
    return said.splitlines()[-1] if said else ""
