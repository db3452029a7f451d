"""A picture of every candidate's scores, by layer and position."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from polyrefuse_models.directions.marks import short_name
from polyrefuse_models.directions.select import DEFAULT, RULES, Candidate
from polyrefuse_shared import pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from polyrefuse_models.directions.artifact import Direction

PANELS: dict[str, tuple[str, str]] = {
    "refusal_score": (
        "refusal score, harmful prompts,\ndirection ablated",
        "harmful_refusal_score",
    ),
    "kl_div_score": ("KL divergence, harmless prompts,\ndirection ablated (nats)", ""),
    "steering_score": (
        "refusal score, harmless prompts,\ndirection added",
        "harmless_refusal_score",
    ),
    "comply_cosine": (
        "cosine with harmless prompts,\nharmful prompts, direction ablated",
        "cosine",
    ),
    "refuse_cosine": ("cosine with harmful prompts,\nharmless prompts, direction added", "cosine"),
    "cosmic_score": ("COSMIC score:\nsum of both cosines", ""),
}
"""Score -> the label of its axis, and what the same is in the untouched model."""


@pictures.plain_text()
def scores_png(direction: Direction) -> bytes:
    """One panel for each score that some candidate has, one line for each position.

    A ring marks the choice; grey are the layers that the rule does not look at, dashed its limits.
    """
    metadata = direction.metadata
    computed = [
        name
        for name in PANELS
        if any(getattr(candidate, name) is not None for candidate in direction.scores)
    ]
    figure = pictures.figure((8, 0.6 + 2.6 * len(computed)))
    axes = figure.subplots(len(computed), 1, sharex=True, squeeze=False)[:, 0]
    for axis, name in zip(axes, computed, strict=True):
        _panel(axis, direction, name)
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    axes[-1].set_xlabel("layer at whose input the direction was read")
    axes[0].legend(title="position", fontsize="small", title_fontsize="small")
    pictures.title(
        figure,
        f"{short_name(str(metadata.get('model')))}, {metadata.get('source_lang')}: "
        f"position {metadata.get('position')}, layer {metadata.get('layer')}",
    )
    return pictures.png(figure)


def _panel(axis: Axes, direction: Direction, name: str) -> None:
    label, untouched = PANELS[name]
    n_layers = direction.candidates.shape[1]
    tokens = direction.metadata.get("suffix_tokens", [])
    for position in sorted({candidate.position for candidate in direction.scores}):
        scored = [at for at in direction.scores if at.position == position]
        token = f" {tokens[position]}" if -position <= len(tokens) else ""
        axis.plot(
            [at.layer for at in scored],
            [_height(at, name) for at in scored],
            marker=".",
            label=f"{position}{token}",
        )
    for at in direction.scores:
        if (at.position, at.layer) == _chosen(direction):
            axis.plot(at.layer, _height(at, name), "o", mfc="none", mec="black", ms=10)
    rule = RULES.get(direction.metadata.get("rule", DEFAULT.name), DEFAULT)
    axis.axvspan(rule.layers(n_layers) - 0.5, n_layers - 0.5, color="0.93", zorder=0)
    axis.set_xlim(-0.5, n_layers - 0.5)
    axis.set_ylabel(label, fontsize="small")
    if name == "kl_div_score":
        axis.axhline(rule.kl_limit, color="black", linestyle="--", linewidth=1)
        axis.set_yscale("symlog", linthresh=rule.kl_limit)
        # A symlog axis of its own accord has ticks at powers of 10 alone, and may show none.
        highest = max([rule.kl_limit, *(at.kl_div_score or 0 for at in direction.scores)])
        decades = [power for power in (1.0, 10.0, 100.0) if power < highest]
        axis.set_yticks(ticks := [0.0, rule.kl_limit, *decades], [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.set_ylim(bottom=-0.1 * rule.kl_limit)
    if name == "steering_score" and rule.least_steering is not None:
        axis.axhline(rule.least_steering, color="black", linestyle="--", linewidth=1)
    base = direction.metadata.get("untouched", {}).get(untouched)
    if base is not None:
        axis.axhline(base, color="black", linestyle=":", linewidth=1)


def _chosen(direction: Direction) -> tuple[int | None, int | None]:
    return direction.metadata.get("position"), direction.metadata.get("layer")


def _height(candidate: Candidate, name: str) -> float:
    score = getattr(candidate, name)
    return math.nan if score is None else score
