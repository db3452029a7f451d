"""Measure how far a direction turns the states of harmful prompts into those of harmless ones.

COSMIC (Siu et al., "COSMIC: Generalized Refusal Direction Identification in LLM Activations",
Findings of ACL 2025, arXiv 2506.00085) chooses a direction without reading an answer. Let
m(A, l, p) be the mean state after the prompts A, at layer l and position p from the end, and

    sim(A, B) = mean over l in L and p in P of cos(m(A, l, p), m(B, l, p)).

L is the tenth of the layers at which harmful and harmless training prompts are least alike, and P
is the last tokens of a prompt. On validation prompts, a direction r has the scores

    comply(r) = sim(harmful with r ablated, harmless)
    refuse(r) = sim(harmless with r added, harmful)

and the direction with the highest comply(r) + refuse(r) is chosen.
docs/explanation/mathematics.md says where this differs from the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

SHARE_OF_LAYERS = 0.1
"""The share of the layers at which states are compared; rounded down, but at least one layer."""

MOST_POSITIONS = 5
"""The largest number of tokens at the end of a prompt at which states are compared. They are among
the tokens that the chat template puts after the user's text, since those before are the user's."""


def similarity(
    some: Float[Tensor, "... position layer d"], others: Float[Tensor, "... position layer d"]
) -> Float[Tensor, "... layer"]:
    """Compute the cosine between mean states at each layer, averaged over positions, in float64.

    The cosine is NaN if a state is zero or not finite.
    """
    some, others = some.double(), others.double()
    products = (some * others).sum(-1)
    return (products / (some.norm(dim=-1) * others.norm(dim=-1))).mean(-2)


def least_alike(cosines: Float[Tensor, "layer"]) -> list[int]:
    """Choose the layers that states are compared at, in ascending order.

    Args:
        cosines: the cosines between harmful and harmless training prompts. Layers whose cosine is
            NaN are chosen last.
    """
    enough = max(1, int(SHARE_OF_LAYERS * len(cosines)))
    order = cosines.nan_to_num(nan=torch.inf).argsort(stable=True)
    return sorted(order[:enough].tolist())


@dataclass(frozen=True)
class Poles:
    """The untouched model's states after validation prompts, with which others are compared.

    Attributes:
        layers: the layers at whose inputs states are compared.
        cosines: the cosine between harmful and harmless training prompts at every layer.
        harmful: mean states after harmful prompts, float64.
        harmless: mean states after harmless prompts, float64.
    """

    layers: list[int]
    cosines: list[float]
    harmful: Float[Tensor, "position layer d"]
    harmless: Float[Tensor, "position layer d"]

    @property
    def positions(self) -> int:
        """The number of tokens at the end of a prompt at which states are compared."""
        return len(self.harmful)

    @property
    def cosine(self) -> float:
        """The untouched model's cosine between harmful and harmless prompts: both of its terms."""
        return similarity(self.harmful, self.harmless).mean(-1).item()

    def comply(self, ablated: Float[Tensor, "candidate position layer d"]) -> list[float]:
        """Score each candidate by the mean states after harmful prompts with it ablated."""
        return similarity(ablated, self.harmless).mean(-1).tolist()

    def refuse(self, added: Float[Tensor, "candidate position layer d"]) -> list[float]:
        """Score each candidate by the mean states after harmless prompts with it added."""
        return similarity(added, self.harmful).mean(-1).tolist()

    def record(self) -> dict[str, Any]:
        """Describe the comparison for the metadata of an artifact."""
        return {
            "layers": self.layers,
            "positions": list(range(-self.positions, 0)),
            "cosine_by_layer": self.cosines,
        }


def poles(
    training: tuple[Float[Tensor, "position layer d"], Float[Tensor, "position layer d"]],
    validation: tuple[Float[Tensor, "position layer d"], Float[Tensor, "position layer d"]],
) -> Poles:
    """Choose the layers on training prompts, and keep the states of validation prompts there.

    Args:
        training: mean states after harmful and after harmless prompts, at every layer's input.
        validation: the same for validation prompts.
    """
    cosines = similarity(*training)
    layers = least_alike(cosines)
    harmful, harmless = (states[:, layers].double() for states in validation)
    return Poles(layers, cosines.tolist(), harmful, harmless)
