"""The picture of a sweep: refusals, and broken answers, against the coefficient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polyrefuse_shared import pictures
from polyrefuse_shared.intervals import wilson
from polyrefuse_shared.pictures import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHIFT = 0.012
"""Of the width of the axis, from one language's interval to the next one's: equal rates would hide
each other."""


@pictures.svg_style()
def sweep_png(document: dict[str, Any]) -> bytes:
    """A line a language: the share of harmless prompts that is refused, by coefficient."""
    return pictures.png(_drawn(document))


@pictures.svg_style()
def sweep_svg(document: dict[str, Any]) -> bytes:
    """The same as SVG."""
    return pictures.svg(_drawn(document)).encode()


def _drawn(document: dict[str, Any]) -> Figure:
    figure = pictures.figure((7, 5.6))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    _lines(above, document, "refused", "refused, % of\nharmless prompts")
    _lines(below, document, "degenerate", "degenerate\nanswers, %")
    direction = document["direction"]
    below.set_xlabel(
        f"coefficient c: x + c r at the input of layer {direction['layer']}, |r| = "
        f"{direction['norm']:.3g}"
    )
    handles, labels = above.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="small")
    of_control = f"{direction['control']} direction" if "control" in direction else "direction"
    figure.suptitle(
        f"{document['model']}: harmless prompts with the {of_control} added\n"
        f"judge {document['judge']}, bars are 95% intervals",
        fontsize="medium",
    )
    return figure


def _lines(axis: Axes, document: dict[str, Any], counted: str, label: str) -> None:
    coefficients, languages = document["coefficients"], document["languages"]
    width = (max(coefficients) - min(coefficients)) or 1.0
    colours = list(PALETTE.values())
    for index, language in enumerate(languages):
        cells = [cell for cell in document["cells"] if cell["language"] == language]
        shift = SHIFT * width * (index - (len(languages) - 1) / 2)
        rates = [100 * cell[counted] / cell["n"] for cell in cells]
        ends = [[100 * float(end) for end in wilson(cell[counted], cell["n"])] for cell in cells]
        axis.errorbar(
            [cell["coefficient"] + shift for cell in cells],
            rates,
            yerr=(
                [max(0.0, rate - low) for rate, (low, _) in zip(rates, ends, strict=True)],
                [max(0.0, high - rate) for rate, (_, high) in zip(rates, ends, strict=True)],
            ),
            color=colours[index % len(colours)],
            # Each colour in two styles: as many as there are languages.
            linestyle="-" if index < len(colours) else "--",
            marker="o",
            markersize=4,
            linewidth=1.2,
            elinewidth=0.8,
            capsize=2,
            label=f"{language} (n = {cells[0]['n']})",
        )
    axis.set_ylim(-4, 104)
    axis.set_ylabel(label)
    axis.grid(axis="y")
