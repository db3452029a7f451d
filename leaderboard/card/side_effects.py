"""Show the side effects of a condition: lost capability, and KL divergence on harmless prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from polyrefuse_leaderboard.card.parts import CardTable, Section, join
from polyrefuse_leaderboard.card.safety import named
from polyrefuse_leaderboard.card.subjects import Measured
from polyrefuse_leaderboard.drifts import Divergence, Drift
from polyrefuse_leaderboard.records import CAPABILITY, Record
from polyrefuse_leaderboard.table import describe_difference, describe_value, percent

ABOUT = (
    "The KL divergence measures how far a condition moves the distribution of the first token of "
    "the answer to a harmless prompt. It is KL(p || q) in nats, where p is the distribution of the "
    "untouched model and q the distribution in the condition (arXiv 2406.11717). Its mean over the "
    "prompts has a 95% bootstrap interval. The second column of each condition is the share of "
    "prompts whose most likely first token stays the same."
)


def section(measured: Measured, drifts: Mapping[str, Drift]) -> Section:
    """Show capability in each condition, and how far each moves answers to harmless prompts.

    Args:
        measured: what was measured of the model.
        drifts: the study's name for a condition -> its drift report.
    """
    capability = [record for record in measured.records if record.kind == CAPABILITY]
    tables = [_capability(measured, capability)] if capability else []
    if drifts:
        tables.append(_divergences(drifts))
    return Section("Side effects", text=(ABOUT,) if drifts else (), tables=tuple(tables))


def _divergences(drifts: Mapping[str, Drift]) -> CardTable:
    """Make a table with a row for each language and two columns for each condition."""
    sets = list(dict.fromkeys(one.dataset for one in drifts.values()))
    languages = dict.fromkeys(language for one in drifts.values() for language in one.languages)
    heads = [
        head
        for name, one in drifts.items()
        for head in (_called(name, one.condition), "first token kept (%)")
    ]
    rows = tuple(
        (
            named(language),
            *(cell for one in drifts.values() for cell in _cells(one.languages.get(language))),
        )
        for language in languages
    )
    return CardTable(
        f"KL divergence on harmless prompts, in nats: {join(sets)}", ("language", *heads), rows
    )


def _called(name: str, condition: str) -> str:
    return name if name == condition else f"{name} ({condition})"


def _cells(one: Divergence | None) -> tuple[str, str]:
    if one is None:
        return "-", "-"
    low, high = percent(one.agreement_low), percent(one.agreement_high)
    return (
        f"{one.mean:.3g} ({one.low:.3g} to {one.high:.3g}), n = {one.n}",
        f"{percent(one.agreement)} ({low} to {high})",
    )


def _capability(measured: Measured, records: Sequence[Record]) -> CardTable:
    order = measured.columns(records)
    rows = [
        (
            record.dataset,
            record.metric,
            measured.column(record),
            describe_value(record),
            describe_difference(record) or "-",
        )
        for record in sorted(
            records, key=lambda one: (one.dataset, one.metric, order.index(measured.column(one)))
        )
    ]
    return CardTable(
        "Capability: other tasks of lm-eval in the same conditions",
        ("task", "metric", "condition", "value", "difference to the baseline"),
        tuple(rows),
    )
