"""The refusal score of a next-token distribution, and the tokens it is read from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

MASS = 0.8
"""Share of the total rise in probability that the derived refusal tokens cover."""


def refusal_tokens(
    harmful: Float[Tensor, "prompt vocabulary"],
    harmless: Float[Tensor, "prompt vocabulary"],
    mass: float = MASS,
) -> list[int]:
    """The tokens that open a refusal, derived from the model itself.

    The authors of both papers list them by hand for each model and language ("I", "As"); here they
    are the next tokens whose mean probability rises most from harmless to harmful prompts, as many
    as cover `mass` of the total rise.

    Args:
        harmful: next-token logits after harmful prompts.
        harmless: the same after harmless prompts.

    Returns:
        token ids, the largest rise first; at least one.
    """
    rise = mean_probabilities(harmful) - mean_probabilities(harmless)
    largest, ids = rise.clamp(min=0).sort(descending=True)
    covered = largest.cumsum(0)
    enough = int((covered < mass * covered[-1]).sum()) + 1
    return ids[:enough].tolist()


def mean_probabilities(logits: Float[Tensor, "prompt vocabulary"]) -> Float[Tensor, "vocabulary"]:
    """Mean over prompts of the next-token probabilities, accumulated in float64."""
    total = torch.zeros(logits.shape[-1], dtype=torch.float64)
    for row in logits:
        total += row.double().softmax(-1)
    return total / len(logits)


def refusal_scores(
    logits: Float[Tensor, "prompt vocabulary"], tokens: list[int] | Int[Tensor, "token"]
) -> Float[Tensor, "prompt"]:
    """Log-odds that an answer opens with a refusal token (2406.11717, sec. 2.3).

    Returns:
        log P - log(1 - P), where P is the summed probability of `tokens`; above 0 refuses.
    """
    logits = logits.double()
    # By numbers, not by a mask: a device would have to be waited for, to tell how many they are.
    refusing = torch.as_tensor(tokens, device=logits.device)
    others = logits.index_fill(-1, refusing, -math.inf)
    return logits[:, refusing].logsumexp(-1) - others.logsumexp(-1)
