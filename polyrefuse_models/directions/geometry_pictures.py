"""Draw the figures of a geometry: each language's prompts in a plane, measures by layer, and more.

`monitor_pictures`, `harmfulness_pictures` and `success_pictures` draw the other figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polyrefuse_models.directions.harmfulness_pictures import harmfulness_figure
from polyrefuse_models.directions.marks import (
    GUIDE,
    OWN_LAYER,
    control_line,
    gaps,
    language_lines,
)
from polyrefuse_models.directions.monitor_pictures import monitor_figure
from polyrefuse_models.directions.planes import square_limits
from polyrefuse_models.directions.success_pictures import answers_figure, answers_layers_figure
from polyrefuse_shared import pictures
from polyrefuse_shared.colours import HARMFUL, HARMLESS
from polyrefuse_shared.pictures import short_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

APART = "AUC says whether harmful prompts are told from harmless ones, not whether they are refused"
"""The remark in every figure that has an AUC."""

COLUMNS = 5
"""The largest number of panels side by side."""


def pictures_of(document: dict[str, Any]) -> dict[str, bytes]:
    """Return the files of each figure that has something to show, by their names.

    Args:
        document: the contents of `geometry.json`.
    """
    figures: dict[str, Figure | None] = {
        "geometry": geometry_figure(document),
        "geometry_layers": geometry_layers_figure(document),
        "geometry_monitor": monitor_figure(document),
    }
    if document["harmfulness"]["languages"]:
        figures["geometry_harmfulness"] = harmfulness_figure(document)  # None without an angle
    if document["success"]:
        figures["geometry_answers"] = answers_figure(document)
        figures["geometry_answers_layers"] = answers_layers_figure(document)
    return {
        file: content
        for name, figure in figures.items()
        if figure is not None
        for file, content in pictures.files(name, figure).items()
    }


@pictures.style()
def geometry_figure(document: dict[str, Any]) -> Figure:
    """Draw each language's harmful and harmless prompts in the plane of all languages' states.

    Each language has a panel. Both components have the same scale in all panels, so that distances
    can be compared.
    """
    plane = document["plane"]
    columns = min(COLUMNS, len(plane))
    rows = -(-len(plane) // columns)
    figure = pictures.figure((max(6.5, 1.2 + 2.1 * columns), 1.2 + 2.3 * rows))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axis, (language, placed) in zip(axes.flat, plane.items(), strict=False):
        for kind, colour, marker in (("harmful", HARMFUL, "x"), ("harmless", HARMLESS, ".")):
            at = np.array(placed[kind]).reshape(-1, 2)
            axis.scatter(at[:, 0], at[:, 1], s=12, c=colour, marker=marker, lw=0.8, label=kind)
        axis.set_title(_apart(language, document, placed), fontsize="small")
        axis.set_box_aspect(1)
    (left, right), (bottom, top) = square_limits(
        np.concatenate(
            [np.array(part).reshape(-1, 2) for of in plane.values() for part in of.values()]
        )
    )
    axes.flat[0].set_xlim(left, right)
    axes.flat[0].set_ylim(bottom, top)
    for unused in axes.flat[len(plane) :]:
        unused.set_axis_off()
    for axis in axes.flat[len(plane) - columns : len(plane)]:
        axis.tick_params(labelbottom=True)
    first, second = (
        f"{100 * share:.3g}% of the variance" for share in document["explained_variance"]
    )
    figure.supxlabel(
        f"first principal component ({first}; units of the residual stream)", fontsize="small"
    )
    figure.supylabel(f"second principal component\n({second}; the same scale)", fontsize="small")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize="small")
    pictures.title(
        figure,
        f"{short_name(document['model'])}: states of prompts at position "
        f"{document['position']}, layer {document['layer']}\n{APART}; brackets: 95% intervals"
        f"{control_line(document['direction'])}",
    )
    return figure


def _apart(language: str, document: dict[str, Any], placed: dict[str, Any]) -> str:
    of = document["languages"][language]
    interval = "" if of["auc_low"] is None else f" [{of['auc_low']:.2f}, {of['auc_high']:.2f}]"
    auc = "no AUC" if of["auc"] is None else f"AUC {of['auc']:.2f}{interval}"
    counts = ", ".join(f"{len(points)} {kind}" for kind, points in placed.items())
    return f"{language}: {auc}\n{counts}"


@pictures.style()
def geometry_layers_figure(document: dict[str, Any]) -> Figure:
    """Draw AUC, silhouette and cosine to English by layer, with one line for each language.

    The cosine is that between the difference of means of a language and that of English. A line has
    a gap at layers where all states of a language are the same.
    """
    languages, layers = list(document["languages"]), document["layers"]
    english = languages.index("en")
    panels: dict[str, tuple[float, Callable[[dict[str, Any], str], float | None]]] = {
        "AUC along\nthe direction": (0.5, lambda at, name: at["languages"][name]["auc"]),
        "silhouette of\nthe two clouds": (0, lambda at, name: at["languages"][name]["silhouette"]),
        "cosine of differences of\nmeans with English's": (
            0,
            lambda at, name: at["cosine"][english][languages.index(name)],
        ),
    }
    figure = pictures.figure((9, 7.5))
    axes = figure.subplots(len(panels), 1, sharex=True)
    styles = language_lines(languages)
    for axis, (label, (nothing, value)) in zip(axes, panels.items(), strict=True):
        for language in languages:
            axis.plot(
                [at["layer"] for at in layers],
                gaps(value(at, language) for at in layers),
                marker=".",
                label=language,
                **styles[language],
            )
        axis.axvline(document["layer"], **OWN_LAYER)
        axis.axhline(nothing, **GUIDE)
        axis.set_ylabel(label, fontsize="small")
    axes[-1].set_xlim(-0.5, len(layers) - 0.5)
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    axes[-1].set_xlabel("layer at whose input the states were read (dotted: the direction's own)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize="small")
    pictures.title(
        figure,
        f"{short_name(document['model'])}: states of prompts at position "
        f"{document['position']}\n{APART}{control_line(document['direction'])}",
    )
    return figure
