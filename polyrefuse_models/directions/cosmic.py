"""How far a direction turns harmful prompts' states into harmless ones', and the other way round.

COSMIC (Siu et al., "COSMIC: Generalized Refusal Direction Identification in LLM Activations",
Findings of ACL 2025, arXiv 2506.00085) chooses a direction without reading an answer. Let
m(A, l, p) be the mean state after the prompts A, at layer l and position p from the end, and

    sim(A, B) = mean over l in L and p in P of cos(m(A, l, p), m(B, l, p)).

L is the tenth of the layers at which harmful and harmless training prompts are least alike. Of
validation prompts, with a direction r,

    comply(r) = sim(harmful with r ablated, harmless)
    refuse(r) = sim(harmless with r added, harmful)

and the direction with the highest comply(r) + refuse(r) is taken.
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
"""Of all layers those that states are compared at, rounded down, and at least one."""

MOST_POSITIONS = 5
"""States are compared at the last so many tokens, or at those that the chat template puts after the
user's text where they are fewer: what comes before is the user's own words."""


def similarity(
    some: Float[Tensor, "... position layer d"], others: Float[Tensor, "... position layer d"]
) -> Float[Tensor, "... layer"]:
    """Cosine between mean states, by layer, as a mean over positions; float64.

    NaN where a state is zero or not finite.
    """
    some, others = some.double(), others.double()
    products = (some * others).sum(-1)
    return (products / (some.norm(dim=-1) * others.norm(dim=-1))).mean(-2)


def least_alike(cosines: Float[Tensor, "layer"]) -> list[int]:
    """The layers that states are compared at, in ascending order.

    Args:
        cosines: between harmful and harmless training prompts. A layer without a number is not
            taken before one that has one.
    """
    enough = max(1, int(SHARE_OF_LAYERS * len(cosines)))
    order = cosines.nan_to_num(nan=torch.inf).argsort(stable=True)
    return sorted(order[:enough].tolist())


@dataclass(frozen=True)
class Poles:
    """What states are compared with: those of validation prompts in the untouched model.

    Attributes:
        layers: at whose inputs.
        cosines: by layer, of all layers, between harmful and harmless training prompts.
        harmful: mean states after harmful prompts, float64.
        harmless: mean states after harmless prompts, float64.
    """

    layers: list[int]
    cosines: list[float]
    harmful: Float[Tensor, "position layer d"]
    harmless: Float[Tensor, "position layer d"]

    @property
    def positions(self) -> int:
        """How many tokens at the end of a prompt states are compared at."""
        return len(self.harmful)

    @property
    def cosine(self) -> float:
        """Between harmful and harmless prompts: what both terms are where nothing is changed."""
        return similarity(self.harmful, self.harmless).mean(-1).item()

    def comply(self, ablated: Float[Tensor, "candidate position layer d"]) -> list[float]:
        """Of mean states after harmful prompts with each candidate ablated."""
        return similarity(ablated, self.harmless).mean(-1).tolist()

    def refuse(self, added: Float[Tensor, "candidate position layer d"]) -> list[float]:
        """Of mean states after harmless prompts with each candidate added."""
        return similarity(added, self.harmful).mean(-1).tolist()

    def record(self) -> dict[str, Any]:
        """What an artifact's metadata say of the comparison."""
        return {
            "layers": self.layers,
            "positions": list(range(-self.positions, 0)),
            "cosine_by_layer": self.cosines,
        }


def poles(
    training: tuple[Float[Tensor, "position layer d"], Float[Tensor, "position layer d"]],
    validation: tuple[Float[Tensor, "position layer d"], Float[Tensor, "position layer d"]],
) -> Poles:
    """Choose the layers on training prompts, and keep validation prompts' states there.

    Args:
        training: mean states after harmful and after harmless prompts, at every layer's input.
        validation: the same of validation prompts.
    """
    cosines = similarity(*training)
    layers = least_alike(cosines)
    harmful, harmless = (states[:, layers].double() for states in validation)
    return Poles(layers, cosines.tolist(), harmful, harmless)
