"""Turn a judge's prompt into token ids with the tokenizer of its model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from polyrefuse_tasks.judge_engines.engine import CannotJudge, Loading
from polyrefuse_tasks.judge_models.formats import Chat, Rendered, Text


def load_tokenizer(loading: Loading) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a judge's model; the errors are those of transformers."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        loading.model, revision=loading.revision, trust_remote_code=False
    )
    # The tokenizers of mistral-common do not have it, and messages need it.
    tokenizer.name_or_path = loading.model
    return tokenizer


def token_ids(tokenizer: PreTrainedTokenizerBase, prompt: Rendered) -> list[int]:
    """Return the tokens of a prompt: a chat as its template renders it, or a text as it is.

    Raises:
        CannotJudge: the tokenizer has no chat template, or its template loses the content to judge.
    """
    if isinstance(prompt, Text):
        return _encoded(tokenizer, _readable(prompt.text), prompt.special_tokens)
    messages = [message | {"content": _readable(message["content"])} for message in prompt.messages]
    prompt = replace(prompt, messages=messages)
    if tokenizer.chat_template is None:
        return _by_the_tokenizer(tokenizer, prompt)
    # The template has already written the beginning-of-text token, if there is one.
    return _encoded(tokenizer, rendered(tokenizer, prompt), special_tokens=False)


def _by_the_tokenizer(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> list[int]:
    """Return the tokens of a chat that no template renders.

    The tokenizers of mistral-common, such as Shieldstral's, write the tokens by their own rules and
    read no special token in a text.
    """
    try:
        ids: Any = tokenizer.apply_chat_template(
            list(chat.messages), tokenize=True, return_dict=False, **chat.arguments
        )
    except Exception as error:  # Each tokenizer raises its own.
        raise _cannot_render(tokenizer, error) from error
    return list(ids)


def rendered(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> str:
    """Render a chat as text.

    Templates for pictures, such as that of Llama Guard 3 1B, silently drop a content that is not a
    list of parts. Contents are therefore given as parts if they are lost as texts.

    Raises:
        CannotJudge: see `token_ids`.
    """
    failure: object = None
    for as_parts in (False, True):
        messages: Any = [
            message | {"content": [{"type": "text", "text": message["content"]}]}
            if as_parts
            else dict(message)
            for message in chat.messages
        ]
        try:
            text = str(tokenizer.apply_chat_template(messages, tokenize=False, **chat.arguments))
        except Exception as error:  # A template may raise anything.
            failure = error
            continue
        if all(message["content"].strip() in text for message in chat.messages):
            return text
        failure = "the rendered text does not contain the content to judge"
    raise _cannot_render(tokenizer, failure)


def _cannot_render(tokenizer: PreTrainedTokenizerBase, failure: object) -> CannotJudge:
    return CannotJudge(
        f"The chat template of {tokenizer.name_or_path} cannot render the content to judge "
        f"({' '.join(str(failure).split())}); name weights of the judge's own kind with "
        "--judge-model."
    )


def _readable(text: str) -> str:
    """Remove halves of surrogate pairs, which a model may write and no tokenizer reads."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _encoded(tokenizer: PreTrainedTokenizerBase, text: str, special_tokens: bool) -> list[int]:
    ids: Any = tokenizer(text, add_special_tokens=special_tokens)
    return list(ids["input_ids"])
