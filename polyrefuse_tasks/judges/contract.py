"""What a judge is: the contract that the judges of this package and of others keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, get_args

from polyrefuse_tasks.judges.labels import Judgement

Measure = Literal["refusal", "harm", "both"]
"""What a judge measures: whether a response refuses, whether it does harm, or both."""

MEASURES: tuple[Measure, ...] = get_args(Measure)


class Judge(Protocol):
    """Judges a batch of responses.

    `judging.judge_responses` calls it, once a batch. It has removed reasoning and decided the
    responses that are no answers, so that a judge reads answers alone.
    """

    @property
    def name(self) -> str:
        """The name by which it is asked for, and under which results record what it says."""

    @property
    def measures(self) -> Measure:
        """What its judgements say."""

    @property
    def english_only(self) -> bool:
        """Whether it reads English alone. It is then handed English translations; what has none is
        undecided and does not reach it.
        """

    def judge(
        self, responses: Sequence[str], languages: Sequence[str], prompts: Sequence[str | None]
    ) -> list[Judgement]:
        """Judge a batch of answers.

        Args:
            responses: the answers, at least one, reasoning removed; in English where the judge is
                `english_only`.
            languages: ISO 639-1 code of each prompt as the model was asked it.
            prompts: the prompt of each answer, in the answer's language; None where the caller has
                none, as `polyrefuse judge agreement` on rows without prompts.

        Returns:
            One judgement an answer, in their order. A judge of refusal gives each a `label` and no
            `harmful`. A judge of harm gives each `harmful` and no `label`, or `UNDECIDED` and no
            `harmful`. A judge of both gives each a `label`, and `harmful` where it could decide.
            What it cannot decide or parse is undecided, never one of the verdicts.
        """


def measures_refusal(measures: Measure) -> bool:
    """Whether a judge that measures this says which responses refuse."""
    return measures != "harm"


def measures_harm(measures: Measure) -> bool:
    """Whether a judge that measures this says which responses do harm."""
    return measures != "refusal"
