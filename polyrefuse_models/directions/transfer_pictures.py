"""Draw the figures of a transfer: the ASR by languages, the cosines, and the universality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polyrefuse_models.directions.marks import OWN_LAYER
from polyrefuse_shared import pictures
from polyrefuse_shared.colours import INK, PALETTE
from polyrefuse_shared.heat_map import heat_map
from polyrefuse_shared.pictures import short_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COSINES = ("sources", "cosine_at", "cosine")
UNIVERSALITY = (
    "sources", "cosine_at", "cosine_by_layer", "explained_by_one", "explained_by_one_by_layer",
    "principal_angles",
)  # fmt: skip
"""The entries of a transfer report that the figures `cosine` and `universality` show."""


def pictures_of(document: dict[str, Any]) -> dict[str, bytes]:
    """Return the files of each figure, by their names.

    The numbers behind `transfer.png` have no file of their own: `transfer.json` is the report.

    Args:
        document: the contents of `transfer.json`.
    """
    return {
        **pictures.files("transfer", transfer_figure(document)),
        **pictures.files("cosine", cosine_figure(document), _part(document, COSINES)),
        **pictures.files(
            "universality", universality_figure(document), _part(document, UNIVERSALITY)
        ),
    }


def _part(document: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: document[name] for name in ("model", *names)}


def transfer_figure(document: dict[str, Any]) -> Figure:
    """Draw the ASR by source and target language as a heat map, with the untouched model on top."""
    values = [[cell["asr"] for cell in document["baseline"]]]
    n = len(document["targets"])
    cells = [cell["asr"] for cell in document["cells"]]
    values += [cells[start : start + n] for start in range(0, len(cells), n)]
    counts = sorted({cell["n"] for cell in (*document["baseline"], *document["cells"])})
    prompts = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    return heat_map(
        values,
        rows=["none", *document["sources"]],
        columns=document["targets"],
        labels=("direction from", "prompts in"),
        limits=(0.0, 1.0),
        format_value=lambda share: f"{100 * share:.1f}",
        title=f"{short_name(document['model'])}: attack success rate (%)\n"
        f"judge {document['judge']}, n = {prompts} prompts a cell",
    )


def cosine_figure(document: dict[str, Any]) -> Figure:
    """Draw the cosines between the languages' directions as a heat map."""
    at = document["cosine_at"]
    return heat_map(
        document["cosine"],
        rows=document["sources"],
        columns=document["sources"],
        labels=("direction from", "direction from"),
        limits=(-1.0, 1.0),
        format_value="{:.2f}".format,
        title=f"{short_name(document['model'])}: cosine between directions\n"
        f"position {at['position']}, layer {at['layer']}",
    )


@pictures.style()
def universality_figure(document: dict[str, Any]) -> Figure:
    """Draw the cosines between languages and the share that one vector explains, by layer."""
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
        if len(pairs[0]) > 1:
            above.fill_between(
                numbers, low, high, color=PALETTE["sky blue"], alpha=0.4, label="lowest to highest"
            )
        above.plot(numbers, mean, color=PALETTE["blue"], marker=".", label="mean")
        above.legend(fontsize="small", loc="lower right")
    above.set_ylim(min(-0.05, *above.get_ylim()), 1.05)
    counted = f"{len(pairs[0])} {'pair' if len(pairs[0]) == 1 else 'pairs'}"
    above.set_ylabel(f"cosine between languages\n({counted})", fontsize="small")
    shares = [
        (layer, 100 * share)
        for layer, share in enumerate(document["explained_by_one_by_layer"])
        if share is not None
    ]
    below.plot(*zip(*shares, strict=True), color=PALETTE["vermilion"], marker=".")
    below.axhline(100 / n, color=INK, alpha=0.5, linewidth=1, linestyle="--")
    below.annotate(
        "all orthogonal", (0, 100 / n), xytext=(2, 3), textcoords="offset points", fontsize=8
    )
    below.set_ylim(0, 105)
    below.set_ylabel("% of the directions that\none vector explains", fontsize="small")
    below.set_xlabel(f"layer at whose input the states were read (dotted: layer {at['layer']})")
    below.set_xlim(-0.5, len(document["cosine_by_layer"]) - 0.5)
    below.xaxis.get_major_locator().set_params(integer=True)
    for axis in (above, below):
        axis.axvline(at["layer"], **OWN_LAYER)
    explained = 100 * document["explained_by_one"]
    pictures.title(
        figure,
        f"{short_name(document['model'])}: one vector explains {explained:.1f}% of the directions "
        f"of {n} {'languages' if n > 1 else 'language'}\n"
        f"position {at['position']}, layer {at['layer']}{_angles(document)}",
    )
    return figure


def _angles(document: dict[str, Any]) -> str:
    """Describe the first principal angles between the languages' subspaces, for the title."""
    found = document["principal_angles"]
    n = len(document["sources"])
    if found["degrees"] is None or n < 2:
        return ""
    first = np.array(found["degrees"])[np.triu_indices(n, 1)][:, 0]
    ends = dict.fromkeys((f"{first.min():.0f}", f"{first.max():.0f}"))
    return f"; first principal angle of rank-{found['rank']} subspaces {' to '.join(ends)} degrees"
