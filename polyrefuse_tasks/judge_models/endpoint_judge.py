"""Any model behind an OpenAI-compatible chat endpoint, as a judge by `rubric.RUBRIC`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polyrefuse_tasks.judge_models import rubric
from polyrefuse_tasks.judge_models.formats import Rendered
from polyrefuse_tasks.judge_models.model_judge import judge_rendered
from polyrefuse_tasks.judges.contract import Measure
from polyrefuse_tasks.judges.labels import Judgement

if TYPE_CHECKING:
    from polyrefuse_tasks.judge_engines.endpoint import Endpoint

PREFIX = "openai:"
"""Begins the name of such a judge; the model's name follows."""

MAX_TOKENS = 2048
"""Of a verdict: a reasoning model thinks first."""


@dataclass(frozen=True)
class EndpointJudge:
    """See `contract.Judge`."""

    endpoint: Endpoint

    measures: Measure = "both"
    english_only = False

    @property
    def name(self) -> str:
        """As `contract.Judge.name`."""
        return f"{PREFIX}{self.endpoint.asking.model}"

    @property
    def revision(self) -> str:
        """Of the rubric; what the endpoint runs is not known."""
        return f"rubric {rubric.SHA256}, {self.endpoint.revision}"

    @property
    def settings(self) -> dict[str, Any]:
        """What else decides the labels."""
        return {"rubric": rubric.RUBRIC} | self.endpoint.settings

    def judge(
        self, responses: Sequence[str], languages: Sequence[str], prompts: Sequence[str | None]
    ) -> list[Judgement]:
        """As `contract.Judge.judge`; an answer whose prompt is not known is undecided."""
        return judge_rendered(responses, prompts, rubric.chat, self._judged)

    def _judged(self, rendered: Sequence[Rendered]) -> list[Judgement]:
        verdicts = self.endpoint.complete(rendered, MAX_TOKENS)
        return [rubric.parse(verdict or "") for verdict in verdicts]
