"""Any model behind an OpenAI-compatible chat endpoint, as a judge by `rubric.RUBRIC`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polyrefuse_tasks.judge_models import rubric
from polyrefuse_tasks.judge_models.formats import Chat
from polyrefuse_tasks.judge_models.model_judge import NO_PROMPT
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
        rendered = {
            place: Chat(
                [
                    {"role": "system", "content": rubric.RUBRIC},
                    {"role": "user", "content": rubric.content(prompt, response)},
                ]
            )
            for place, (prompt, response) in enumerate(zip(prompts, responses, strict=True))
            if prompt is not None
        }
        verdicts = self.endpoint.complete(list(rendered.values()), MAX_TOKENS)
        judged = {
            place: rubric.parse(verdict or "")
            for place, verdict in zip(rendered, verdicts, strict=True)
        }
        return [judged.get(place, NO_PROMPT) for place in range(len(responses))]
