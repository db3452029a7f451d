"""Generate a model's answers outside an evaluation, to label them and to see what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig

from polyrefuse_models.anatomy import decoder
from polyrefuse_models.key_value_cache import shared_cache, with_cache
from polyrefuse_models.neutral_generation import neutralise
from polyrefuse_shared.errors import UserError

if TYPE_CHECKING:
    from polyrefuse_models.chat_model import ChatModel


class PromptTooLong(UserError):
    """A prompt that does not fit into the model's window."""


def answers(
    chat: ChatModel,
    prompts: list[str],
    *,
    max_new_tokens: int,
    each: int = 1,
    **settings: Any,
) -> list[list[str]]:
    """Generate answers to each prompt, without the checkpoint's own generation settings.

    Args:
        chat: the model; its `batch_size` is the largest number of rows in a forward pass.
        max_new_tokens: the largest number of tokens in an answer.
        each: the number of answers to a prompt.
        settings: settings of transformers' `GenerationConfig`; greedy decoding by default.

    Returns:
        `each` answers for each prompt, in the order of the prompts.

    Raises:
        PromptTooLong: a prompt and its answer are longer than the model's window.
    """
    require_room(chat, max(map(len, chat.token_ids(prompts))) + max_new_tokens)
    texts_of_prompts: list[list[str]] = [[] for _ in prompts]
    for batch in by_length(chat, prompts, max(1, chat.batch_size // each)):
        asked = [prompts[i] for i in batch]
        texts = _generated(chat, asked, each, max_new_tokens=max_new_tokens, **settings)
        for place, index in enumerate(batch):
            texts_of_prompts[index] = texts[place * each : (place + 1) * each]
    return texts_of_prompts


@torch.inference_mode()
def _generated(chat: ChatModel, prompts: list[str], each: int, **settings: Any) -> list[str]:
    """Generate `each` answers to every prompt. The answers to one prompt follow each other."""
    tokenizer = chat.tokenizer
    inputs = chat.padded(prompts)
    mask = inputs["attention_mask"]
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    ids = inputs["input_ids"].masked_fill(mask == 0, pad)
    cache = None
    if each > 1:
        # The model reads all tokens of a prompt but the last once, however many answers it gives.
        but_last = {name: rows[:, :-1] for name, rows in inputs.items()}
        cache = shared_cache(decoder(chat.model)(**but_last, use_cache=True))
    if cache is not None:
        cache.batch_repeat_interleave(each)
    neutralise(chat.model)
    config = GenerationConfig(
        **settings,
        pad_token_id=pad,
        eos_token_id=chat.model.generation_config.eos_token_id or tokenizer.eos_token_id,
    )
    generate: Any = chat.model.generate
    output = generate(
        ids.repeat_interleave(each, 0),
        attention_mask=mask.repeat_interleave(each, 0),
        **(with_cache(generate, cache) if cache is not None else {}),
        generation_config=config,
    )
    return tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)


def by_length(chat: ChatModel, prompts: list[str], size: int) -> Iterator[list[int]]:
    """Yield the indices of `prompts` in batches of `size`, longest first, to keep padding short.

    Raises:
        PromptTooLong: a prompt is longer than the model's window.
    """
    lengths = [len(ids) for ids in chat.token_ids(prompts)]
    require_room(chat, max(lengths))
    order = sorted(range(len(prompts)), key=lambda i: -lengths[i])
    for start in range(0, len(order), size):
        yield order[start : start + size]


def require_room(chat: ChatModel, tokens: int) -> None:
    """Refuse a prompt that does not fit the model's window.

    Raises:
        PromptTooLong: the model's window has fewer than `tokens` tokens.
    """
    window = getattr(chat.model.config.get_text_config(), "max_position_embeddings", None)
    if window is not None and tokens > window:
        raise PromptTooLong(
            f"A prompt, the text in front of it and its answer need {tokens} tokens together, and "
            f"the model's window has {window}; use a shorter safety prompt (--init short) or "
            "shorter answers (--max-gen-toks)."
        )
