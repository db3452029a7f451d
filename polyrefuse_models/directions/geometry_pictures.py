"""Pictures of a geometry, as PNG: each language's prompts in one plane, by layer, and the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polyrefuse_models.directions.harmfulness_pictures import harmfulness_png
from polyrefuse_models.directions.marks import (
    HARMFUL,
    HARMLESS,
    gaps,
    language_line,
    short_name,
)
from polyrefuse_models.directions.monitor_pictures import monitor_png
from polyrefuse_models.directions.success_pictures import answers_layers_png, answers_png
from polyrefuse_shared import pictures

if TYPE_CHECKING:
    from collections.abc import Callable

APART = "AUC says whether harmful prompts are told from harmless ones, not whether they are refused"
"""Stands in every picture that has an AUC."""


@pictures.plain_text()
def pictures_of(document: dict[str, Any], points: dict[str, np.ndarray]) -> dict[str, bytes]:
    """Each picture that there is something to draw in, by the name of its file."""
    drawn: dict[str, bytes | None] = {
        "geometry.png": geometry_png(document, points),
        "geometry_layers.png": geometry_layers_png(document),
        "geometry_monitor.png": monitor_png(document),
    }
    if document["harmfulness"]["languages"]:
        drawn["geometry_harmfulness.png"] = harmfulness_png(document)
    if document["success"]:
        drawn["geometry_answers.png"] = answers_png(document)
        drawn["geometry_answers_layers.png"] = answers_layers_png(document)
    return {name: picture for name, picture in drawn.items() if picture is not None}


def geometry_png(document: dict[str, Any], points: dict[str, np.ndarray]) -> bytes:
    """A panel a language: harmful and harmless prompts in the plane of all languages' states."""
    figure = pictures.figure((11, 2.6 * (-(-len(points) // 5)) + 0.6))
    axes = figure.subplots(-(-len(points) // 5), 5, sharex=True, sharey=True, squeeze=False)
    for axis, (language, placed) in zip(axes.flat, points.items(), strict=False):
        for harmful, colour, marker in ((1, HARMFUL, "x"), (0, HARMLESS, ".")):
            chosen = placed[placed[:, 2] == harmful]
            name = "harmful" if harmful else "harmless"
            axis.scatter(chosen[:, 0], chosen[:, 1], s=12, c=colour, marker=marker, label=name)
        auc = document["languages"][language]["auc"]
        axis.set_title(f"{language}: AUC {auc:.2f}", fontsize="small")
    for unused in axes.flat[len(points) :]:
        unused.set_axis_off()
    for axis in axes.flat[max(0, len(points) - axes.shape[1]) : len(points)]:
        axis.tick_params(labelbottom=True)
        axis.set_xlabel("first component", fontsize="small")
    for axis in axes[:, 0]:
        axis.set_ylabel("second component", fontsize="small")
    axes.flat[0].legend(fontsize="x-small")
    pictures.title(
        figure,
        f"{short_name(document['model'])}: residual states at position {document['position']}, "
        f"layer {document['layer']}, first two principal components (units of the residual "
        f"stream)\n{APART}",
    )
    return pictures.png(figure)


def geometry_layers_png(document: dict[str, Any]) -> bytes:
    """By layer, a line a language: AUC, silhouette, and the cosine between its difference of means
    and English's; where a language's states are all the same the line has a gap.
    """
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
    figure = pictures.figure((8, 8))
    axes = figure.subplots(len(panels), 1, sharex=True)
    for axis, (label, (nothing, value)) in zip(axes, panels.items(), strict=True):
        for index, language in enumerate(languages):
            axis.plot(
                [at["layer"] for at in layers],
                gaps(value(at, language) for at in layers),
                marker=".",
                label=language,
                **language_line(index),
            )
        axis.axvline(document["layer"], color="black", linewidth=1, linestyle=":")
        axis.axhline(nothing, color="0.8", linewidth=1, zorder=0)
        axis.set_ylabel(label, fontsize="small")
    axes[-1].set_xlim(-0.5, len(layers) - 0.5)
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    axes[-1].set_xlabel("layer at whose input the states were read (dotted: the direction's own)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize="small")
    pictures.title(
        figure,
        f"{short_name(document['model'])}: residual states at position {document['position']}\n"
        f"{APART}",
    )
    return pictures.png(figure)
