"""Read the states that MCD uses: after the final norm, at the last input token."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch.nn.utils.rnn import pad_sequence

from polyrefuse_models.anatomy import decoder, input_device, width
from polyrefuse_models.answering import by_length
from polyrefuse_models.chat_template import ChatTemplate, user_turn, with_system
from polyrefuse_models.key_value_cache import shared_cache, with_cache
from polyrefuse_shared.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from polyrefuse_models.chat_model import ChatModel


def under(chat: ChatModel, system: str | None) -> ChatModel:
    """Put a system text, or the placeholder of a soft prompt, in front of every prompt.

    Raises:
        NoChatTemplate: the tokenizer has no chat template to put the text into.
        UserError: the template loses the user's text, or has no place for a system text.
    """
    template = chat.template or ChatTemplate(chat.tokenizer)
    _ = template.source

    def render(prompt: str) -> str:
        turns = [user_turn(prompt)]
        return template.render(turns if system is None else with_system(turns, system))

    return replace(chat, render=render)


def states(chat: ChatModel, prompts: list[str]) -> Float[Tensor, "prompt d"]:
    """Read the states of many prompts, in batches of prompts of similar length.

    Returns:
        The states in float32 on the CPU.

    Raises:
        PromptTooLong: a prompt is longer than the model's window.
        UserError: a state is not finite.
    """
    last_states = torch.empty(len(prompts), width(chat.model))
    with torch.inference_mode():
        for batch in by_length(chat, prompts, chat.batch_size):
            last_states[batch] = batch_states(chat, [prompts[i] for i in batch]).cpu()
    if not last_states.isfinite().all():
        raise UserError(
            "The model's last states have NaN or infinite entries; load it with another dtype, "
            "such as float32."
        )
    return last_states


def batch_states(chat: ChatModel, prompts: list[str]) -> Float[Tensor, "prompt d"]:
    """Read the states of a few prompts in float32, with their gradients.

    The tokens that all prompts begin with, such as those of a safety prompt, are read only once.
    The unembedding is not computed.
    """
    rows = chat.token_ids(prompts)
    model, device = decoder(chat.model), input_device(chat.model)
    begun, cache = n_shared(rows), None
    if begun:
        cache = shared_cache(model(rows[0][None, :begun].to(device), use_cache=True))
    if cache is None:
        begun = 0
    else:
        cache.batch_repeat_interleave(len(rows))
    # No token sees padding on its right, so neither mask nor positions are needed.
    ends = [row[begun:] for row in rows]
    ids = pad_sequence(ends, batch_first=True).to(device)
    output = model(ids, **with_cache(model, cache), use_cache=cache is not None)
    last = torch.tensor([len(end) - 1 for end in ends], device=device)
    return output.last_hidden_state[torch.arange(len(rows), device=device), last].float()


def n_shared(rows: list[Int[Tensor, "token"]]) -> int:
    """Count the tokens that all rows begin with, except each row's last; 0 for a single row."""
    if len(rows) == 1:
        return 0
    columns = pad_sequence([row[:-1] for row in rows], batch_first=True, padding_value=-1)
    alike = (columns == columns[0]).all(dim=0) & (columns[0] >= 0)
    return int(alike.cumprod(0).sum())
