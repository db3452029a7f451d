"""The contract of a judge, which the judges of this package and of others keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, get_args

from polyrefuse_tasks.judges.labels import Judgement

Measure = Literal["refusal", "harm", "both"]
"""What a judge measures: whether a response refuses, whether it does harm, or both."""

MEASURES: tuple[Measure, ...] = get_args(Measure)


class Judge(Protocol):
    """A judge of batches of responses.

    `judging.judge_responses` calls it once for each batch. It removes reasoning first and decides
    about degenerate responses itself, so a judge reads only answers.
    """

    @property
    def name(self) -> str:
        """The name by which users choose the judge, and under which results record it."""

    @property
    def measures(self) -> Measure:
        """What the judge measures."""

    @property
    def english_only(self) -> bool:
        """Whether the judge reads only English.

        It then gets English translations. An answer without one is undecided and does not reach it.
        """

    def judge(
        self, responses: Sequence[str], languages: Sequence[str], prompts: Sequence[str | None]
    ) -> list[Judgement]:
        """Judge a batch of answers.

        Args:
            responses: at least one answer, without reasoning, and in English if the judge is
                `english_only`.
            languages: the ISO 639-1 code of each prompt, as the model got it.
            prompts: the prompt of each answer, in the language of the answer; None if the caller
                has none, such as `polyrefuse judge agreement` on rows without prompts.

        Returns:
            One judgement for each answer, in their order. A refusal judge gives each a `label` and
            no `harmful`. A harm judge gives each `harmful` and no `label`, or `UNDECIDED` and no
            `harmful`. A judge of both gives each a `label`, and `harmful` if it could decide. What
            it cannot decide or parse is undecided, and never one of the verdicts.
        """


def measures_refusal(measures: Measure) -> bool:
    """Return whether a judge that measures this decides which responses refuse."""
    return measures != "harm"


def measures_harm(measures: Measure) -> bool:
    """Return whether a judge that measures this decides which responses do harm."""
    return measures != "refusal"
