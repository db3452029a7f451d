"""Prompts that are longer than a model's window."""

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
    """Engines would cut the beginning off, the template's with it, and say nothing.

    Args:
        requests: with the text that the model reads.
        count: how many tokens a text has for the model.
        window: most tokens that the model takes, the answer's included.
        max_gen_toks: an answer's most tokens where a request names none.

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
                f"{length} tokens and its answer may have {answer}, more than the model's "
                f"window of {window}; lower the answer's length with "
                "--gen_kwargs max_gen_toks=N, or cut prompts with truncation=True."
            )
