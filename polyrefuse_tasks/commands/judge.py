"""`polyrefuse judge`: agreement."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from polyrefuse_shared.options import Json
from polyrefuse_tasks.judges import check_judge
from polyrefuse_tasks.judges.agreement import Agreement, Comparison, compare, read_rows

app = typer.Typer(no_args_is_help=True, help="Check a judge against labels.")


@app.command()
def agreement(
    labels: Annotated[
        Path,
        typer.Argument(
            metavar="LABELS.jsonl",
            help="Rows of language, response, refusal or label: docs/judges.md.",
        ),
    ],
    judge: Annotated[str, typer.Option("--judge", help="native or substring.")] = "native",
    as_json: Json = False,
) -> None:
    """Judge labelled responses, and show per language how often judge and label agree."""
    found = compare(read_rows(labels), check_judge(judge))
    print(json.dumps(asdict(found), ensure_ascii=False) if as_json else "\n".join(table(found)))


def table(found: Comparison) -> Iterator[str]:
    """A comparison's lines for people: the languages, then all of them pooled."""
    rows = [
        ("", "n", "base rate", "agreement, 95% interval", "balanced accuracy", "precision")
        + ("recall", "kappa", "undecided", "degenerate"),
        *(_cells(language, told) for language, told in found.languages.items()),
        _cells("pooled", found.pooled),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "  ".join((first.ljust(widths[0]), *cells))


def _cells(name: str, told: Agreement) -> tuple[str, ...]:
    return (
        name,
        str(told.n),
        _shown(told.base_rate),
        f"{_shown(told.agreement)} [{_shown(told.low)}, {_shown(told.high)}]",
        _shown(told.balanced_accuracy),
        _shown(told.precision),
        _shown(told.recall),
        _shown(told.kappa),
        str(told.undecided),
        str(told.degenerate),
    )


def _shown(statistic: float | None) -> str:
    return "-" if statistic is None else f"{statistic:.3f}"
