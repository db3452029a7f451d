"""Compute the four terms of MCD's loss (2505.11835, as in its code; three are from DRO)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from polyrefuse_models.mcd.probes import DIMENSIONS

if TYPE_CHECKING:
    from jaxtyping import Float

    from polyrefuse_models.mcd.probes import Measure

Number = TypeVar("Number", float, Tensor)


class Terms(NamedTuple):
    """One number for each term of the loss: its value in a step, or its weight."""

    refusal: float
    harmfulness: float
    norm: float
    multilingual: float


class TermTensors(NamedTuple):
    """The four terms of the loss in one step, with their gradients."""

    refusal: Float[Tensor, ""]
    harmfulness: Float[Tensor, ""]
    norm: Float[Tensor, ""]
    multilingual: Float[Tensor, ""]

    def numbers(self) -> Terms:
        """Return the values of the terms without gradients."""
        return Terms(*(term.item() for term in self))


@dataclass(frozen=True)
class Base:
    """Measurements of the anchors before training, under the initial safety prompt in words.

    Attributes:
        labels: 0 for harmful and 1 for harmless anchors.
        refusal: the logits of the refusal probe.
        harmfulness: the logits of the harmfulness probe.
        coordinates: the states in the basis.
        others: the mean coordinates of the same prompts in the other languages; None if there is
            only one language.
    """

    labels: Float[Tensor, "n"]
    refusal: Float[Tensor, "n"]
    harmfulness: Float[Tensor, "n"]
    coordinates: Float[Tensor, "n d"]
    others: Float[Tensor, "n d"] | None

    def __getitem__(self, rows: list[int]) -> Base:
        """Select some of the anchors."""
        return self._each(lambda part: part[rows])

    def to(self, device: torch.device) -> Base:
        """Move the measurements to a device."""
        return self._each(lambda part: part.to(device))

    @staticmethod
    def join(parts: list[Base]) -> Base:
        """Join the anchors of several languages, one after the other."""
        others = [part.others for part in parts if part.others is not None]
        return Base(
            labels=torch.cat([part.labels for part in parts]),
            refusal=torch.cat([part.refusal for part in parts]),
            harmfulness=torch.cat([part.harmfulness for part in parts]),
            coordinates=torch.cat([part.coordinates for part in parts]),
            others=torch.cat(others) if others else None,
        )

    def _each(self, change: Callable[[Tensor], Tensor]) -> Base:
        return Base(
            labels=change(self.labels),
            refusal=change(self.refusal),
            harmfulness=change(self.harmfulness),
            coordinates=change(self.coordinates),
            others=None if self.others is None else change(self.others),
        )


def terms(states: Float[Tensor, "n d"], base: Base, measure: Measure) -> TermTensors:
    """Compute the four terms, averaged over the anchors and, for squared errors, over dimensions.

    Args:
        states: the states of the anchors under the soft prompt, in float32.
        base: the measurements of the same anchors before training.
        measure: the basis and the probes.
    """
    x = measure.coordinates(states)
    refusal = measure.refusal(x) - base.refusal
    harmfulness = measure.harmfulness(x) - base.harmfulness
    return TermTensors(
        refusal=binary_cross_entropy_with_logits(refusal, base.labels),
        harmfulness=binary_cross_entropy_with_logits(harmfulness, base.labels),
        norm=mse_loss(x[:, DIMENSIONS:], base.coordinates[:, DIMENSIONS:]),
        multilingual=x.new_zeros(()) if base.others is None else mse_loss(x, base.others),
    )


def weighted(terms: Iterable[Number], weights: Terms) -> Number:
    """Compute the weighted loss. A term of weight 0 is left out, even if it is NaN.

    Args:
        terms: the four terms.
        weights: the weights of the terms, not all of them 0.
    """
    products = [weight * term for term, weight in zip(terms, weights, strict=True) if weight]
    loss = products[0]
    for product in products[1:]:
        loss = loss + product
    return loss
