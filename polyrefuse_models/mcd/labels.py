"""Sample soft refusal labels: how often a model does not refuse a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from polyrefuse_models import answering
from polyrefuse_tasks.judges import Label, judge_response

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from polyrefuse_models.chat_model import ChatModel

SAMPLING: dict[str, Any] = {"do_sample": True, "temperature": 1.0, "top_p": 0.9, "top_k": 50}
"""The sampling settings of the paper's code."""


def soft_labels(
    chat: ChatModel,
    prompts: list[str],
    language: str,
    *,
    answers: int,
    max_new_tokens: int,
    seed: int,
) -> Float[Tensor, "prompt"]:
    """Sample answers to each prompt, and return the share that the native judge says do not refuse.

    Args:
        chat: the model.
        prompts: the prompts.
        language: the language of the prompts, as an ISO 639-1 code.
        answers: the number of answers to sample for each prompt.
        max_new_tokens: the largest number of tokens in an answer.
        seed: the seed of the sampling. The random state of torch itself stays as it was.

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
    """Sample a number of answers to each prompt. The arguments are those of `soft_labels`.

    Returns:
        The answers to each prompt, in the order of the prompts.

    Raises:
        PromptTooLong: a prompt and its answer are longer than the model's window.
    """
    # `manual_seed` seeds every GPU, whichever the model is on.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        return answering.answers(
            chat,
            prompts,
            each=answers,
            max_new_tokens=max_new_tokens,
            min_new_tokens=min_new_tokens or None,
            **SAMPLING,
        )
