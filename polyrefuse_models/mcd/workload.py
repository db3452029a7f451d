"""Count how much a model reads and generates in the training of a soft prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from polyrefuse_models.answering import by_length
from polyrefuse_models.interventions import SoftPrompt
from polyrefuse_models.mcd.published_labels import HARMLESS_TOKENS
from polyrefuse_models.mcd.safety_prompts import SAFETY_PROMPTS
from polyrefuse_models.mcd.states import n_shared, under
from polyrefuse_models.mcd.train import epochs, observations, steps, texts_in_front
from polyrefuse_models.workload import Part, Workload

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from polyrefuse_models.chat_model import ChatModel
    from polyrefuse_models.mcd.anchors import Anchors
    from polyrefuse_models.mcd.settings import Settings


def stand_in(tokenizer: PreTrainedTokenizerBase, init: str) -> SoftPrompt:
    """Make a soft prompt with as many tokens as the one that training makes, without a model.

    Args:
        tokenizer: the tokenizer of the model, which gets the soft prompt's tokens.
        init: a name of `SAFETY_PROMPTS`.
    """
    words = tokenizer(SAFETY_PROMPTS[init], add_special_tokens=False).input_ids
    return SoftPrompt(tokenizer, torch.empty(len(words), 1), name="the trained prompt")


def of_training(chat: ChatModel, anchors: Anchors, settings: Settings) -> Workload:
    """Count what `train.train` reads and generates.

    Args:
        chat: the model, with or without weights.
        anchors: the anchors of the training.
        settings: the settings of the training.

    Raises:
        UserError: the chat template has no place for the prompts.
    """
    labelled, seen = observations(anchors.languages, settings)
    chats = {name: under(chat, text) for name, text in texts_in_front().items()}
    prompted = under(chat, stand_in(chat.tokenizer, settings.init).text)
    states = [
        _states(chats[name], "states of the anchors", anchors.prompts(language))
        for name, language in seen
    ]
    labels = [
        part
        for name, language in labelled
        for part in _labels(chats[name], anchors, language, settings)
    ]
    training = [
        _epoch(prompted, anchors, group, settings) for group in epochs(anchors.languages, settings)
    ]
    after = [
        _states(prompted, "states under the soft prompt", anchors.prompts(language))
        for language in anchors.languages
    ]
    prompts = len(anchors.ids) * len(anchors.languages)
    parts = (*_joined(states), *_joined(labels), *_joined(training), *_joined(after))
    return Workload(prompts, parts, judged=sum(part.answers for part in parts))


def _states(chat: ChatModel, what: str, prompts: list[str]) -> Part:
    """Count what `states.states` reads. The tokens that all of a batch begin with count once."""
    tokens = 0
    for batch in by_length(chat, prompts, chat.batch_size):
        rows = chat.token_ids([prompts[place] for place in batch])
        tokens += _read(rows)
    return Part(what, len(prompts), tokens)


def _labels(chat: ChatModel, anchors: Anchors, language: str, settings: Settings) -> list[Part]:
    """Count the sampling of soft labels. A prompt is read once for all its answers."""
    short = min(settings.max_new_tokens, HARMLESS_TOKENS)
    of_harmless = short if settings.labels == "published" else settings.max_new_tokens
    return [
        Part(
            "sampled answers to the anchors",
            len(prompts),
            sum(map(len, chat.token_ids(prompts))),
            answers=len(prompts) * settings.answers,
            tokens_each=limit,
        )
        for prompts, limit in (
            (anchors.harmful[language], settings.max_new_tokens),
            (anchors.harmless[language], of_harmless),
        )
    ]


def _epoch(chat: ChatModel, anchors: Anchors, group: tuple[str, ...], settings: Settings) -> Part:
    """Count what `train._optimise` reads. Tokens that all anchors begin with count once a step."""
    rows = chat.token_ids([prompt for language in group for prompt in anchors.prompts(language)])
    begun = n_shared(rows)
    tokens = sum(len(row) - begun for row in rows)
    tokens += begun * steps(len(anchors.ids), group, settings)
    return Part("training", len(rows), tokens, trains=True)


def _read(rows: list[torch.Tensor]) -> int:
    begun = n_shared(rows)
    return begun + sum(len(row) - begun for row in rows)


def _joined(parts: list[Part]) -> list[Part]:
    """Join the parts that have the same name and the same length of answers."""
    together: dict[tuple[str, int], list[Part]] = {}
    for part in parts:
        together.setdefault((part.what, part.tokens_each), []).append(part)
    return [
        Part(
            what,
            sum(part.prompts for part in same),
            sum(part.prompt_tokens for part in same),
            answers=sum(part.answers for part in same),
            tokens_each=tokens_each,
            trains=same[0].trains,
        )
        for (what, tokens_each), same in together.items()
    ]
