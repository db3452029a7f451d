"""Show how to repeat the measurements of a card: versions, checksums, settings and commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from polyrefuse_leaderboard.card.parts import CardTable, Command, Section
from polyrefuse_leaderboard.card.study import StudyJob, StudySummary
from polyrefuse_leaderboard.card.subjects import Measured, date_of

CHECKSUMS = ("direction_sha256", "prompt_sha256", "system_sha256")
"""The settings of a run that identify what its intervention was made of."""


def section(
    study: StudySummary, model: str, measured: Measured, hide: Callable[[str], str]
) -> Section:
    """List versions, checksums and commands.

    Args:
        study: the study.
        model: the study's name for the model.
        measured: what was measured of the model.
        hide: removes the paths of this machine from a sentence.
    """
    jobs = study.of(model)
    return Section(
        "How to repeat the measurements",
        text=(
            "Run the commands below in the study's folder in this order, or run all of them with "
            f"polyrefuse study run and the file of the study {study.study}. Paths are not shown: "
            "replace the name of a model by its path or its name on the hub.",
        ),
        tables=tuple(
            table
            for table in (
                _versions(study),
                _weights(jobs),
                CardTable(
                    "Runs",
                    ("condition", "run", "revision", "intervention", "made from", "seed"),
                    tuple(_runs(measured)),
                ),
                CardTable("Prompts", ("file", "SHA-256"), tuple(_prompts(measured))),
            )
            if table.rows
        ),
        commands=tuple(Command(f"{job.name} ({job.state})", hide(job.command)) for job in jobs),
    )


def _versions(study: StudySummary) -> CardTable:
    return CardTable("Versions", ("package", "version"), tuple(sorted(study.versions.items())))


def _weights(jobs: list[StudyJob]) -> CardTable:
    """Return the commit or the checksum of the weights, which all jobs of a model share."""
    found = {
        str(job.rests_on["model"]): None
        for job in jobs
        if isinstance(job.rests_on.get("model"), str)
    }
    rows = (tuple(one.partition(":")[::2]) for one in found)
    return CardTable("Weights", ("identified by", "checksum"), tuple(rows))


def _runs(measured: Measured) -> Iterator[tuple[str, ...]]:
    order = {date: place for place, date in enumerate(measured.names)}
    for run in sorted(measured.runs, key=lambda run: order[date_of(run.run)]):
        made_of = [
            f"{name.removesuffix('_sha256')} {str(run.settings[name])[:12]}"
            for name in CHECKSUMS
            if run.settings.get(name)
        ]
        if run.settings.get("rank"):
            made_of.append(f"rank {str(run.settings['rank'])[:12]}")
        yield (
            measured.names[date_of(run.run)],
            run.run,
            run.revision or "-",
            run.intervention or "-",
            ", ".join(made_of) or "-",
            _seed(run.settings),
        )


def _seed(settings: Any) -> str:
    return str(settings.get("random_seed", "-"))


def _prompts(measured: Measured) -> Iterator[tuple[str, str]]:
    files = {
        (file, digest)
        for run in measured.runs
        for cell in run.cells
        for file, digest in cell.data_sha256.items()
    }
    yield from sorted(files)
