"""The picture of harmfulness beside refusal, as PNG: the angle between them."""

from __future__ import annotations

from typing import Any

from polyrefuse_models.directions.marks import gaps, language_line, short_name
from polyrefuse_shared import pictures


def harmfulness_png(document: dict[str, Any]) -> bytes:
    """The angle by layer, a line a language, and at the direction's own layer by language.

    Args:
        document: whose `harmfulness` has languages.
    """
    found = document["harmfulness"]
    languages, layers = found["languages"], found["layers"]
    figure = pictures.figure((12, max(4.5, 1.8 + 0.24 * len(languages))))
    lines, dots = figure.subplots(1, 2, width_ratios=(2, 1))
    places = [at["layer"] for at in layers]
    for place, language in enumerate(languages):
        angles = gaps(at["languages"][language]["angle"] for at in layers)
        lines.plot(places, angles, marker=".", label=language, **language_line(place))
        own = languages[language]["angle"]
        if own is not None:
            dots.plot(own, place, marker="o", color=language_line(place)["color"])
            dots.annotate(
                f"{own:.0f}°", (own, place), xytext=(7, 0), textcoords="offset points",
                va="center", fontsize="small",
            )  # fmt: skip
    lines.axvline(document["layer"], color="black", linewidth=1, linestyle=":")
    lines.set_xlim(-0.5, len(layers) - 0.5)
    lines.xaxis.get_major_locator().set_params(integer=True)
    lines.set_xlabel("layer at whose input the states were read (dotted: the direction's own)")
    lines.set_ylabel("angle between harmfulness and refusal (degrees)")
    lines.set_ylim(0, 180)
    lines.set_yticks(range(0, 181, 30))
    lines.axhline(90, color="0.8", linewidth=1, zorder=0)
    figure.legend(*lines.get_legend_handles_labels(), loc="outside right center", fontsize="small")
    dots.axvline(90, color="0.8", linewidth=1, zorder=0)
    dots.set_yticks(range(len(languages)), list(languages))
    dots.set_ylim(len(languages) - 0.5, -0.5)
    dots.set_xlim(0, 180)
    dots.set_xticks(range(0, 181, 30))
    dots.set_xlabel(f"the same at layer {document['layer']} (degrees)")
    pictures.title(
        figure,
        f"{short_name(document['model'])}: harmfulness at the user's last token (position "
        f"{found['user']}),\nrefusal at the template's last token (position {found['last']})",
    )
    return pictures.png(figure)
