"""How many harmful prompts a model refuses as it is, by its answers and not by its first tokens.

Refusal scores compare models with their interventions, and are log-odds of a few tokens. A model
that refuses nothing has refusal tokens too: whatever opens its answers to harmful prompts.
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
"""Most tokens of an answer: refusals are told by their first sentence."""


@dataclass(frozen=True)
class Refusals:
    """Refused harmful prompts, by the native judge.

    Attributes:
        refused: how many.
        n: of how many.
    """

    refused: int
    n: int

    def record(self) -> dict[str, float]:
        """Counts, share and its Wilson 95% interval, as metadata has them."""
        low, high = (float(end) for end in wilson(self.refused, self.n))
        rate = self.refused / self.n
        return {"refused": self.refused, "n": self.n, "rate": rate, "low": low, "high": high}

    def doubt(self, tells: bool = True) -> str | None:
        """That there is nothing to ablate, where that is so, without a full stop.

        Args:
            tells: whether the judge's word is taken for it; if not, the model may refuse in words
                that it does not know.
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
    """Have a model answer harmful prompts, greedily, and count its refusals.

    Args:
        chat: the model without an intervention.
        prompts: harmful ones.
        language: of the prompts, ISO 639-1.

    Returns:
        None where that cannot be told: the judge has no phrases for the language, or the model's
        window no room for answers.
    """
    try:
        rules_of(language)
        texts = [text for (text,) in answers(chat, prompts, max_new_tokens=TOKENS)]
    except (UnknownLanguage, PromptTooLong):
        return None
    labels = label_responses(texts, [language] * len(texts), prompts)
    return Refusals(labels.count(Label.REFUSAL), len(labels))
