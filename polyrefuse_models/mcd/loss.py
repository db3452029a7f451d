"""The four terms of MCD's loss (2505.11835, as its code has it; the first three are DRO's)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from polyrefuse_models.mcd.probes import DIMENSIONS

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from polyrefuse_models.mcd.probes import Measure


class Terms(NamedTuple):
    """One number a term: of a loss, or of its weights."""

    refusal: float | Float[Tensor, ""]
    harmfulness: float | Float[Tensor, ""]
    norm: float | Float[Tensor, ""]
    multilingual: float | Float[Tensor, ""]


@dataclass(frozen=True)
class Base:
    """What is known of anchors before training, under the initial text prompt.

    Attributes:
        labels: 0 harmful, 1 harmless.
        refusal: logit of the refusal probe.
        harmfulness: logit of the harmfulness probe.
        coordinates: states in the basis.
        others: mean coordinates of the same queries in the other languages; None where there is
            one language.
    """

    labels: Float[Tensor, "n"]
    refusal: Float[Tensor, "n"]
    harmfulness: Float[Tensor, "n"]
    coordinates: Float[Tensor, "n d"]
    others: Float[Tensor, "n d"] | None

    def __getitem__(self, rows: list[int]) -> Base:
        """Some of the anchors."""
        return Base(*(None if part is None else part[rows] for part in vars(self).values()))

    def to(self, device: torch.device) -> Base:
        """The same on a device."""
        return Base(*(None if part is None else part.to(device) for part in vars(self).values()))

    @staticmethod
    def join(parts: list[Base]) -> Base:
        """The anchors of several languages, one after the other."""
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return Base(*(None if c[0] is None else torch.cat(c) for c in columns))


def terms(states: Float[Tensor, "n d"], base: Base, measure: Measure) -> Terms:
    """The four terms, each a mean over the anchors, and dimensions where it has any.

    Args:
        states: under the soft prompt.
        base: of the same anchors.
    """
    x = measure.coordinates(states)
    refusal = measure.refusal(x) - base.refusal
    harmfulness = measure.harmfulness(x) - base.harmfulness
    return Terms(
        refusal=binary_cross_entropy_with_logits(refusal, base.labels),
        harmfulness=binary_cross_entropy_with_logits(harmfulness, base.labels),
        norm=mse_loss(x[:, DIMENSIONS:], base.coordinates[:, DIMENSIONS:]),
        multilingual=x.new_zeros(()) if base.others is None else mse_loss(x, base.others),
    )


def weighted(of: Terms, weights: Terms) -> Float[Tensor, ""]:
    """The loss; a term of weight 0 is left out, whatever it is."""
    return sum(weight * term for term, weight in zip(of, weights, strict=True) if weight)
