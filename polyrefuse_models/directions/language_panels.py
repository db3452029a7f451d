"""Draw rates against a number with a panel for each language, for `direction sweep` and `rank`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyrefuse_shared import pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 5
"""The largest number of panels side by side."""

ASIDE = 3
"""How far apart the bars of two lines stand at the same place, in points (1/72 inch)."""


def language_panels(
    languages: Sequence[str], draw: Callable[[Axes, str], None], *, x: str, y: str, title: str
) -> Figure:
    """Draw a figure with one legend and a panel for each language. All panels share their axes.

    Args:
        languages: the languages, in the order of their panels.
        draw: a function that draws a language's rates into its panel and gives the panel a title.
        x: the label of the horizontal axis.
        y: the label of the vertical axis, which has the rates in %.
        title: the title of the figure.
    """
    columns = min(COLUMNS, len(languages))
    rows = -(-len(languages) // columns)
    # The title is wider than a single panel.
    figure = pictures.figure((max(5.5, 2.4 + 2.2 * columns), 1.5 + 1.9 * rows))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axis, language in zip(axes.flat, languages, strict=False):
        draw(axis, language)
        axis.set_ylim(-4, 104)
        axis.grid(axis="y")
    for unused in axes.flat[len(languages) :]:
        unused.set_axis_off()
    for place in range(len(languages) - columns, len(languages)):
        axes.flat[place].tick_params(labelbottom=True)  # The panel below may be missing.
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
    """Draw a line of rates, each with a bar for its interval.

    Args:
        axis: the panel.
        at: the places of the rates on the horizontal axis.
        rates: the rates, each with the ends of its interval (rate, low, high), between 0 and 1.
        label: the line's name in the legend. A name that begins with an underscore is left out.
        colour: the colour of the line and its bars.
        aside: whether the line is a comparison for the others. It is then dashed, and stands a
            little to the right, so that no bar hides another.
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
