"""`polyrefuse judge`: agreement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from polyrefuse_shared.options import Json, print_json
from polyrefuse_tasks.judges import check_judge
from polyrefuse_tasks.judges.agreement import Agreement, Comparison, compare, read_rows

app = typer.Typer(no_args_is_help=True, help="Check a judge against labels.")


@app.command()
def agreement(
    labels: Annotated[
        Path,
        typer.Argument(
            metavar="LABELS.jsonl",
            help="Rows of language, response, and refusal, label or harmful: docs/judges.md.",
        ),
    ],
    judge: Annotated[
        str, typer.Option("--judge", help="native, substring, or one that another package adds.")
    ] = "native",
    as_json: Json = False,
) -> None:
    """Judge labelled responses, and show per language how often judge and label agree."""
    comparison = compare(read_rows(labels), check_judge(judge))
    if as_json:
        print_json(asdict(comparison))
    else:
        print("\n".join(table(comparison)))


def table(comparison: Comparison) -> Iterator[str]:
    """A comparison's lines for people: the languages, then all of them pooled."""
    rows = [
        ("", "n", "base rate", "agreement, 95% interval", "balanced accuracy", "precision")
        + ("recall", "kappa", "undecided", "degenerate"),
        *(_cells(language, agreement) for language, agreement in comparison.languages.items()),
        _cells("pooled", comparison.pooled),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "  ".join((first.ljust(widths[0]), *cells))


def _cells(name: str, agreement: Agreement) -> tuple[str, ...]:
    return (
        name,
        str(agreement.n),
        _shown(agreement.base_rate),
        f"{_shown(agreement.agreement)} [{_shown(agreement.low)}, {_shown(agreement.high)}]",
        _shown(agreement.balanced_accuracy),
        _shown(agreement.precision),
        _shown(agreement.recall),
        _shown(agreement.kappa),
        str(agreement.undecided),
        str(agreement.degenerate),
    )


def _shown(statistic: float | None) -> str:
    return "-" if statistic is None else f"{statistic:.3f}"
