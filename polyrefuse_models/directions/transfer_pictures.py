"""Pictures of a transfer, as PNG: attack success by languages, cosines, and how universal it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polyrefuse_models.directions.marks import short_name
from polyrefuse_shared import pictures
from polyrefuse_shared.pictures import PALETTE

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


def universality_png(document: dict[str, Any]) -> bytes:
    """By layer: the cosines between languages, and the share that one vector explains."""
    at, n = document["cosine_at"], len(document["sources"])
    figure = pictures.figure((7, 6))
    above, below = figure.subplots(2, 1, sharex=True)
    pairs = np.triu_indices(n, 1)
    layers = [
        (layer, np.array(cosine)[pairs])
        for layer, cosine in enumerate(document["cosine_by_layer"])
        if cosine is not None and n > 1
    ]
    if layers:
        numbers = [layer for layer, _ in layers]
        low, mean, high = (
            [measure(values) for _, values in layers] for measure in (np.min, np.mean, np.max)
        )
        above.fill_between(
            numbers, low, high, color=PALETTE["sky blue"], alpha=0.4, label="lowest to highest"
        )
        above.plot(numbers, mean, color=PALETTE["blue"], marker=".", label="mean")
        above.legend(fontsize="small", loc="best")
    above.set_ylim(min(-0.05, *above.get_ylim()), 1.05)
    above.set_ylabel(f"cosine between languages\n({len(pairs[0])} pairs)", fontsize="small")
    shares = [
        (layer, 100 * share)
        for layer, share in enumerate(document["explained_by_one_by_layer"])
        if share is not None
    ]
    below.plot(*zip(*shares, strict=True), color=PALETTE["vermilion"], marker=".")
    below.axhline(100 / n, color="0.6", linewidth=1, linestyle="--")
    below.annotate(
        "all at right angles", (0, 100 / n), xytext=(2, 3), textcoords="offset points", fontsize=8
    )
    below.set_ylim(0, 105)
    below.set_ylabel("% of the directions that\none vector explains", fontsize="small")
    below.set_xlabel("layer at whose input the states were read (dotted: where the cosines are of)")
    below.set_xlim(-0.5, len(document["cosine_by_layer"]) - 0.5)
    below.xaxis.get_major_locator().set_params(integer=True)
    for axis in (above, below):
        axis.axvline(at["layer"], color="black", linewidth=1, linestyle=":")
    explained = 100 * document["explained_by_one"]
    figure.suptitle(
        f"{document['model']}: one vector explains {explained:.1f}% of the directions of {n} "
        f"{'languages' if n > 1 else 'language'}\nposition {at['position']}, layer {at['layer']}"
        f"{_angles(document)}",
        fontsize="medium",
    )
    return pictures.png(figure)


def _angles(document: dict[str, Any]) -> str:
    """The first principal angles between the languages' subspaces, for the title."""
    found = document["principal_angles"]
    n = len(document["sources"])
    if found["degrees"] is None or n < 2:
        return ""
    first = np.array(found["degrees"])[np.triu_indices(n, 1)][:, 0]
    return (
        f"; first principal angle of rank-{found['rank']} subspaces {first.min():.0f} to "
        f"{first.max():.0f} degrees"
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
