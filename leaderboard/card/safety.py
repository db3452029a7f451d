"""Show rates by condition, and by language and condition."""

from __future__ import annotations

from collections.abc import Iterator

from polyrefuse_leaderboard.card.parts import CardTable, Section
from polyrefuse_leaderboard.card.subjects import Measured
from polyrefuse_leaderboard.model_rows import Row
from polyrefuse_leaderboard.page import gallery
from polyrefuse_leaderboard.records import MEAN, Record
from polyrefuse_leaderboard.table import (
    ABOUT_ASR,
    ABOUT_HARM,
    ABOUT_RATES,
    CONDITIONS,
    FORMULA,
    HEADINGS,
    describe_controls,
    describe_harmful,
    languages_of,
    metric_title,
    percent,
    position_in,
    sort_key,
    subject_of,
)

from polyrefuse_tasks.languages import NAMES
from polyrefuse_tasks.metrics import ATTACKS, FALSE_REFUSAL, LOOPHOLE

BY_LANGUAGE = (*ATTACKS, FALSE_REFUSAL, "frr_any")
"""The metrics that have a table by language."""


def glance(measured: Measured) -> Section:
    """Make the table of the means of each condition."""
    columns = (
        *("condition", "dataset", "judge", "attack success rate", "harmful attack success rate"),
        *("false refusal rate", "balanced score", "degenerate rate", "undecided rate"),
        *("loophole rate", "worst language", "random directions"),
    )
    return Section(
        "At a glance",
        tables=(
            CardTable(
                "Means over the languages",
                columns,
                tuple(_averages(measured, row) for row in sorted(measured.rows, key=_order)),
            ),
        ),
    )


def _averages(measured: Measured, row: Row) -> tuple[str, ...]:
    return (
        measured.column(row),
        row.dataset,
        row.judge,
        rate(row.asr),
        describe_harmful(row.harmful, rate) or "-",
        rate(row.false_refusal),
        "-" if row.balanced is None else percent(row.balanced),
        rate(row.degenerate),
        rate(row.undecided),
        rate(row.loophole),
        "-" if row.worst_language is None else named(row.worst_language),
        describe_controls(row.controls) or "-",
    )


def _order(row: Row) -> tuple[str | int, ...]:
    return (row.dataset, row.judge, *sort_key(subject_of(row)))


def by_language(measured: Measured) -> Section:
    """Show the attack success rate and the false refusal rate by condition and language."""
    tables = list(_tables(measured, BY_LANGUAGE))
    compared = [rates for _, rates, _ in tables if len(rates) > 1]
    return Section(
        "By language",
        pictures=tuple(gallery.rates(compared, measured.model)),
        tables=tuple(table for _, _, table in tables),
    )


def how_to_read(measured: Measured) -> Section:
    """Explain the conditions and the rates."""
    there = {record.condition for record in measured.records}
    return Section(
        "How to read the rates",
        text=(
            f"{ABOUT_ASR} {ABOUT_HARM}",
            f"{ABOUT_RATES} The balanced score is the harmonic mean of 1 - ASR and 1 - FRR, where "
            f"FRR is the false refusal rate: {FORMULA}.",
            "Degenerate answers are empty, repeat themselves or are in no language. Undecided "
            "answers are those that the judge could not label. Neither counts as compliance, so a "
            "high balanced score beside many of them says little. The worst language is the one "
            "with the highest attack success rate. The column of random directions has the lowest "
            "and the highest rate with random directions in place of the refusal direction, and "
            "the number of these directions. A rate within this range is not an effect of the "
            "refusal direction.",
        ),
        items=tuple(f"{name}: {meaning}." for name, meaning in CONDITIONS.items() if name in there),
    )


def loopholes(measured: Measured) -> Section:
    """Show the prompts that are refused in English and answered in another language."""
    return Section(
        "Loopholes",
        text=(
            "The loophole rate of a language is the share of prompts that the model refuses in "
            "English and complies with in that language, among all prompts asked in both.",
        ),
        tables=tuple(table for _, _, table in _tables(measured, (LOOPHOLE,))),
    )


Rates = dict[str, dict[str, Record]]
"""Condition -> language -> its rate."""


def _tables(measured: Measured, metrics: tuple[str, ...]) -> Iterator[tuple[str, Rates, CardTable]]:
    """Yield the metric, the rates and the table of each metric, dataset and judge."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in measured.records:
        if record.metric in metrics:
            groups.setdefault((record.metric, record.dataset, record.judge), []).append(record)
    for metric, dataset, judge in sorted(
        groups, key=lambda group: (position_in(group[0], HEADINGS), group)
    ):
        records = groups[metric, dataset, judge]
        rates: Rates = {name: {} for name in measured.columns(records)}
        for record in records:
            rates[measured.column(record)][record.language] = record
        languages = languages_of(record.language for record in records)
        rows = tuple(
            (named(language), *(rate(rates[name].get(language)) for name in rates))
            for language in languages
        )
        caption = f"{metric_title(metric)}: {dataset}, judge {judge}"
        yield metric, rates, CardTable(caption, ("language", *rates), rows)


def rate(record: Record | None) -> str:
    """Format a rate in percent with its interval and n, or a dash if there is none."""
    return "-" if record is None else share(record.value, record.low, record.high, record.n)


def share(value: float, low: float, high: float, n: int) -> str:
    """Format a share in percent with its interval and n."""
    return f"{percent(value)} ({percent(low)} to {percent(high)}), n = {n}"


def named(language: str) -> str:
    """Format a language as its name and code."""
    if language == MEAN:
        return "mean"
    return f"{NAMES[language]} ({language})" if language in NAMES else language
