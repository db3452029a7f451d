"""Soft refusal labels: how often a model does not refuse a query, by sampling its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig

from polyrefuse_models.anatomy import decoder
from polyrefuse_models.key_value_cache import shared_cache, with_cache
from polyrefuse_models.mcd.states import by_length, require_room
from polyrefuse_models.neutral_generation import neutralise
from polyrefuse_tasks.judges import Label, judge_response

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from polyrefuse_models.chat_model import ChatModel

SAMPLING = {"do_sample": True, "temperature": 1.0, "top_p": 0.9, "top_k": 50}
"""How the paper's code samples."""


def soft_labels(
    chat: ChatModel,
    prompts: list[str],
    language: str,
    *,
    answers: int,
    max_new_tokens: int,
    seed: int,
) -> Float[Tensor, "prompt"]:
    """The share of non-refusals among sampled answers to each prompt, by the native judge.

    Args:
        language: of the prompts, ISO 639-1.
        answers: sampled for each prompt.
        max_new_tokens: most tokens of an answer.
        seed: of the sampling; torch's own random state is left as it was.

    Raises:
        UnknownLanguage: the judge has no phrases for the language.
        PromptTooLong: a prompt and its answer are longer than the model's window.
    """
    texts_of_prompts = sampled_answers(
        chat, prompts, answers=answers, max_new_tokens=max_new_tokens, seed=seed
    )
    refused = [
        [judge_response(text, language).label for text in texts].count(Label.REFUSAL)
        for texts in texts_of_prompts
    ]
    return 1 - torch.tensor(refused) / answers


def sampled_answers(
    chat: ChatModel,
    prompts: list[str],
    *,
    answers: int,
    max_new_tokens: int,
    seed: int,
    min_new_tokens: int = 0,
) -> list[list[str]]:
    """The model's answers to each prompt, `answers` of them.

    Raises:
        PromptTooLong: a prompt and its answer are longer than the model's window.
    """
    require_room(chat, max(map(len, chat.token_ids(prompts))) + max_new_tokens)
    texts_of_prompts: list[list[str]] = [[] for _ in prompts]
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        for batch in by_length(chat, prompts, max(1, chat.batch_size // answers)):
            asked = [prompts[i] for i in batch]
            texts = _sampled(chat, asked, answers, min_new_tokens, max_new_tokens)
            for place, index in enumerate(batch):
                texts_of_prompts[index] = texts[place * answers : (place + 1) * answers]
    return texts_of_prompts


@torch.inference_mode()
def _sampled(
    chat: ChatModel, prompts: list[str], answers: int, min_new_tokens: int, max_new_tokens: int
) -> list[str]:
    """The answers to the first prompt, then those to the second, ..."""
    tokenizer = chat.tokenizer
    inputs = chat.padded(prompts)
    mask = inputs["attention_mask"]
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    ids = inputs["input_ids"].masked_fill(mask == 0, pad)
    # A prompt is read once, however many answers it gets; `generate` reads its last token again.
    but_last = {name: rows[:, :-1] for name, rows in inputs.items()}
    cache = shared_cache(decoder(chat.model)(**but_last, use_cache=True))
    if cache is not None:
        cache.batch_repeat_interleave(answers)
    neutralise(chat.model)
    config = GenerationConfig(
        **SAMPLING,
        min_new_tokens=min_new_tokens or None,
        max_new_tokens=max_new_tokens,
        pad_token_id=pad,
        eos_token_id=chat.model.generation_config.eos_token_id or tokenizer.eos_token_id,
    )
    generate: Any = chat.model.generate
    output = generate(
        ids.repeat_interleave(answers, 0),
        attention_mask=mask.repeat_interleave(answers, 0),
        **(with_cache(generate, cache) if cache is not None else {}),
        generation_config=config,
    )
    return tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
