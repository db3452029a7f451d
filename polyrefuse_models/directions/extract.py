"""Compute candidate directions: differences of mean residual states (2406.11717, sec. 2.3)."""

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
        states: the residual stream at the input of every block and at every requested position, on
            the CPU in the model's precision. The last position, -1, is the last input token.
        left: the states that the last block passes on, at the same positions.
        logits: the logits of the first token of the answer, on the CPU in float32.
    """

    states: Float[Tensor, "prompt position layer d"]
    left: Float[Tensor, "prompt position d"]
    logits: Float[Tensor, "prompt vocabulary"]


def observe(chat: ChatModel, prompts: list[str], n_positions: int) -> Observed:
    """Run the prompts once and keep the states of the last `n_positions` tokens."""
    seen: list[Tensor] = []

    def keep(x: Float[Tensor, "prompt token d"]) -> None:
        seen.append(x[:, -n_positions:].clone())  # A view would keep the whole tensor in memory.

    states, logits = [], []
    blocks = decoder_blocks(chat.model)
    with Hooks() as hooks:
        for block in blocks:
            hooks.on_input(block, keep)
        hooks.on_output(blocks[-1], keep)
        for _, batch in chat.next_token_logits(prompts):
            # One transfer for all layers waits for the device only once. Blocks may be on several.
            device = seen[0].device
            states.append(torch.stack([x.to(device) for x in seen], dim=2).cpu())
            logits.append(batch.cpu())
            seen.clear()
    streams = torch.cat(states)
    return Observed(streams[:, :, :-1], streams[:, :, -1], torch.cat(logits))


def difference_of_means(
    harmful: Float[Tensor, "prompt ... d"], harmless: Float[Tensor, "prompt ... d"]
) -> Float[Tensor, "... d"]:
    """Subtract the mean states, summed in float64: one direction, in float32, for each place."""
    return (mean_state(harmful) - mean_state(harmless)).float()


def mean_by_layer(
    states: Float[Tensor, "prompt layer d"], left: Float[Tensor, "prompt d"]
) -> Float[Tensor, "layer+1 d"]:
    """Compute some prompts' mean residual state at one position and every layer, in float64 sums.

    Args:
        states: the states at the input of every block.
        left: the states that the last block passes on. Their mean is the last row.

    Returns:
        The mean state at each layer, in float32.
    """
    return torch.cat([mean_state(states), mean_state(left)[None]]).float()


def cosines(vectors: Float[Tensor, "language d"]) -> Float[Tensor, "language language"]:
    """Compute the cosine between every two vectors, in float64."""
    unit = torch.nn.functional.normalize(vectors.double(), dim=-1)
    return unit @ unit.T


def mean_state(states: Float[Tensor, "prompt ... d"]) -> Float[Tensor, "... d"]:
    """Compute the mean over prompts, in float64."""
    total = torch.zeros(states.shape[1:], dtype=torch.float64)
    for state in states:
        total += state.double()
    return total / len(states)
