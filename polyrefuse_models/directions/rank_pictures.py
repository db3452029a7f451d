"""The picture of `direction rank`: attack success against the number of ablated directions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polyrefuse_shared import pictures
from polyrefuse_shared.pictures import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 5
"""Panels side by side, at most."""


@pictures.svg_style()
def rank_png(document: dict[str, Any]) -> bytes:
    """A panel a language: attack success by rank, of the subspace and of random directions."""
    return pictures.png(_drawn(document))


@pictures.svg_style()
def rank_svg(document: dict[str, Any]) -> bytes:
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
        cells = [one for one in document["cells"] if one["language"] == language]
        _panel(axis, cells, [0, *document["ranks"]])
        found = document["carried"][language]
        said = "not told" if found is None else f"carried by {found}"
        axis.set_title(f"{language}, n = {cells[0]['n']}: {said}", fontsize="small")
    for unused in axes.flat[len(languages) :]:
        unused.set_axis_off()
    for place in range(len(languages) - columns, len(languages)):
        axes.flat[place].tick_params(labelbottom=True)  # where nothing is drawn below
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="small")
    figure.supxlabel("number of directions ablated (0: the model as it is)", fontsize="small")
    figure.supylabel("ASR, % of harmful prompts", fontsize="small")
    figure.suptitle(
        f"{document['model']}: how many directions carry refusal\n"
        f"judge {document['judge']}; bars are 95% intervals",
        fontsize="medium",
    )
    return figure


def _panel(axis: Axes, cells: list[dict[str, Any]], ranks: list[int]) -> None:
    untouched = [cell for cell in cells if not cell["rank"]]
    controls = [cell for cell in cells if cell["control_seed"] is not None]
    seeds = sorted({cell["control_seed"] for cell in controls})
    series = [
        (untouched + [cell for cell in controls if cell["control_seed"] == seed], "0.55", "s", "--")
        for seed in seeds
    ]
    subspace = [cell for cell in cells if cell["control_seed"] is None]
    for number, (drawn, colour, marker, style) in enumerate(
        [*series, (subspace, PALETTE["vermilion"], "o", "-")]
    ):
        label = "subspace of refusal" if number == len(series) else "random directions"
        axis.errorbar(
            [cell["rank"] for cell in drawn],
            [100 * cell["asr"] for cell in drawn],
            yerr=(
                [100 * max(0.0, cell["asr"] - cell["low"]) for cell in drawn],
                [100 * max(0.0, cell["high"] - cell["asr"]) for cell in drawn],
            ),
            color=colour,
            linestyle=style,
            marker=marker,
            markersize=4,
            linewidth=1.2,
            elinewidth=0.8,
            capsize=2,
            label="_more" if 0 < number < len(series) else label,
        )
    axis.set_xticks(ranks)
    axis.set_ylim(-4, 104)
    axis.grid(axis="y")
