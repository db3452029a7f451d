"""Draw the picture of a result in the README from the files of `polyrefuse demo`.

    polyrefuse demo --output polyrefuse-demo
    python -m benchmarks.result_picture polyrefuse-demo docs/pictures

The program writes `result.png` and `result.svg`, and `result-dark.png` and `result-dark.svg` for
dark pages. Every number in the picture comes from the demo's `site/leaderboard.json`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from polyrefuse_leaderboard.records import MEAN, Record, from_json

from polyrefuse_models.bundled import ORGANISM, WEAKENED
from polyrefuse_shared.pictures import PALETTE
from polyrefuse_tasks.languages import NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Panel(NamedTuple):
    """A panel of the picture, which compares a rate of one model under two conditions."""

    title: str
    model: str
    metric: str
    conditions: tuple[str, str]


PANELS = (
    Panel(
        "Harmful prompts answered:\nrefusal direction ablated",
        ORGANISM,
        "asr",
        ("baseline", "ablation"),
    ),
    Panel(
        "Harmless prompts refused:\nrefusal direction added",
        ORGANISM,
        "false_refusal_rate",
        ("baseline", "addition"),
    ),
    Panel(
        "Harmful prompts answered:\nweakened model, repaired by MCD",
        WEAKENED,
        "asr",
        ("baseline", "mcd"),
    ),
)

STYLES = {
    "baseline": ("model as it is", PALETTE["blue"], "o"),
    "ablation": ("direction ablated", PALETTE["vermilion"], "X"),
    "addition": ("direction added", PALETTE["reddish purple"], "P"),
    "mcd": ("soft safety prompt (MCD)", PALETTE["sky blue"], "^"),
}
"""Maps a condition to its name in the legend, and to the leaderboard's colour and marker for it."""

GROUNDS = {"": ("#1b1c1d", "#ffffff"), "-dark": ("#e6edf3", "#0d1117")}
"""Maps the ending of a file name to text and background colours, those of GitHub's pages."""


def picture(records: Iterable[Record], ink: str, paper: str) -> Figure:
    """Draw a row for each language and a panel for each comparison, with 95% intervals.

    Args:
        records: the demo's records.
        ink: the colour of text and axes.
        paper: the colour of the background.
    """
    import matplotlib
    from matplotlib.figure import Figure

    found = {
        (each.model, each.condition, each.metric, each.language): each
        for each in records
        if each.language != MEAN and each.metric in {panel.metric for panel in PANELS}
    }
    languages = sorted({key[-1] for key in found}, key=lambda code: NAMES[code], reverse=True)
    settings = dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), ink
    ) | dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), paper)
    with matplotlib.rc_context(settings):
        drawn = Figure(figsize=(9.6, 4.9), layout="constrained")
        for panel, axes in zip(PANELS, drawn.subplots(1, len(PANELS), sharey=True), strict=True):
            _draw(axes, panel, found, languages)
        drawn.get_axes()[0].set_yticks(
            range(len(languages)), [NAMES[code] for code in languages], fontsize=9.5
        )
        _explain(drawn, {record.n for record in found.values()})
    return drawn


def _draw(
    axes: Axes, panel: Panel, found: dict[tuple[str, str, str, str], Record], languages: list[str]
) -> None:
    axes.set_title(panel.title, fontsize=10.5, loc="left")
    axes.set_xlim(-4, 104)
    axes.set_ylim(-0.7, len(languages) - 0.3)
    axes.set_xticks(range(0, 101, 25), [f"{value}%" for value in range(0, 101, 25)], fontsize=9)
    axes.grid(axis="x", alpha=0.2, lw=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    for place, language in enumerate(languages):
        rates = [
            found[panel.model, condition, panel.metric, language] for condition in panel.conditions
        ]
        axes.plot(
            [100 * rate.value for rate in rates], [place] * 2, color="#808080", lw=0.8, zorder=1
        )
        for shift, rate in zip((0.13, -0.13), rates, strict=True):
            _, colour, marker = STYLES[rate.condition]
            ends = 100 * rate.low, 100 * rate.high
            axes.plot(ends, [place + shift] * 2, color=colour, lw=2.6, alpha=0.45, zorder=2)
            axes.plot(100 * rate.value, place + shift, marker, color=colour, ms=6.5, zorder=3)


def _explain(drawn: Figure, counts: set[int]) -> None:
    """Add the legend and a line that says what the numbers were measured on."""
    from matplotlib.lines import Line2D

    (n,) = counts
    drawn.legend(
        handles=[
            Line2D([], [], color=colour, marker=marker, ls="", ms=7, label=label)
            for label, colour, marker in STYLES.values()
        ],
        loc="outside upper center",
        ncols=len(STYLES),
        frameon=False,
        fontsize=10,
    )
    drawn.supxlabel(
        f"Bundled models of an invented world, {n} prompts a point, native judge; bars: 95% "
        "intervals. Made by polyrefuse demo.",
        fontsize=9,
    )


def main(demo: Path, output: Path) -> None:
    """Write the four files.

    Args:
        demo: the folder that `polyrefuse demo` wrote.
        output: the folder of the pictures, which is created if it does not exist.
    """
    import matplotlib

    records = from_json((demo / "site" / "leaderboard.json").read_text(encoding="utf-8"))
    output.mkdir(parents=True, exist_ok=True)
    for ending, (ink, paper) in GROUNDS.items():
        drawn = picture(records, ink, paper)
        drawn.savefig(output / f"result{ending}.png", dpi=130, metadata={"Software": None})
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "polyrefuse"}):
            drawn.savefig(output / f"result{ending}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
