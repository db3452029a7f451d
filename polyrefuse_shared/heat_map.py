"""Draw a heat map with a number in every cell, for a transfer report or a leaderboard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from polyrefuse_shared import pictures
from polyrefuse_shared.colours import PAPER, STEPS, heat_colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@pictures.style()
def heat_map(
    values: Sequence[Sequence[float]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    labels: tuple[str, str],
    limits: tuple[float, float],
    format_value: Callable[[float], str],
    title: str = "",
) -> Figure:
    """Draw a matrix as coloured cells with numbers.

    Args:
        values: a sequence for each row, as long as `columns`.
        rows: the labels of the rows, from the top.
        columns: the labels of the columns.
        labels: the labels of the vertical and of the horizontal axis.
        limits: the values of the lowest and of the highest colour.
        format_value: returns the text of a cell.
        title: the title over the figure; "" for none.
    """
    from matplotlib.colors import ListedColormap

    colours = heat_colours()
    # The figure has a least size, because the title and the labels of the axes of a small matrix
    # are as long as those of a large one.
    width, height = 1.4 + 0.42 * len(columns), 1.1 + 0.3 * len(rows)
    drawn = pictures.figure((max(4.2 if title else 0, width), max(2.0, height)))
    axis = drawn.subplots()
    axis.pcolormesh(
        values,
        cmap=ListedColormap([colour for colour, _ in colours]),
        vmin=limits[0],
        vmax=limits[1],
        edgecolors=PAPER,
        linewidth=0.8,
    )
    axis.invert_yaxis()
    axis.set_xticks([at + 0.5 for at in range(len(columns))], columns)
    axis.set_yticks([at + 0.5 for at in range(len(rows))], rows)
    axis.set_ylabel(labels[0])
    axis.set_xlabel(labels[1])
    axis.tick_params(length=0)
    for row, row_values in enumerate(values):
        for column, value in enumerate(row_values):
            share = (value - limits[0]) / (limits[1] - limits[0])
            text = colours[min(STEPS - 1, int(share * STEPS))][1]
            axis.text(
                column + 0.5, row + 0.5, format_value(value), ha="center", va="center", color=text,
                fontsize=7,
            )  # fmt: skip
    if title:
        drawn.set_figheight(drawn.get_figheight() + 0.2 * (title.count("\n") + 1))
        pictures.title(drawn, title)
    return drawn
