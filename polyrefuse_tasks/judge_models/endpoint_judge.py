"""A judge that asks any model behind an OpenAI-compatible chat endpoint, by `rubric.RUBRIC`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from polyrefuse_tasks.judge_models import rubric
from polyrefuse_tasks.judge_models.formats import Rendered
from polyrefuse_tasks.judge_models.model_judge import judge_rendered
from polyrefuse_tasks.judges.contract import Measure
from polyrefuse_tasks.judges.labels import Judgement, Label

if TYPE_CHECKING:
    from polyrefuse_tasks.judge_engines.endpoint import Completion, Endpoint

PREFIX = "openai:"
"""The beginning of the name of such a judge, which the name of the model follows."""

MAX_TOKENS = 2048
"""The most tokens of a verdict, because a reasoning model thinks first."""


@dataclass(frozen=True)
class EndpointJudge:
    """The judge behind an endpoint; see `contract.Judge`."""

    endpoint: Endpoint

    measures: Measure = "both"
    english_only = False

    @property
    def name(self) -> str:
        """See `contract.Judge.name`."""
        return f"{PREFIX}{self.endpoint.asking.model}"

    @property
    def revision(self) -> str:
        """The revision of the rubric, because the endpoint does not say what it runs."""
        return f"rubric {rubric.SHA256}, {self.endpoint.revision}"

    @property
    def settings(self) -> dict[str, Any]:
        """The other settings that decide the labels."""
        return {"rubric": rubric.RUBRIC} | self.endpoint.settings

    @property
    def remaining(self) -> int | None:
        """How many answers it can judge within its budget if no request fails; None for any."""
        return self.endpoint.remaining

    def judge(
        self, responses: Sequence[str], languages: Sequence[str], prompts: Sequence[str | None]
    ) -> list[Judgement]:
        """See `contract.Judge.judge`; an answer whose prompt is not known is undecided."""
        return judge_rendered(responses, prompts, rubric.chat, self._judged)

    def _judged(self, rendered: Sequence[Rendered]) -> list[Judgement]:
        return [self._judgement(one) for one in self.endpoint.complete(rendered, MAX_TOKENS)]

    def _judgement(self, completion: Completion) -> Judgement:
        if completion.text is None:
            return Judgement(Label.UNDECIDED, completion.reason)
        judgement = rubric.parse(completion.text)
        if self.endpoint.tells_key(completion.text):
            return replace(judgement, evidence="a verdict that repeats the key and is not saved")
        return judgement
