"""Draw the figure of a sweep: refusals and degenerate answers against the coefficient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polyrefuse_models.directions.language_panels import draw_rates, language_panels
from polyrefuse_shared import pictures
from polyrefuse_shared.colours import NO_VERDICT, REFUSED
from polyrefuse_shared.intervals import wilson
from polyrefuse_shared.pictures import short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@pictures.style()
def sweep_figure(document: dict[str, Any]) -> Figure:
    """Draw the share of refused harmless prompts by coefficient, in a panel for each language."""
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
