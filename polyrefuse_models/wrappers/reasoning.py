"""Find where reasoning ends in what a model writes, and mark reasoning so that judges see it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from polyrefuse_tasks.judges.reasoning import (
    closing_of,
    marks_in,
    marks_of_template,
    marks_of_vocabulary,
    opened_in,
    without_tokens,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

THINK = "<think>"
"""The mark that opens reasoning in a wrapper's answers. The judges remove marked reasoning."""

Decode = Callable[..., str]
"""An engine's function from token ids to text, which has the argument `skip_special_tokens`."""


class ReasoningMarks:
    """The marks of a model's reasoning in its answers.

    Args:
        tokenizer: the model's tokenizer.
        end: the token that ends reasoning, as text or id; None if the user gave none.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, end: str | int | None) -> None:
        self._tokenizer = tokenizer
        self.end = end

    def decode(self, tokens: list[int], decode: Decode) -> str:
        """Decode an answer. If `end` is known, return only what follows the reasoning.

        Reasoning that never ended is kept and marked, so that no judge takes it for an answer.
        """
        end = self.end
        if end is None:
            return self._with_marks(tokens, decode)
        if isinstance(end, str):
            # If the mark is a special token, the decoded text has lost it.
            end = self._tokenizer.get_added_vocab().get(end, end)
        if isinstance(end, int):
            if end not in tokens:
                return THINK + decode(tokens).removeprefix(THINK)
            last = len(tokens) - tokens[::-1].index(end)
            return decode(tokens[last:]).lstrip()
        text = decode(tokens)
        if end not in text:
            return THINK + text.removeprefix(THINK)
        return text.split(end)[-1].lstrip()

    def reopened(self, context: str, answer: str) -> str:
        """Put the opening mark in front of an answer if the template opened its reasoning.

        If `end` is known, `decode` has removed the reasoning already.
        """
        return answer if self.end is not None else opened_in(context) + answer

    def warning(self, model_name: str) -> str | None:
        """Return a sentence if a model may reason and the user did not say how reasoning ends."""
        if self.end is not None:
            return None
        named = self._tokenizer.chat_template or ""
        templates = list(named.values()) if isinstance(named, dict) else [named]
        marks_by_place = {
            "chat template": [
                mark for template in templates for mark in marks_of_template(template)
            ],
            "vocabulary": marks_of_vocabulary(
                [*self._tokenizer.all_special_tokens, *sorted(self._tokenizer.get_vocab())]
            ),
        }
        places = " and the ".join(place for place, marks in marks_by_place.items() if marks)
        if not places:
            return None
        marks = [mark for listed in marks_by_place.values() for mark in listed]
        end = closing_of(marks)
        return (
            f"{model_name} may reason before it answers, because its {places} has {marks[0]}. The "
            "judges recognise reasoning by such marks, and an answer whose reasoning is cut off at "
            "the token limit is undecided; give "
            f"think_end_token={end or 'the token that ends its reasoning'} to have the reasoning "
            "removed."
        )

    def _with_marks(self, tokens: list[int], decode: Decode) -> str:
        """Decode an answer, and keep those special tokens that are marks of reasoning.

        Without the marks, a judge could not distinguish the reasoning from the answer.
        """
        text = decode(tokens)
        whole = decode(tokens, skip_special_tokens=False)
        if marks_in(whole) == marks_in(text):
            return text
        special = {token for token in self._tokenizer.all_special_tokens if token}
        added: Any = self._tokenizer.added_tokens_decoder
        special |= {token.content for token in added.values() if token.special}
        return without_tokens(whole, re.compile("|".join(map(re.escape, special))))
