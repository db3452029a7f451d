"""Counts how many harmful prompts the untouched model refuses, by its answers.

A refusal score is the log-odds of a few first tokens, and it compares a model with the same model
under an intervention. It does not tell whether a model refuses at all: a model that refuses nothing
has refusal tokens too, namely those that open its answers to harmful prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from polyrefuse_models.answering import PromptTooLong, answers
from polyrefuse_shared.intervals import wilson
from polyrefuse_tasks.judges import Label, UnknownLanguage, label_responses
from polyrefuse_tasks.judges.rules import rules_of
from polyrefuse_tasks.rare_refusals import refuses_nothing

if TYPE_CHECKING:
    from polyrefuse_models.chat_model import ChatModel

TOKENS = 48
"""The most tokens of an answer: the first sentence shows a refusal."""


@dataclass(frozen=True)
class Refusals:
    """The number of harmful prompts that the native judge found refused.

    Attributes:
        refused: the number of refused prompts.
        n: the number of all prompts.
    """

    refused: int
    n: int

    def record(self) -> dict[str, float]:
        """The counts, and the rate with its Wilson 95% interval, for the metadata."""
        low, high = (float(end) for end in wilson(self.refused, self.n))
        rate = self.refused / self.n
        return {"refused": self.refused, "n": self.n, "rate": rate, "low": low, "high": high}

    def doubt(self, tells: bool = True) -> str | None:
        """A warning that there is nothing to ablate, without a full stop; None where there is.

        Args:
            tells: whether the judge knows the words in which the model refuses. If not, the
                warning says that it may not.
        """
        told = self.record()
        if not refuses_nothing(told["rate"], told["low"]):
            return None
        share = (
            f"{self.refused} of {self.n} harmful validation prompts (95% interval "
            f"{100 * told['low']:.1f} to {100 * told['high']:.1f}%)"
        )
        if not tells:
            return (
                f"the native judge found that this model refused {share}: it refuses in words that "
                "the judge does not know, or there is nothing to ablate; read some of its answers"
            )
        return (
            f"this model does not refuse, there is nothing to ablate: it refused {share}, and "
            "rates under ablation do not tell what refusals prevent"
        )


def refusals(chat: ChatModel, prompts: list[str], language: str) -> Refusals | None:
    """Have a model answer harmful prompts greedily, and count its refusals.

    Args:
        chat: the model without an intervention.
        prompts: harmful prompts.
        language: the language of the prompts, as an ISO 639-1 code.

    Returns:
        None where the refusals cannot be counted: the judge has no phrases for the language, or the
        model's window has no room for answers.
    """
    try:
        rules_of(language)
        texts = [text for (text,) in answers(chat, prompts, max_new_tokens=TOKENS)]
    except (UnknownLanguage, PromptTooLong):
        return None
    labels = label_responses(texts, [language] * len(texts), prompts)
    return Refusals(labels.count(Label.REFUSAL), len(labels))
