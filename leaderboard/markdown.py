"""Write the tables as Markdown for GitHub."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from polyrefuse_leaderboard.markdown_parts import escaped, head, line
from polyrefuse_leaderboard.model_rows import Row
from polyrefuse_leaderboard.published import Source
from polyrefuse_leaderboard.records import Record
from polyrefuse_leaderboard.table import (
    ABOUT_ASR,
    ABOUT_HARM,
    ABOUT_RATES,
    FORMULA,
    Table,
    capability_columns,
    collect_overlaps,
    describe_controls,
    describe_difference,
    describe_harmful,
    describe_value,
    group_warnings,
    metric_title,
    name_subjects,
    percent,
    row_heads,
    subject_groups,
    subject_of,
)
from polyrefuse_leaderboard.warnings import RateWarning

MODEL_COLUMNS: tuple[str, ...] = (
    "ASR", "harmful ASR", "ASR, ablation", "ASR, MCD", "FRR", "balanced score", "degenerate rate",
    "undecided rate", "loophole rate", "ASR gap", "worst language", "random directions",
    "anchors in test set",
)  # fmt: skip
"""The heads of the cells from `model_cells`, behind model, condition, dataset and judge."""


def model_cells(row: Row, rate: Callable[[Record], str]) -> tuple[str, ...]:
    """Return the cells of a model's row in the order of `MODEL_COLUMNS`, or dashes."""
    under = [row.under.get(condition) for condition in ("ablation", "mcd")]
    overlap = ", ".join(
        f"{name}: {'not known' if count is None else count}" for name, count in row.overlap.items()
    )
    records = (row.asr, *under, row.false_refusal, row.degenerate, row.undecided, row.loophole)
    rates = ["-" if record is None else rate(record) for record in records]
    balanced, gap = (
        "-" if share is None else percent(share) for share in (row.balanced, row.language_gap)
    )
    worst, controls = row.worst_language or "-", describe_controls(row.controls) or "-"
    harmful = describe_harmful(row.harmful, rate) or "-"
    return (
        *(rates[0], harmful, *rates[1:4], balanced, *rates[4:]),
        *(gap, worst, controls, overlap or "-"),
    )


def to_markdown(
    heading: str,
    tables: Sequence[Table],
    rows: Sequence[Row],
    *,
    warnings: Sequence[RateWarning] = (),
    sources: Sequence[Source] = (),
    left_out: Sequence[str] = (),
) -> str:
    """Return the tables as Markdown for GitHub.

    Args:
        heading: the heading of the document.
        tables: the tables from `tabulate`.
        rows: the rows of the table of models.
        warnings: the warnings of the rates.
        sources: where the numbers come from.
        left_out: whole sentences about what the tables do not show, and why.
    """
    lines = (*_markdown(heading, tables, rows, warnings), *_markdown_end(sources, left_out))
    return "\n".join(lines) + "\n"


def _markdown(
    heading: str, tables: Sequence[Table], rows: Sequence[Row], warnings: Sequence[RateWarning]
) -> Iterator[str]:
    names = name_subjects(subject_groups(tables, rows))
    overlaps = collect_overlaps(rows)
    grouped_warnings = group_warnings(warnings)
    yield from (f"# {escaped(heading)}", "", f"{ABOUT_ASR} {ABOUT_HARM}", "", ABOUT_RATES)
    if warnings:
        yield from ("", "## Warnings", "")
        yield from (f"- {escaped(one.sentence)}" for one in warnings)
    if rows:
        yield from ("", "## Models", "", f"The balanced score: `{FORMULA}`.", "")
        tasks = capability_columns(rows)
        named = (
            f"{escaped(task)} ({escaped(metric)}); difference to the baseline"
            for task, metric in tasks
        )
        yield from head("model", "condition", "dataset", "judge", *MODEL_COLUMNS, *named)
        for row in rows:
            heads = row_heads(names, {}, grouped_warnings, subject_of(row), row.dataset)
            more = (_capability(row.capability.get(task)) for task in tasks)
            cells = (*heads, row.dataset, row.judge, *model_cells(row, _md_rate), *more)
            yield line(*map(escaped, cells))
    for table in tables:
        title = (
            f"{metric_title(table.metric)}: {escaped(table.dataset)}, judge {escaped(table.judge)}"
        )
        yield from ("", f"## {title}")
        yield from ("", *head("model", "condition", *map(escaped, table.languages)))
        for subject, by_language in table.rows.items():
            rates = (
                _compared_rate(by_language[language]) if language in by_language else "-"
                for language in table.languages
            )
            heads = row_heads(names, overlaps, grouped_warnings, subject, table.dataset)
            yield line(*map(escaped, heads), *rates)


def _capability(record: Record | None) -> str:
    if record is None:
        return "-"
    return "; ".join(filter(None, (describe_value(record), describe_difference(record))))


def _markdown_end(sources: Sequence[Source], left_out: Sequence[str]) -> Iterator[str]:
    if sources:
        yield from ("", "## Where the numbers come from", "")
        yield from (
            f"- [{escaped(one.name)}](<{one.link}>): {escaped(one.text)}" for one in sources
        )
    if left_out:
        yield from ("", "## What was left out, and why", "")
        yield from (f"- {escaped(sentence)}" for sentence in left_out)


def _compared_rate(record: Record) -> str:
    """Format a rate, with its difference to the baseline if it has one."""
    difference = describe_difference(record)
    return f"{_md_rate(record)}{f'; difference to the baseline {difference}' if difference else ''}"


def _md_rate(record: Record) -> str:
    low, high = percent(record.low), percent(record.high)
    return f"{percent(record.value)} ({low} to {high}, n = {record.n})"
