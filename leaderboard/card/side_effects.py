"""What a condition costs: capability lost, and KL divergence on harmless prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from polyrefuse_leaderboard.card.parts import CardTable, Section
from polyrefuse_leaderboard.card.subjects import Measured
from polyrefuse_leaderboard.reading.model_names import Names
from polyrefuse_leaderboard.records import CAPABILITY, Record


def section(measured: Measured, folders: Sequence[Path], names: Names) -> tuple[Section, list[str]]:
    """Capability under each condition, and how far each moves the answers to harmless prompts."""
    capability = [record for record in measured.records if record.kind == CAPABILITY]
    tables = [_capability(measured, capability)] if capability else []
    return Section("Side effects", tables=tuple(tables)), []


def _capability(measured: Measured, records: Sequence[Record]) -> CardTable:
    order = measured.columns(records)
    rows = [
        (
            record.dataset,
            record.metric,
            measured.column(record),
            f"{_number(record.value)} ({_number(record.low)} to {_number(record.high)}), "
            f"n = {record.n}",
            _difference(record),
        )
        for record in sorted(
            records, key=lambda one: (one.dataset, one.metric, order.index(measured.column(one)))
        )
    ]
    return CardTable(
        "Capability: other tasks of lm-eval under the same conditions",
        ("task", "metric", "condition", "value", "difference to the baseline"),
        tuple(rows),
    )


def _difference(record: Record) -> str:
    """The difference to the baseline in words, and whether the model lost by it."""
    low, high = record.difference_low, record.difference_high
    if record.difference is None or low is None or high is None:
        return "-"
    said = f"{record.difference:+.4g} ({low:+.4g} to {high:+.4g})"
    if record.pairs is not None:
        said += f", {record.pairs} pairs"
    worse = high < 0 if record.higher_is_better else low > 0
    if worse and record.higher_is_better is not None:
        said += ": worse than the baseline"
    return said


def _number(value: float) -> str:
    return f"{value:.4g}"
