"""Candidate refusal directions: differences of mean residual states (2406.11717, sec. 2.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from polyrefuse_models.anatomy import decoder_blocks
from polyrefuse_models.hooks import Hooks

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from polyrefuse_models.chat_model import ChatModel


@dataclass(frozen=True)
class Observed:
    """What one forward pass over some prompts showed.

    Attributes:
        states: residual stream at every block's input and every position asked for, on the CPU in
            the model's precision; position -1, the last input token, is the last.
        logits: of the answer's first token, on the CPU in float32.
    """

    states: Float[Tensor, "prompt position layer d"]
    logits: Float[Tensor, "prompt vocabulary"]


def observe(chat: ChatModel, prompts: list[str], n_positions: int) -> Observed:
    """Run the prompts once and keep the states of the last `n_positions` tokens."""
    inputs: list[Tensor] = []

    def keep(x: Float[Tensor, "prompt token d"]) -> None:
        inputs.append(x[:, -n_positions:].clone())  # of the rest nothing is held

    states, logits = [], []
    with Hooks() as hooks:
        for block in decoder_blocks(chat.model):
            hooks.on_input(block, keep)
        for _, batch in chat.next_token_logits(prompts):
            # Fetched together: a device is waited for once a pass. Blocks may be on several.
            device = inputs[0].device
            states.append(torch.stack([x.to(device) for x in inputs], dim=2).cpu())
            logits.append(batch.cpu())
            inputs.clear()
    return Observed(torch.cat(states), torch.cat(logits))


def difference_of_means(
    harmful: Float[Tensor, "prompt ... d"], harmless: Float[Tensor, "prompt ... d"]
) -> Float[Tensor, "... d"]:
    """One direction a place (position, layer), not normalised; accumulated in float64."""
    return (mean_state(harmful) - mean_state(harmless)).float()


def cosines(vectors: Float[Tensor, "language d"]) -> Float[Tensor, "language language"]:
    """Cosine between every two vectors, in float64."""
    unit = torch.nn.functional.normalize(vectors.double(), dim=-1)
    return unit @ unit.T


def mean_state(states: Float[Tensor, "prompt ... d"]) -> Float[Tensor, "... d"]:
    """Mean over prompts, in float64."""
    total = torch.zeros(states.shape[1:], dtype=torch.float64)
    for state in states:
        total += state.double()
    return total / len(states)
