"""Pictures of a transfer, as PNG: attack success by pair of languages, and cosines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polyrefuse_models.directions.marks import short_name
from polyrefuse_shared import pictures

if TYPE_CHECKING:
    from collections.abc import Sequence


@pictures.plain_text()
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
        title=f"Attack success rate, {short_name(document['model'])}",
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


def _heat_map(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    labels: tuple[str, str],
    limits: tuple[float, float],
) -> bytes:
    figure = pictures.figure((2 + 0.5 * len(columns), 1.6 + 0.4 * len(rows)))
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
    axis.set_title(pictures.lines(title, figure.get_figwidth() - 0.5), fontsize="medium")
    figure.colorbar(image)
    return pictures.png(figure)
