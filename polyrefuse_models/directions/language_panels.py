"""A panel a language with rates against a number: the pictures of `direction sweep` and `rank`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyrefuse_shared import pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 5
"""Panels side by side, at most."""

ASIDE = 3
"""Points of print between two lines' bars at the same place."""


def language_panels(
    languages: Sequence[str], draw: Callable[[Axes, str], None], *, x: str, y: str, title: str
) -> Figure:
    """A figure with one legend, and a panel for each language on the same axes.

    Args:
        languages: in the order of the panels.
        draw: draws a language's rates into its panel, and gives the panel a title.
        x: label of the axis that all panels share.
        y: the same for the rates, in %.
        title: of the figure.
    """
    columns = min(COLUMNS, len(languages))
    rows = -(-len(languages) // columns)
    # A title over one panel is as wide as two.
    figure = pictures.figure((max(5.5, 2.4 + 2.2 * columns), 1.5 + 1.9 * rows))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axis, language in zip(axes.flat, languages, strict=False):
        draw(axis, language)
        axis.set_ylim(-4, 104)
        axis.grid(axis="y")
    for unused in axes.flat[len(languages) :]:
        unused.set_axis_off()
    for place in range(len(languages) - columns, len(languages)):
        axes.flat[place].tick_params(labelbottom=True)  # where nothing is drawn below
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize="small")
    figure.supxlabel(x, fontsize="small")
    figure.supylabel(y, fontsize="small")
    pictures.title(figure, title)
    return figure


def draw_rates(
    axis: Axes,
    at: Sequence[float],
    rates: Sequence[tuple[float, float, float]],
    *,
    label: str,
    colour: str,
    aside: bool = False,
) -> None:
    """A line of rates with bars that are their intervals.

    What is dashed stands a little to the right, so that no bar hides another.

    Args:
        axis: the panel.
        at: where on the axis that the panels share.
        rates: each as rate, low and high, between 0 and 1.
        label: in the legend; one that begins with an underscore is left out.
        colour: of all of it.
        aside: whether it is dashed, as what the other lines are held against.
    """
    from matplotlib.transforms import ScaledTranslation

    to_the_right = ScaledTranslation(ASIDE / 72, 0, axis.figure.dpi_scale_trans)
    axis.errorbar(
        at,
        [100 * rate for rate, _, _ in rates],
        yerr=(
            [100 * max(0.0, rate - low) for rate, low, _ in rates],
            [100 * max(0.0, high - rate) for rate, _, high in rates],
        ),
        color=colour,
        linestyle="--" if aside else "-",
        marker="s" if aside else "o",
        markersize=4,
        linewidth=1.2,
        elinewidth=0.8,
        capsize=2,
        label=label,
        transform=axis.transData + to_the_right if aside else axis.transData,
    )
