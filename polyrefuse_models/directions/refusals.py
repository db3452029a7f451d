"""Count how many harmful prompts the untouched model refuses, by its answers.

A refusal score is the log-odds of a few first tokens. It serves to compare a model with the same
model under an intervention, and does not show whether a model refuses at all: a model that refuses
nothing has refusal tokens too, namely those that open its answers to harmful prompts.
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
"""The largest number of tokens in an answer. The first sentence is enough to show a refusal."""


@dataclass(frozen=True)
class Refusals:
    """How many harmful prompts a model refused, by the native judge.

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
        """Warn, in a sentence without a full stop, if there is no refusal to ablate; else None.

        Args:
            tells: whether the judge can be expected to know the words in which the model refuses.
                If not, the warning says that it may not know them.
        """
        counted = self.record()
        if not refuses_nothing(counted["rate"], counted["low"]):
            return None
        share = (
            f"{self.refused} of {self.n} harmful validation prompts (95% interval "
            f"{100 * counted['low']:.1f} to {100 * counted['high']:.1f}%)"
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
        The counts; None if the judge has no phrases for the language, or if the model's window has
        no room for answers.
    """
    try:
        rules_of(language)
        texts = [text for (text,) in answers(chat, prompts, max_new_tokens=TOKENS)]
    except (UnknownLanguage, PromptTooLong):
        return None
    labels = label_responses(texts, [language] * len(texts), prompts)
    return Refusals(labels.count(Label.REFUSAL), len(labels))
