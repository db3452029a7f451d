"""Compute the refusal score of a next-token distribution, and derive the refusal tokens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

MASS = 0.8
"""The share of the total rise in probability that the derived refusal tokens cover."""


def refusal_tokens(
    harmful: Float[Tensor, "prompt vocabulary"],
    harmless: Float[Tensor, "prompt vocabulary"],
    mass: float = MASS,
) -> list[int]:
    """Derive the tokens that open a refusal from the model itself.

    The authors of both papers list these tokens by hand for each model and language ("I", "As").
    Here they are the next tokens whose mean probability rises most from harmless to harmful
    prompts. As many of them are taken as are needed to cover `mass` of the total rise.

    Args:
        harmful: next-token logits after harmful prompts.
        harmless: next-token logits after harmless prompts.
        mass: the share of the total rise to cover.

    Returns:
        Token ids, with the largest rise first; at least one.
    """
    rise = mean_probabilities(harmful) - mean_probabilities(harmless)
    largest, ids = rise.clamp(min=0).sort(descending=True)
    covered = largest.cumsum(0)
    enough = int((covered < mass * covered[-1]).sum()) + 1
    return ids[:enough].tolist()


def mean_probabilities(logits: Float[Tensor, "prompt vocabulary"]) -> Float[Tensor, "vocabulary"]:
    """Average the next-token probabilities over prompts, accumulated in float64."""
    total = torch.zeros(logits.shape[-1], dtype=torch.float64)
    for row in logits:
        total += row.double().softmax(-1)
    return total / len(logits)


def refusal_scores(
    logits: Float[Tensor, "prompt vocabulary"], tokens: list[int] | Int[Tensor, "token"]
) -> Float[Tensor, "prompt"]:
    """Compute the log-odds that an answer opens with a refusal token (2406.11717, sec. 2.3).

    Returns:
        log P - log(1 - P) for each prompt, where P is the summed probability of `tokens`. Above 0,
        the model is more likely to refuse than not.
    """
    logits = logits.double()
    # Indices, not a mask: to count a mask's entries, the host would have to wait for the device.
    refusing = torch.as_tensor(tokens, device=logits.device)
    others = logits.index_fill(-1, refusing, -math.inf)
    return logits[:, refusing].logsumexp(-1) - others.logsumexp(-1)
