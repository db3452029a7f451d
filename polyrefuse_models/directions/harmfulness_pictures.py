"""Draw the angle between the direction of harmfulness and the refusal direction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polyrefuse_models.directions.marks import GUIDE, OWN_LAYER, control_line, gaps, language_lines
from polyrefuse_shared import pictures
from polyrefuse_shared.pictures import short_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def angle_text(angle: float | None, low: float | None, high: float | None) -> str:
    """Write an angle in whole degrees with its interval, as far as they are known."""
    if angle is None:
        return "-"
    return f"{angle:.0f}" if low is None or high is None else f"{angle:.0f} [{low:.0f}, {high:.0f}]"


@pictures.style()
def harmfulness_figure(document: dict[str, Any]) -> Figure | None:
    """Draw the angle of each language by layer, and its interval at the direction's layer.

    There is no figure if no language has an angle at any layer.

    Args:
        document: the contents of `geometry.json`, with languages in its `harmfulness`.
    """
    found = document["harmfulness"]
    languages, layers = found["languages"], found["layers"]
    if not any(of["angle"] is not None for at in layers for of in at["languages"].values()):
        return None
    styles = language_lines(list(languages))
    figure = pictures.figure((12, max(4.5, 1.8 + 0.24 * len(languages))))
    lines, dots = figure.subplots(1, 2, width_ratios=(2, 1))
    places = [at["layer"] for at in layers]
    texts = []
    for place, language in enumerate(languages):
        angles = gaps(at["languages"][language]["angle"] for at in layers)
        lines.plot(places, angles, marker=".", label=language, **styles[language])
        own, low, high = (languages[language][end] for end in ("angle", "angle_low", "angle_high"))
        texts.append(angle_text(own, low, high))
        if own is not None:
            dots.plot(own, place, marker="o", color=styles[language]["color"])
        if low is not None:
            dots.plot([low, high], [place, place], color=styles[language]["color"])
    lines.axvline(document["layer"], **OWN_LAYER)
    lines.set_xlim(-0.5, len(layers) - 0.5)
    lines.xaxis.get_major_locator().set_params(integer=True)
    lines.set_xlabel("layer at whose input the states were read (dotted: the direction's own)")
    lines.set_ylabel("angle between harmfulness and refusal (degrees)")
    lines.set_ylim(0, 180)
    lines.set_yticks(range(0, 181, 30))
    lines.axhline(90, **GUIDE)
    figure.legend(*lines.get_legend_handles_labels(), loc="outside right center", fontsize="small")
    dots.axvline(90, **GUIDE)
    dots.set_yticks(range(len(languages)), list(languages))
    dots.set_ylim(len(languages) - 0.5, -0.5)
    beside = dots.secondary_yaxis("right")
    beside.set_yticks(range(len(languages)), texts, fontsize="small")
    beside.tick_params(length=0)
    dots.set_xlim(0, 180)
    dots.set_xticks(range(0, 181, 30))
    dots.set_xlabel(f"angle at layer {document['layer']} (degrees, 95% interval)")
    dots.set_ylabel("language of the prompts")
    pictures.title(
        figure,
        f"{short_name(document['model'])}: harmfulness at the user's last token (position "
        f"{found['user']}), refusal at the template's last token (position {found['last']})"
        f"{control_line(document['direction'])}",
    )
    return figure
