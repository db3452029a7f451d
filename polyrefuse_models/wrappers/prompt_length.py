"""Refuse prompts that are longer than a model's window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from polyrefuse_models.wrappers.generation_settings import requested
from polyrefuse_shared.errors import UserError

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance


def refuse_long_prompts(
    requests: Sequence[Instance], *, count: Callable[[str], int], window: int, max_gen_toks: int
) -> None:
    """Refuse prompts that do not fit the model's window together with their answers.

    Engines would silently cut off the beginning of such a prompt, and of the template with it.

    Args:
        requests: requests with the text that the model reads.
        count: a function that returns the number of tokens in a text.
        window: the largest number of tokens that the model takes, including the answer.
        max_gen_toks: the largest number of tokens in an answer if a request names none.

    Raises:
        UserError: a prompt and its answer do not fit.
    """
    for request in requests:
        text, settings = request.args
        answer = requested(settings, max_gen_toks)["max_gen_toks"]
        length = count(text)
        if length + answer > window:
            raise UserError(
                f"Prompt {request.doc.get('id', request.doc_id)} of {request.task_name} has "
                f"{length} tokens and its answer may have {answer}, which is more than the model's "
                f"window of {window}; allow shorter answers with --gen_kwargs max_gen_toks=N, or "
                "cut prompts with truncation=True."
            )
