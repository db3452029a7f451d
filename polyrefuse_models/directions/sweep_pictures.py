"""The picture of a sweep: refusals, and broken answers, against the coefficient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polyrefuse_models.directions.marks import NO_VERDICT, REFUSED, short_name
from polyrefuse_shared import pictures
from polyrefuse_shared.intervals import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 5
"""Panels side by side, at most."""


@pictures.svg_style()
def sweep_png(document: dict[str, Any]) -> bytes:
    """A panel a language: the share of harmless prompts that is refused, by coefficient."""
    return pictures.png(_drawn(document))


@pictures.svg_style()
def sweep_svg(document: dict[str, Any]) -> bytes:
    """The same as SVG."""
    return pictures.svg(_drawn(document)).encode()


def _drawn(document: dict[str, Any]) -> Figure:
    languages = document["languages"]
    columns = min(COLUMNS, len(languages))
    rows = -(-len(languages) // columns)
    # A title over one panel is as wide as two.
    figure = pictures.figure((max(5.5, 2.4 + 2.2 * columns), 1.5 + 1.9 * rows))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axis, language in zip(axes.flat, languages, strict=False):
        _panel(axis, language, [one for one in document["cells"] if one["language"] == language])
    for unused in axes.flat[len(languages) :]:
        unused.set_axis_off()
    for place in range(len(languages) - columns, len(languages)):
        axes.flat[place].tick_params(labelbottom=True)  # where nothing is drawn below
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize="small")
    direction = document["direction"]
    figure.supxlabel(
        f"coefficient c: x + c r at the input of layer {direction['layer']}, |r| = "
        f"{direction['norm']:.3g}",
        fontsize="small",
    )
    figure.supylabel("% of harmless prompts", fontsize="small")
    kind = f"{direction['control']} direction" if "control" in direction else "direction"
    pictures.title(
        figure,
        f"{short_name(document['model'])}: harmless prompts with the {kind} added\n"
        f"judge {document['judge']}; bars are 95% intervals",
    )
    return figure


def _panel(axis: Axes, language: str, cells: list[dict[str, Any]]) -> None:
    coefficients = [cell["coefficient"] for cell in cells]
    for counted, label, colour, marker, style in (
        ("degenerate", "degenerate", NO_VERDICT, "s", "--"),
        ("refused", "refused", REFUSED, "o", "-"),
    ):
        rates = [100 * cell[counted] / cell["n"] for cell in cells]
        ends = [[100 * float(end) for end in wilson(cell[counted], cell["n"])] for cell in cells]
        axis.errorbar(
            coefficients,
            rates,
            yerr=(
                [max(0.0, rate - low) for rate, (low, _) in zip(rates, ends, strict=True)],
                [max(0.0, high - rate) for rate, (_, high) in zip(rates, ends, strict=True)],
            ),
            color=colour,
            linestyle=style,
            marker=marker,
            markersize=4,
            linewidth=1.2,
            elinewidth=0.8,
            capsize=2,
            label=label,
        )
    axis.set_ylim(-4, 104)
    axis.set_title(f"{language}, n = {cells[0]['n']}", fontsize="small")
    axis.grid(axis="y")
