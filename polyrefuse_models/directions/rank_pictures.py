"""Draw the figure of `direction rank`: ASR against the number of ablated directions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polyrefuse_models.directions.language_panels import draw_rates, language_panels
from polyrefuse_shared import pictures
from polyrefuse_shared.colours import of_condition
from polyrefuse_shared.pictures import short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUBSPACE, RANDOM = (of_condition(f"{kind}subspace-ablation").colour for kind in ("", "random-"))


@pictures.style()
def rank_figure(document: dict[str, Any]) -> Figure:
    """Draw ASR by rank, for the subspace and for random directions, with a panel per language.

    Args:
        document: the contents of `rank.json`.
    """

    def panel(axis: Axes, language: str) -> None:
        cells = [one for one in document["cells"] if one["language"] == language]
        _panel(axis, cells)
        axis.set_xticks([0, *document["ranks"]])
        found = document["carried"][language]
        said = "not known" if found is None else f"carried by {found}"
        axis.set_title(f"{language}, n = {cells[0]['n']}: {said}", fontsize="small")

    return language_panels(
        document["languages"],
        panel,
        x="number of directions ablated (0: the untouched model)",
        y="ASR, % of harmful prompts",
        title=f"{short_name(document['model'])}: how many directions carry refusal\n"
        f"judge {document['judge']}; bars are 95% intervals",
    )


def _panel(axis: Axes, cells: list[dict[str, Any]]) -> None:
    untouched = [cell for cell in cells if not cell["rank"]]
    controls = [cell for cell in cells if cell["control_seed"] is not None]
    for number, seed in enumerate(sorted({cell["control_seed"] for cell in controls})):
        own = untouched + [cell for cell in controls if cell["control_seed"] == seed]
        label = "_more" if number else "random directions"
        draw_rates(axis, *_rates(own), label=label, colour=RANDOM, aside=True)
    subspace = [cell for cell in cells if cell["control_seed"] is None]
    draw_rates(axis, *_rates(subspace), label="subspace of refusal", colour=SUBSPACE)


def _rates(cells: list[dict[str, Any]]) -> tuple[list[int], list[tuple[float, float, float]]]:
    return [cell["rank"] for cell in cells], [
        (cell["asr"], cell["low"], cell["high"]) for cell in cells
    ]
