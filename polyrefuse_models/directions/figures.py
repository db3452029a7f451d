"""Pictures of transfer and geometry, as PNG bytes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from polyrefuse_shared import pictures as picture

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


APART = "AUC says whether harmful prompts are told from harmless ones, not whether they are refused"
"""Stands in every picture that has an AUC."""

# Okabe and Ito's, which colour-blind readers can tell apart; in two styles they are as many as
# there are languages.
COLOURS = ("#000000", "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7")


def transfer_png(document: dict[str, Any]) -> bytes:
    """Attack success by source and target language, the unablated model on top."""
    rows = ["none", *document["sources"]]
    values = [[cell["asr"] for cell in document["baseline"]]]
    n = len(document["targets"])
    cells = [cell["asr"] for cell in document["cells"]]
    values += [cells[start : start + n] for start in range(0, len(cells), n)]
    return _heat_map(
        np.array(values),
        rows,
        document["targets"],
        title=f"Attack success rate, {document['model']}",
        labels=("direction ablated, from", "prompts in"),
        limits=(0.0, 1.0),
    )


def cosine_png(document: dict[str, Any]) -> bytes:
    """Cosine between the languages' directions."""
    at = document["cosine_at"]
    return _heat_map(
        np.array(document["cosine"]),
        document["sources"],
        document["sources"],
        title=f"Cosine of directions at position {at['position']}, layer {at['layer']}",
        labels=("", ""),
        limits=(-1.0, 1.0),
    )


def geometry_png(document: dict[str, Any], points: dict[str, np.ndarray]) -> bytes:
    """A panel a language: harmful and harmless prompts in the plane of all languages' states."""
    figure = picture.figure((11, 2.6 * (-(-len(points) // 5)) + 0.6))
    axes = figure.subplots(-(-len(points) // 5), 5, sharex=True, sharey=True, squeeze=False)
    for axis, (language, placed) in zip(axes.flat, points.items(), strict=False):
        for harmful, colour, marker in ((1, "#d55e00", "x"), (0, "#0072b2", ".")):
            chosen = placed[placed[:, 2] == harmful]
            name = "harmful" if harmful else "harmless"
            axis.scatter(chosen[:, 0], chosen[:, 1], s=12, c=colour, marker=marker, label=name)
        told = document["languages"][language]
        axis.set_title(f"{language}: AUC {told['auc']:.2f}", fontsize="small")
    for unused in axes.flat[len(points) :]:
        unused.set_axis_off()
    axes.flat[0].legend(fontsize="x-small")
    figure.suptitle(
        f"{document['model']}: residual states at position {document['position']}, "
        f"layer {document['layer']}, first two principal components\n{APART}",
        fontsize="medium",
    )
    return picture.png(figure)


def geometry_layers_png(document: dict[str, Any]) -> bytes:
    """By layer, a line a language: AUC, silhouette, and the cosine between its difference of means
    and English's; where a language's states are all the same the line has a gap."""
    languages, layers = list(document["languages"]), document["layers"]
    english = languages.index("en")
    panels: dict[str, tuple[float, Callable[[dict[str, Any], str], float | None]]] = {
        "AUC along the direction": (0.5, lambda at, name: at["languages"][name]["auc"]),
        "silhouette of the two clouds": (0, lambda at, name: at["languages"][name]["silhouette"]),
        "cosine of differences of\nmeans with English's": (
            0,
            lambda at, name: at["cosine"][english][languages.index(name)],
        ),
    }
    figure = picture.figure((8, 8))
    axes = figure.subplots(len(panels), 1, sharex=True)
    for axis, (label, (nothing, value)) in zip(axes, panels.items(), strict=True):
        for index, language in enumerate(languages):
            heights = [math.nan if (y := value(at, language)) is None else y for at in layers]
            axis.plot(
                [at["layer"] for at in layers],
                heights,
                color=COLOURS[index % len(COLOURS)],
                linestyle="-" if index < len(COLOURS) else "--",
                marker=".",
                label=language,
            )
        axis.axvline(document["layer"], color="black", linewidth=1, linestyle=":")
        axis.axhline(nothing, color="0.8", linewidth=1, zorder=0)
        axis.set_ylabel(label, fontsize="small")
    axes[-1].set_xlim(-0.5, len(layers) - 0.5)
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    axes[-1].set_xlabel("layer at whose input the states were read (dotted: the direction's own)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="small")
    figure.suptitle(
        f"{document['model']}: residual states at position {document['position']}\n{APART}",
        fontsize="medium",
    )
    return picture.png(figure)


def _heat_map(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    labels: tuple[str, str],
    limits: tuple[float, float],
) -> bytes:
    figure = picture.figure((2 + 0.5 * len(columns), 1.6 + 0.4 * len(rows)))
    axis = figure.subplots()
    # Safe for colour-blind readers, and the number stands in every cell.
    image = axis.imshow(values, cmap="cividis", vmin=limits[0], vmax=limits[1], aspect="auto")
    axis.set_xticks(range(len(columns)), columns)
    axis.set_yticks(range(len(rows)), rows)
    axis.set_ylabel(labels[0])
    axis.set_xlabel(labels[1])
    middle = sum(limits) / 2
    for (row, column), value in np.ndenumerate(values):
        colour = "black" if value > middle else "white"
        axis.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
    axis.set_title(title, fontsize="medium")
    figure.colorbar(image)
    return picture.png(figure)
