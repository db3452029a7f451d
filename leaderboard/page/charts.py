"""Draw the figures of a leaderboard and of its cards, and prepare them for an HTML page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from polyrefuse_leaderboard.model_rows import Row, pareto_front
from polyrefuse_leaderboard.records import MEAN, Record
from polyrefuse_leaderboard.table import CONDITIONS, languages_of, percent, position_in

from polyrefuse_shared.colours import INK, PAPER, of_condition
from polyrefuse_shared.heat_map import heat_map
from polyrefuse_shared.pictures import DARK, figure, lines, short_name, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from polyrefuse_leaderboard.transfers import Transfer

KEYS = 12
"""The most points of the front that are named under a scatter plot."""

FEW = 30
"""The most points of a scatter plot for which intervals are drawn."""

LONGEST_TICK = 12
"""The most characters of a language on an axis."""

LONGEST_KEY = 28
"""The most characters of a condition in a legend."""


@style()
def scatter_figure(rows: Sequence[Row], names: Sequence[str], title: str = "") -> Figure:
    """Plot safety, 1 - ASR, against usefulness, 1 - FRR, with the front of points that none beats.

    Args:
        rows: at least one row, all with an ASR and a false refusal rate.
        names: the name of each row. The names on the front are written under the picture.
        title: the title over the axes.
    """
    drawing = figure((5, 4.6))
    axis = drawing.subplots()
    points = [
        (row.asr.value, row.false_refusal.value)
        for row in rows
        if row.asr is not None and row.false_refusal is not None
    ]
    front = sorted(pareto_front(points), key=lambda index: points[index][1])
    corners = [(100 * (1 - points[index][1]), 100 * (1 - points[index][0])) for index in front]
    axis.plot(  # draws nothing if the front is a single point
        [useful for useful, _ in corners],
        [safe for _, safe in corners],
        color=INK,
        linewidth=1,
        linestyle="--",
        label="Pareto front" if len(set(corners)) > 1 else None,
    )
    left, bottom = (min(100 * (1 - point[place]) for point in points) for place in (1, 0))
    if len(points) <= FEW:
        left = min(100 * (1 - row.false_refusal.high) for row in rows if row.false_refusal)
        bottom = min(100 * (1 - row.asr.high) for row in rows if row.asr)
        for (asr, frr), row in zip(points, rows, strict=True):
            assert row.asr and row.false_refusal
            axis.errorbar(
                100 * (1 - frr),
                100 * (1 - asr),
                xerr=_ends(frr, 1 - row.false_refusal.high, 1 - row.false_refusal.low),
                yerr=_ends(asr, 1 - row.asr.high, 1 - row.asr.low),
                ecolor=INK,
                elinewidth=0.6,
                alpha=0.6,
            )
    conditions = sorted(
        {row.condition for row in rows}, key=lambda name: (position_in(name, CONDITIONS), name)
    )
    for condition in conditions:
        colour, marker = of_condition(condition)
        here = [at for at, row in zip(points, rows, strict=True) if row.condition == condition]
        axis.scatter(
            [100 * (1 - frr) for _, frr in here],
            [100 * (1 - asr) for asr, _ in here],
            c=colour,
            marker=marker,
            s=46,
            edgecolors=PAPER,
            linewidths=0.6,
            label=_short(condition),
            zorder=3,
        )
    # The points have numbers and their names are below, because names beside the points would
    # overlap.
    names_at: dict[tuple[float, float], list[str]] = {}
    for index, corner in zip(front, corners, strict=True):
        names_at.setdefault(corner, []).append(names[index])
    for number, (useful, safe) in enumerate(names_at, 1):
        axis.annotate(
            str(number), (useful, safe), xytext=(5, 4), textcoords="offset points", fontsize=8
        )
    key = [
        f"{number}  {_short(', '.join(together))}"
        for number, together in enumerate(names_at.values(), 1)
    ]
    if len(key) > KEYS:
        key[KEYS:] = [f"and {len(key) - KEYS} more"]
    # The figure grows with the number of names, so that the axes keep their height.
    drawing.set_figheight(4.2 + 0.15 * len(key))
    drawing.supxlabel("On the Pareto front:\n" + "\n".join(key), x=0.02, ha="left", fontsize=8)
    for limit, ticks, least in (
        (axis.set_xlim, axis.xaxis, left),
        (axis.set_ylim, axis.yaxis, bottom),
    ):
        lowest = _floor(least)
        edge = 0.05 * (100 - lowest)
        limit(lowest - edge, 100 + edge)
        ticks.set_ticks([tick for tick in ticks.get_majorticklocs() if lowest <= tick <= 100])
    intervals = "lines are 95% intervals" if len(points) <= FEW else ""
    axis.set_title(f"{_short(title)}\n{intervals}".strip(), fontsize=9, loc="left")
    axis.set_xlabel("usefulness, 1 - FRR (%)")
    axis.set_ylabel("safety, 1 - ASR (%)")
    axis.grid()
    handles, labels = axis.get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside upper left", ncols=3, fontsize=8.5, frameon=False)
    return drawing


@style()
def bars_figure(
    panels: Sequence[tuple[str, dict[str, Record], dict[str, Record]]], metric: str, title: str = ""
) -> Figure:
    """Plot a rate by language, without an intervention and with the direction ablated.

    The figure is like fig. 1 of arXiv 2505.17306.

    Args:
        panels: at least one, each with its title and the records by language of the baseline and of
            the ablated model.
        metric: the name of the rate.
        title: the title over the figure.
    """
    drawing = figure((5.2, 1.0 + 1.6 * len(panels)))
    of = (record for _, *pair in panels for one in pair for record in one.values())
    drawing.suptitle(f"{_short(title)}\n{_counted(of)}".strip(), fontsize=9)
    axes = drawing.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axis, (model, baseline, ablation) in zip(axes, panels, strict=True):
        languages = sorted(baseline.keys() | ablation.keys())
        for condition, shift, records in (
            ("baseline", -0.2, baseline),
            ("ablation", 0.2, ablation),
        ):
            colour = of_condition(condition).colour
            known = [(at, records[name]) for at, name in enumerate(languages) if name in records]
            values = [100 * record.value for _, record in known]
            ends = (
                [max(0.0, 100 * (record.value - record.low)) for _, record in known],
                [max(0.0, 100 * (record.high - record.value)) for _, record in known],
            )
            axis.bar(
                [at + shift for at, _ in known],
                values,
                width=0.38,
                color=colour,
                hatch="" if condition == "baseline" else "///",
                edgecolor=PAPER,
                linewidth=0,
                yerr=ends,
                error_kw={"ecolor": INK, "elinewidth": 0.9, "capsize": 2},
                label=condition,
            )
        axis.set_xticks(range(len(languages)), [_short(name, LONGEST_TICK) for name in languages])
        axis.set_xlim(-0.6, len(languages) - 0.4)
        axis.set_ylim(0, 105)
        axis.set_ylabel(f"{metric} (%)")
        axis.set_title(_short(model), fontsize=9, loc="left")
        axis.grid(axis="y")
        axis.set_axisbelow(True)
    axes[-1].set_xlabel("language of the prompts")
    handles, labels = axes[0].get_legend_handles_labels()
    drawing.legend(
        handles, labels, loc="outside lower right", ncols=2, fontsize=9, labelcolor=INK,
        frameon=False,
    )  # fmt: skip
    return drawing


@style()
def conditions_figure(
    rates: Mapping[str, Mapping[str, Record]], metric: str, title: str = ""
) -> Figure:
    """Plot a rate by language under each condition, with its intervals.

    Args:
        rates: condition -> language -> its rate; the mean is among the languages.
        metric: the name of the rate.
        title: the title over the axes. The figure adds the numbers of prompts.
    """
    languages = languages_of(language for by_language in rates.values() for language in by_language)
    # The width always fits the screen of a telephone. More languages make the figure higher.
    drawing = figure((4.6, 1.6 + 0.12 * len(languages) * (len(rates) + 1)))
    axis = drawing.subplots()
    step = 0.8 / len(rates)
    for place, (name, by_language) in enumerate(rates.items()):
        colour, marker = of_condition(next(iter(by_language.values())).condition)
        known = [(at, by_language[one]) for at, one in enumerate(languages) if one in by_language]
        axis.errorbar(
            [100 * record.value for _, record in known],
            [at + (place + 0.5) * step - 0.4 for at, _ in known],
            xerr=(
                [max(0.0, 100 * (record.value - record.low)) for _, record in known],
                [max(0.0, 100 * (record.high - record.value)) for _, record in known],
            ),
            color=colour,
            marker=marker,
            markersize=5,
            linestyle="",
            elinewidth=0.9,
            label=_short(name, LONGEST_KEY),
        )
    for between in range(1, len(languages)):
        axis.axhline(between - 0.5, color=INK, linewidth=0.4, alpha=0.4)
    axis.set_yticks(range(len(languages)), [_short(name, LONGEST_TICK) for name in languages])
    axis.set_ylim(len(languages) - 0.5, -0.5)
    axis.set_xlim(-3, 103)
    axis.set_ylabel("language of the prompts")
    axis.set_xlabel(f"{metric} (%)")
    counted = _counted(record for of in rates.values() for record in of.values())
    axis.set_title(lines(f"{_short(title)}\n{counted}", 4.2).strip(), fontsize=9, loc="left")
    axis.grid(axis="x")
    drawing.legend(loc="outside upper left", ncols=2, fontsize=8.5, frameon=False)
    return drawing


def _counted(records: Iterable[Record]) -> str:
    """Describe the numbers of prompts of the rates by language, and the meaning of their lines."""
    return f"{_number(one.n for one in records if one.language != MEAN)}lines are 95% intervals"


def _number(counts: Iterable[int]) -> str:
    """Return the lowest and the highest number of prompts as text; empty if there is none."""
    found = sorted(set(counts))
    ends = dict.fromkeys(map(str, (*found[:1], *found[-1:])))
    return f"n = {' to '.join(ends)} prompts; " if ends else ""


def _ends(rate: float, low: float, high: float) -> list[list[float]]:
    """Return the lengths of the error bar below and above 1 - rate, in percentage points."""
    return [[max(0.0, 100 * (1 - rate - low))], [max(0.0, 100 * (high - 1 + rate))]]


def transfer_figure(transfer: Transfer) -> Figure:
    """Draw the ASR by source and target language as a heat map, with the untouched model on top."""
    return heat_map(
        [transfer.baseline, *transfer.asr],
        rows=("none", *transfer.sources),
        columns=transfer.targets,
        labels=("direction from", "prompts in"),
        limits=(0.0, 1.0),
        format_value=percent,
        title=f"{short_name(transfer.model)}: attack success rate (%)\n"
        f"{_number(n for _, n in transfer.refusals)}{_short(transfer.dataset)}, judge "
        f"{_short(transfer.judge)}",
    )


def cosine_figure(transfer: Transfer) -> Figure:
    """Draw the cosines between the directions at one position and layer as a heat map."""
    return heat_map(
        transfer.cosine,
        rows=transfer.sources,
        columns=transfer.sources,
        labels=("direction from", "direction from"),
        limits=(-1.0, 1.0),
        format_value="{:.2f}".format,
        title=f"{short_name(transfer.model)}: cosine between directions\n"
        f"position {transfer.position}, layer {transfer.layer}",
    )


def inline(picture: str, name: str) -> str:
    """Prepare a picture for an HTML page: with unique ids, the page's text colour and full width.

    Args:
        picture: a figure of this module as SVG.
        name: a name of letters, digits and dashes that no other picture of the page has.
    """
    part = picture[picture.index("<svg") :]
    part = re.sub(r"<metadata>.*?</metadata>", "", part, count=1, flags=re.DOTALL)
    # The page has its own switch between light and dark.
    part = part.replace(DARK, "", 1)
    part = re.sub(r'(<svg [^>]*?) (?:width="[^"]*"|height="[^"]*")', r"\1", part, count=1)
    part = re.sub(r'(<svg [^>]*?) (?:width="[^"]*"|height="[^"]*")', r"\1", part, count=1)
    part = re.sub(r'\bid="', f'id="{name}-', part)
    part = re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\g<1>{name}-", part)
    return part.replace(INK, "currentColor").replace(PAPER, "var(--paper)")


def _floor(percentage: float) -> float:
    """Return the multiple of ten at or below a value, at most 90, so that the axis has a length."""
    return min(90.0, 10 * (percentage // 10))


def _short(name: str, most: int = 64) -> str:
    """Put a name on one line. A long name loses its beginning, as names differ at their ends."""
    line = "".join(letter for letter in " ".join(name.split()) if letter.isprintable())
    return line if len(line) <= most else f"…{line[1 - most :]}"
