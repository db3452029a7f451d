"""The tables as GitHub's Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from polyrefuse_leaderboard.model_rows import Row
from polyrefuse_leaderboard.published import Source
from polyrefuse_leaderboard.records import Record
from polyrefuse_leaderboard.table import (
    ATTACK,
    FORMULA,
    READING,
    Table,
    by_model,
    called,
    names_of,
    overlaps,
    percent,
    subject,
    title,
    together,
)
from polyrefuse_leaderboard.warnings import Warned

MODEL_COLUMNS: tuple[str, ...] = (
    "ASR", "ASR, ablation", "ASR, MCD", "false refusal", "balanced", "degenerate", "undecided",
    "loophole", "gap", "worst language", "anchors in test set",
)  # fmt: skip
"""What `model_cells` says, beside model, condition, data set and judge."""


def model_cells(row: Row, rate: Callable[[Record], str]) -> tuple[str, ...]:
    """What is known of a model, in the order of `MODEL_COLUMNS`; a dash where nothing is."""
    under = [row.under.get(condition) for condition in ("ablation", "mcd")]
    overlap = ", ".join(
        f"{name}: {'not known' if count is None else count}" for name, count in row.overlap.items()
    )
    known = (row.asr, *under, row.false_refusal, row.degenerate, row.undecided, row.loophole)
    rates = ["-" if record is None else rate(record) for record in known]
    balanced, gap = (
        "-" if share is None else percent(share) for share in (row.balanced, row.language_gap)
    )
    return (*rates[:4], balanced, *rates[4:], gap, row.worst_language or "-", overlap or "-")


def to_markdown(
    heading: str,
    found: Sequence[Table],
    rows: Sequence[Row],
    *,
    warnings: Sequence[Warned] = (),
    sources: Sequence[Source] = (),
    said: Sequence[str] = (),
) -> str:
    """The tables as GitHub's Markdown.

    Args:
        heading: of the document.
        found: what `tables` returned.
        rows: of the table of models.
        warnings: what the numbers must not be read without.
        sources: where they come from.
        said: sentences at the end, as of what was left out.
    """
    lines = (*_markdown(heading, found, rows, warnings), *_markdown_end(sources, said))
    return "\n".join(lines) + "\n"


def _markdown(
    heading: str, found: Sequence[Table], rows: Sequence[Row], warnings: Sequence[Warned]
) -> Iterator[str]:
    names = names_of(together(found, rows))
    overlap = overlaps(rows)
    warned = by_model(warnings)
    yield from (f"# {_md(heading)}", "", ATTACK, "", READING)
    if warnings:
        yield from ("", "## Warnings", "")
        yield from (f"- {_md(one.sentence)}" for one in warnings)
    if rows:
        yield from ("", "## Models", "", f"Harmonic mean of 1 - ASR and 1 - FRR: `{FORMULA}`.", "")
        yield from _md_head("model", "condition", "data set", "judge", *MODEL_COLUMNS)
        for row in rows:
            heads = called(names, {}, warned, subject(row), row.dataset)
            cells = (*heads, row.dataset, row.judge, *model_cells(row, _md_rate))
            yield _md_line(*map(_md, cells))
    for table in found:
        yield from ("", f"## {title(table.metric)}: {_md(table.dataset)}, judge {_md(table.judge)}")
        yield from ("", *_md_head("model", "condition", *map(_md, table.languages)))
        for about, by_language in table.rows.items():
            rates = (
                _md_rate(by_language[language]) if language in by_language else "-"
                for language in table.languages
            )
            heads = called(names, overlap, warned, about, table.dataset)
            yield _md_line(*map(_md, heads), *rates)


def _markdown_end(sources: Sequence[Source], said: Sequence[str]) -> Iterator[str]:
    if sources:
        yield from ("", "## Where the numbers come from", "")
        yield from (f"- [{_md(one.name)}](<{one.link}>): {_md(one.text)}" for one in sources)
    if said:
        yield from ("", "## What was left out, and why", "")
        yield from (f"- {_md(sentence)}" for sentence in said)


def _md_head(*names: str) -> tuple[str, str]:
    return _md_line(*names), _md_line(*("---" for _ in names))


def _md_line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _md_rate(record: Record) -> str:
    low, high = percent(record.low), percent(record.high)
    return f"{percent(record.value)} ({low} to {high}, n = {record.n})"


def _md(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    inert = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A colon before slashes would make a link, and so would www and a dot.
    return re.sub(r"([\\`*_{}\[\]#+!|~$@]|:(?=//)|(?<=www)\.)", r"\\\1", inert)
