"""A refusal direction without its part along the mean of harmless prompts.

The idea is that of "projected abliteration" (J. Lai, Projected Abliteration, Hugging Face community
article, 2025): r = m_harmful - m_harmless has a part along m_harmless, and ablating it takes from
harmless states some of what all of them have in common. What is left, r' = r - (r.m) m / |m|^2, is
orthogonal to the harmless mean m, so that ablating r' leaves m itself as it is.
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
"""Of a direction's length: what is left of one along the mean is rounding, in any direction."""


def projected(direction: Direction, origin: str) -> Float[Tensor, "d"]:
    """The direction without its part along the harmless mean of its own layer, float32.

    Args:
        direction: with its harmless mean and its layer.
        origin: where it is from, for messages.

    Raises:
        BadDirection: it lacks one of them, or nothing is left of it.
    """
    means = direction.require_harmless_mean("ablation=projected", origin)
    layer = direction.metadata.get("layer")
    if layer is None:
        raise BadDirection(
            f"ablation=projected needs the direction's layer, which {origin} does not name; "
            "extract it anew with `polyrefuse direction extract`."
        )
    mean = means[layer]
    if not mean.any():
        raise BadDirection(f"{origin}: the mean of harmless prompts is 0; extract it anew.")
    left = orthogonal_to(direction.direction, mean)
    if left.norm() < LEAST_LEFT * direction.direction.double().norm():
        raise BadDirection(
            f"{origin}: the direction lies along the mean of harmless prompts, so that "
            "ablation=projected leaves nothing of it; leave ablation out."
        )
    return left.float()
