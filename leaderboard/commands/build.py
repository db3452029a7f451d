"""`polyrefuse leaderboard`: build, check, power, published."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from polyrefuse_leaderboard.commands import check as gate_cli

from polyrefuse_shared.options import Json

if TYPE_CHECKING:
    from polyrefuse_leaderboard.page.paging import Leaderboard
    from polyrefuse_leaderboard.reading.runs import Reading

app = typer.Typer(
    no_args_is_help=True, help="Turn results into tables and pages, and hold them to a baseline."
)

Site = Annotated[
    Path,
    typer.Option("--output", help="Folder of the pages: a new one, or an older leaderboard's."),
]


@app.command()
def build(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULTS...", help="Folders that lm_eval wrote into.")
    ],
    output: Site,
    include_samples: Annotated[
        bool,
        typer.Option(
            "--include-samples",
            help="Write the answers, harmful ones too, into samples.jsonl beside the pages.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a leaderboard of results: HTML, Markdown, LaTeX, CSV, JSON, and pictures."""
    from polyrefuse_leaderboard import model_rows as models
    from polyrefuse_leaderboard import rates, site, transfers, warnings
    from polyrefuse_leaderboard.page.paging import Leaderboard
    from polyrefuse_leaderboard.reading.results import read

    # Everything that is read is kept until the end: looking for garbage would double the time.
    gc.disable()
    # What can be wrong with the folder is told before reading, which may take a minute.
    site.require_writable(output)
    # A folder of a transfer report lacks no results, unless nothing else was named.
    others = [path for path in results if not transfers.is_report(path)]
    reading = read(others or results, include_samples=include_samples)
    matrices, unusable = transfers.read_transfers(results)
    records = rates.records(reading)
    if include_samples:
        print(
            f"polyrefuse: warning: {site.SAMPLES} holds the models' answers, harmful ones too; do "
            "not publish it.",
            file=sys.stderr,
        )
    shown = Leaderboard(
        title="Refusal safety by language",
        records=records,
        rows=models.rows(records, reading),
        transfers=matrices,
        warnings=warnings.of(reading, records, matrices),
        problems=(*reading.problems, *unusable),
        notes=reading.notes,
        samples=_samples(reading) if include_samples else None,
    )
    _write(shown, output, as_json)


app.command()(gate_cli.check)
app.command()(gate_cli.power)


@app.command()
def published(
    tables: Annotated[
        list[Path],
        typer.Argument(
            metavar="CSV...", help="baseline_evaluations.csv and harm_ablation_evaluations.csv."
        ),
    ],
    output: Site,
    condition: Annotated[
        str | None,
        typer.Option(help="Of all the files: baseline or ablation; by default from their names."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the leaderboard of arXiv 2505.17306 from its published tables."""
    from polyrefuse_leaderboard import model_rows as models
    from polyrefuse_leaderboard import published, site
    from polyrefuse_leaderboard.page.paging import Leaderboard

    site.require_writable(output)
    records = published.read_published(tables, condition)
    shown = Leaderboard(
        title="Refusal Direction is Universal Across Safety-Aligned Languages: the published table",
        records=records,
        rows=models.rows(records),
        warnings=published.warnings(records),
        sources=published.sources(tables, condition),
    )
    _write(shown, output, as_json)


def _write(shown: Leaderboard, output: Path, as_json: bool) -> None:
    from polyrefuse_leaderboard.site import write_site

    for problem in shown.problems:
        print(f"polyrefuse: left out: {problem}", file=sys.stderr)
    for warning in shown.warnings:
        print(f"polyrefuse: warning: {warning.sentence}", file=sys.stderr)
    for note in shown.notes:
        print(f"polyrefuse: note: {note}", file=sys.stderr)
    files = write_site(output, shown)
    told = {
        "output": str(output),
        "files": files,
        "records": len(shown.records),
        "models": len({record.model for record in shown.records}),
        "warnings": [warning.sentence for warning in shown.warnings],
        "problems": list(shown.problems),
        "notes": list(shown.notes),
    }
    if as_json:
        print(json.dumps(told, ensure_ascii=False))
    else:
        print(f"{output / 'index.html'}: {told['records']} records of {told['models']} models")


def _samples(reading: Reading) -> Iterator[dict[str, Any]]:
    """A line of samples.jsonl for each answer."""
    for run in reading.runs:
        for cell in run.cells:
            for response in cell.responses or ():
                yield {
                    "model": run.model,
                    "condition": run.condition,
                    "dataset": cell.dataset,
                    "language": cell.language,
                    "judge": cell.judge,
                    "run": run.run,
                    "id": response.id,
                    "response": response.text,
                }
