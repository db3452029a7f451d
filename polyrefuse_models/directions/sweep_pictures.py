"""Draw the figure of a sweep: refusals and degenerate answers against the coefficient."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from polyrefuse_models.directions.language_panels import draw_rates, language_panels
from polyrefuse_shared import pictures
from polyrefuse_shared.colours import INK, NO_VERDICT, REFUSED
from polyrefuse_shared.intervals import wilson
from polyrefuse_shared.pictures import short_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


OVERFLOW = "numbers in the model overflow:\nnot an effect of the direction"
"""The legend's entry for coefficients whose answers say nothing about the direction."""


@pictures.style()
def sweep_figure(document: dict[str, Any]) -> Figure:
    """Draw the share of refused harmless prompts by coefficient, in a panel for each language.

    Coefficients with which numbers in the model overflow are shaded.

    Args:
        document: the contents of `sweep.json`.
    """
    direction = document["direction"]
    kind = f"{direction['control']} direction" if "control" in direction else "direction"

    def panel(axis: Axes, language: str) -> None:
        cells = [one for one in document["cells"] if one["language"] == language]
        at = [cell["coefficient"] for cell in cells]
        for counted, colour in (("degenerate", NO_VERDICT), ("refused", REFUSED)):
            rates = [
                (cell[counted] / cell["n"], *map(float, wilson(cell[counted], cell["n"])))
                for cell in cells
            ]
            aside = counted == "degenerate"
            draw_rates(axis, at, rates, label=counted, colour=colour, aside=aside)
        for number, (low, high) in enumerate(_overflowed(at, document["overflowed"])):
            axis.axvspan(
                low, high, color=INK, alpha=0.1, linewidth=0, label="_more" if number else OVERFLOW
            )
        axis.set_title(f"{language}, n = {cells[0]['n']}", fontsize="small")

    return language_panels(
        document["languages"],
        panel,
        x=f"coefficient c: x + c r at the input of layer {direction['layer']}, |r| = "
        f"{direction['norm']:.3g}",
        y="% of harmless prompts",
        title=f"{short_name(document['model'])}: harmless prompts with the {kind} added\n"
        f"judge {document['judge']}; bars are 95% intervals",
    )


def _overflowed(
    at: Sequence[float], overflowed: Collection[float]
) -> Iterator[tuple[float, float]]:
    """Yield the ends of each coefficient's shade, which reaches halfway to both neighbours.

    At the lowest and the highest coefficient it reaches as far outwards as inwards.
    """
    places = sorted(set(at))
    steps = [high - low for low, high in pairwise(places)] or [1.0]
    for before, place, after in zip([steps[0], *steps], places, [*steps, steps[-1]], strict=False):
        if place in overflowed:
            yield place - before / 2, place + after / 2
