"""Draw the scores of every candidate, by layer and position."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from polyrefuse_models.directions.marks import GUIDE, LINES, readable
from polyrefuse_models.directions.select import DEFAULT, RULES, Candidate, Rule, eligible
from polyrefuse_shared import pictures
from polyrefuse_shared.colours import INK
from polyrefuse_shared.pictures import short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path

    from polyrefuse_models.directions.artifact import Direction

PANELS: dict[str, tuple[str, str]] = {
    "refusal_score": (
        "refusal score (log-odds),\nharmful prompts,\ndirection ablated",
        "harmful_refusal_score",
    ),
    "kl_div_score": ("KL divergence (nats),\nharmless prompts,\ndirection ablated", ""),
    "steering_score": (
        "refusal score (log-odds),\nharmless prompts,\ndirection added",
        "harmless_refusal_score",
    ),
    "comply_cosine": (
        "cosine with\nharmless prompts,\nharmful prompts,\ndirection ablated",
        "cosine",
    ),
    "refuse_cosine": (
        "cosine with\nharmful prompts,\nharmless prompts,\ndirection added",
        "cosine",
    ),
    "cosmic_score": ("COSMIC score\n(sum of both\ncosines)", ""),
}
"""Score -> the label of its axis, and the key of the untouched model's value ("" for none)."""

HEADROOM = 1.3
"""The top of the KL axis in multiples of the limit. Values above it make the axis logarithmic."""


@pictures.style()
def scores_figure(direction: Direction) -> Figure:
    """Draw a panel for each score that was computed, with a line for each position.

    A ring marks the choice. An arrow at the KL limit marks a candidate that the search rejected as
    soon as its divergence was known to be above the limit. Layers that the rule does not consider
    are shaded.
    """
    metadata = direction.metadata
    computed = [
        name
        for name in PANELS
        if any(_finite(getattr(candidate, name)) for candidate in direction.scores)
    ]
    figure = pictures.figure((9, 0.8 + 2.3 * max(1, len(computed))))
    axes = figure.subplots(max(1, len(computed)), 1, sharex=True, squeeze=False)[:, 0]
    for axis, name in zip(axes, computed, strict=False):
        _panel(axis, direction, name)
    if not computed:
        axes[0].set_axis_off()
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    axes[-1].set_xlabel("layer at whose input the direction was read")
    handles = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    # The positions come first in the legend, and the marks after them.
    names = sorted(handles, key=lambda label: not label.startswith("position"))
    figure.legend(
        [handles[name] for name in names], names, loc="outside right center", fontsize="small"
    )
    pictures.title(
        figure,
        f"{short_name(str(metadata.get('model')))}: candidate directions from prompts in "
        f"{metadata.get('source_lang')}\nchosen: position "
        f"{_named(direction, _chosen(direction)[0])}, layer {metadata.get('layer')}",
    )
    return figure


def _panel(axis: Axes, direction: Direction, name: str) -> None:
    label, untouched = PANELS[name]
    n_layers = direction.candidates.shape[1]
    rule = RULES.get(direction.metadata.get("rule", DEFAULT.name), DEFAULT)
    axis.axvspan(
        rule.layers(n_layers) - 0.5, n_layers - 0.5, color=INK, alpha=0.1, linewidth=0, zorder=0,
        label="layers not considered",
    )  # fmt: skip
    lines = _lines(direction)
    for position, line in lines.items():
        scored = [at for at in direction.scores if at.position == position]
        axis.plot(
            [at.layer for at in scored],
            [_height(at, name) for at in scored],
            marker=".",
            label=f"position {_named(direction, position)}",
            **line,
        )
    for at in direction.scores:
        if (at.position, at.layer) == _chosen(direction) and _finite(getattr(at, name)):
            axis.plot(
                at.layer, _height(at, name), "o", mfc="none", mec=INK, ms=10, label="the choice"
            )
    axis.set_xlim(-0.5, n_layers - 0.5)
    axis.set_ylabel(label, fontsize="small")
    if name == "kl_div_score":
        _limit(axis, direction, rule, lines)
    if name == "steering_score" and rule.least_steering is not None:
        axis.axhline(
            rule.least_steering, color=INK, linestyle="--", linewidth=1, label="limit of the rule"
        )
    base = direction.metadata.get("untouched", {}).get(untouched)
    if base is not None:
        axis.axhline(base, color=INK, linestyle=":", linewidth=1, label="untouched model")


def _limit(axis: Axes, direction: Direction, rule: Rule, lines: dict[int, dict[str, Any]]) -> None:
    """Draw the KL limit and arrows for the candidates above it, and set an axis that shows both."""
    limit = rule.kl_limit
    axis.axhline(limit, color=INK, linestyle="--", linewidth=1, label="limit of the rule")
    axis.axhline(0, **GUIDE)
    left = rejected(direction, rule)
    for place, (position, line) in enumerate(lines.items()):
        # Candidates of the same layer get their arrows side by side.
        aside = 0.6 * ((place + 0.5) / len(lines) - 0.5)
        layers = [at.layer + aside for at in left if at.position == position]
        axis.plot(
            layers, [limit] * len(layers), linestyle="none", marker=_arrow(), markersize=22,
            color=line["color"],
        )  # fmt: skip
    if left:
        axis.plot(
            [], [], linestyle="none", marker=_arrow(), markersize=14, color=INK,
            label="rejected: above the limit",
        )  # fmt: skip
    scored = [at.kl_div_score for at in direction.scores if at.kl_div_score is not None]
    highest = max([limit, *filter(_finite, scored)])
    decades: list[float] = []
    if highest > HEADROOM * limit:
        axis.set_yscale("symlog", linthresh=limit)
        # By default a symlog axis has ticks only at powers of 10, and may show none.
        decades = [power for power in (1.0, 10.0, 100.0) if limit < power < highest]
        axis.set_ylim(-0.1 * limit, 1.3 * highest)
    else:
        axis.set_ylim(-0.1 * limit, HEADROOM * limit)
    ticks = [0.0, limit / 2, limit, *decades]
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()


def rejected(direction: Direction, rule: Rule) -> list[Candidate]:
    """Return the candidates whose KL divergence is known only to be above the rule's limit.

    The search goes through the candidates by rank until one is within the limits. It therefore
    rejected all candidates before the choice at the limit. If the choice itself is above the limit,
    it rejected all candidates.
    """
    ordered = eligible(direction.scores, direction.candidates.shape[1], rule)
    places = [(candidate.position, candidate.layer) for candidate in ordered]
    position, layer = _chosen(direction)
    if position is None or layer is None or (position, layer) not in places:
        return []
    choice = places.index((position, layer))
    within = ordered[choice].kl_div_score
    tried = ordered if within is None or within > rule.kl_limit else ordered[:choice]
    return [candidate for candidate in tried if candidate.kl_div_score is None]


def _arrow() -> Path:
    """Return a marker that points upwards from its place."""
    from matplotlib.path import Path

    corners = [(0.0, 0.0), (0.0, 1.0), (-0.28, 0.62), (0.0, 1.0), (0.28, 0.62)]
    return Path(corners, [Path.MOVETO, Path.LINETO, Path.MOVETO, Path.LINETO, Path.LINETO])


def _lines(direction: Direction) -> dict[int, dict[str, Any]]:
    positions = sorted({candidate.position for candidate in direction.scores})
    return {at: LINES[place % len(LINES)] for place, at in enumerate(positions)}


def _named(direction: Direction, position: int | None) -> str:
    """Return a position with its token."""
    tokens = direction.metadata.get("suffix_tokens", [])
    if position is None or -position > len(tokens):
        return str(position)
    return f"{position} {readable(tokens[position])}"


def _chosen(direction: Direction) -> tuple[int | None, int | None]:
    return direction.metadata.get("position"), direction.metadata.get("layer")


def _height(candidate: Candidate, name: str) -> float:
    score = getattr(candidate, name)
    return math.nan if score is None else score


def _finite(score: float | None) -> bool:
    return score is not None and math.isfinite(score)
