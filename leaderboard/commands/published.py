"""The command `polyrefuse leaderboard published`: the leaderboard of a paper's tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from polyrefuse_leaderboard.commands.build import Output, write_pages

from polyrefuse_shared.options import Json


def published(
    tables: Annotated[
        list[Path],
        typer.Argument(
            metavar="CSV",
            help="The authors' tables: baseline_evaluations.csv and harm_ablation_evaluations.csv.",
        ),
    ],
    output: Output,
    condition: Annotated[
        str | None,
        typer.Option(
            help="Condition of all files: baseline or ablation. Default: taken from the file names."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the leaderboard of arXiv 2505.17306 from its published tables."""
    from polyrefuse_leaderboard import model_rows, site
    from polyrefuse_leaderboard.contents import Contents
    from polyrefuse_leaderboard.published import read_published, sources, warnings

    site.require_writable(output)
    records = read_published(tables, condition)
    contents = Contents(
        title="Refusal Direction is Universal Across Safety-Aligned Languages: the published table",
        records=records,
        rows=model_rows.rows(records),
        warnings=warnings(records),
        sources=sources(tables, condition),
    )
    write_pages(contents, output, as_json)
