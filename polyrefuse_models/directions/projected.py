"""Remove from a refusal direction its component along the mean of harmless prompts.

The idea comes from "projected abliteration" (J. Lai, Projected Abliteration, Hugging Face community
article, 2025). The direction r = m_harmful - m_harmless has a component along m = m_harmless, so
ablating r removes part of what all harmless states have in common. The rest,
r' = r - (r.m) m / |m|^2, is orthogonal to m, and ablating r' does not change m.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyrefuse_models.directions.artifact import BadDirection
from polyrefuse_models.interventions import orthogonal_to

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from polyrefuse_models.directions.artifact import Direction

LEAST_LEFT = 1e-4
"""The shortest usable rest, as a share of the direction's length; a shorter one is rounding."""


def projected(direction: Direction, origin: str) -> Float[Tensor, "d"]:
    """Return a direction without its component along the harmless mean of its layer, in float32.

    Args:
        direction: a direction that has a harmless mean and a layer.
        origin: where the direction comes from, for messages.

    Raises:
        BadDirection: the direction has no harmless mean or no layer, the mean is zero, or nothing
            is left of the direction.
    """
    means = direction.require_harmless_mean("ablation=projected", origin)
    layer = direction.metadata.get("layer")
    if layer is None:
        raise BadDirection(
            f"ablation=projected needs the direction's layer, which {origin} does not name; "
            "extract it again with `polyrefuse direction extract`."
        )
    mean = means[layer]
    if not mean.any():
        raise BadDirection(f"{origin}: the mean of harmless prompts is 0; extract it again.")
    left = orthogonal_to(direction.direction, mean)
    if left.norm() < LEAST_LEFT * direction.direction.double().norm():
        raise BadDirection(
            f"{origin}: the direction lies along the mean of harmless prompts, so "
            "ablation=projected leaves nothing of it; leave ablation=projected out."
        )
    return left.float()
