"""Judges that are models: they render prompts, have an engine complete them, and read verdicts."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from polyrefuse_tasks.judge_models.formats import Format, Rendered, ScoredFormat
from polyrefuse_tasks.judges.contract import Measure
from polyrefuse_tasks.judges.labels import Judgement, Label

if TYPE_CHECKING:
    from polyrefuse_tasks.judge_engines.engine import Engine, Loading


AnyFormat = TypeVar("AnyFormat", Format, ScoredFormat)

TOO_LONG = Judgement(Label.UNDECIDED, "longer than the judge's context")
NO_PROMPT = Judgement(Label.UNDECIDED, "no prompt to judge the answer by")


def judge_rendered(
    responses: Sequence[str],
    prompts: Sequence[str | None],
    render: Callable[[str, str], Rendered],
    judged: Callable[[Sequence[Rendered]], list[Judgement]],
) -> list[Judgement]:
    """Judge answers; those without a prompt are undecided.

    Args:
        responses: the answers.
        prompts: the prompt of each answer, or None.
        render: a function that makes the judge's prompt from a prompt and a response.
        judged: a function that returns the judgement for each of the judge's prompts.
    """
    rendered = {
        place: render(prompt, response)
        for place, (prompt, response) in enumerate(zip(prompts, responses, strict=True))
        if prompt is not None
    }
    by_place = dict(zip(rendered, judged(list(rendered.values())), strict=True))
    return [by_place.get(place, NO_PROMPT) for place in range(len(responses))]


@dataclass(frozen=True)
class _OnEngine(Generic[AnyFormat]):
    """The common part of judges that are models; see `contract.Judge`.

    Attributes:
        format: the prompt and the parser.
        loading: which weights run where, on which engine; by default those of the card.
    """

    format: AnyFormat
    loading: Loading | None = None

    @property
    def name(self) -> str:
        """The name of the judge, which includes weights other than those of the card."""
        name = self.format.card.name
        if self.loading is None or self.loading.model == self.format.card.model:
            return name
        return f"{name}:{self.loading.model.rstrip('/').rpartition('/')[2]}"

    @property
    def measures(self) -> Measure:
        """See `contract.Judge.measures`."""
        return self.format.card.measures

    @property
    def english_only(self) -> bool:
        """See `contract.Judge.english_only`."""
        return self.format.card.english_only

    @property
    def languages(self) -> tuple[str, ...]:
        """The ISO 639-1 codes that the card names."""
        return self.format.card.languages

    @property
    def revision(self) -> str:
        """The revisions of the format and of the weights, which are loaded for it."""
        return f"{self.format.card.revision}, {self.engine.revision}"

    @property
    def settings(self) -> dict[str, Any]:
        """The other settings that decide the labels."""
        return self.format.card.settings | self.engine.settings

    @functools.cached_property
    def engine(self) -> Engine:
        """The engine that runs the model, which is loaded on first use."""
        from polyrefuse_tasks.judge_engines.loading import load

        return load(self._loading)

    @property
    def _loading(self) -> Loading:
        from polyrefuse_tasks.judge_engines.engine import Loading

        return self.loading or Loading(self.format.card.model)

    def on(self, loading: Loading) -> _OnEngine[AnyFormat]:
        """Return the same judge with other weights or on another engine."""
        return replace(self, loading=loading)

    def judge(
        self, responses: Sequence[str], languages: Sequence[str], prompts: Sequence[str | None]
    ) -> list[Judgement]:
        """See `contract.Judge.judge`; an answer whose prompt is not known is undecided."""
        return judge_rendered(responses, prompts, self.format.prompt, self._judged)

    def _judged(self, rendered: Sequence[Rendered]) -> list[Judgement]:
        raise NotImplementedError


class ModelJudge(_OnEngine[Format]):
    """A judge that writes its verdict."""

    def _judged(self, rendered: Sequence[Rendered]) -> list[Judgement]:
        verdicts = self.engine.complete(
            rendered,
            self.format.max_new_tokens,
            special_tokens=self.format.card.special_tokens,
        )
        return [TOO_LONG if one is None else self.format.parse(one) for one in verdicts]


class ScoreJudge(_OnEngine[ScoredFormat]):
    """A judge that grades."""

    @property
    def _loading(self) -> Loading:
        # vLLM has no logits of chosen tokens, and it says so if the user asks for it.
        loading = super()._loading
        return replace(loading, engine=loading.engine or "transformers")

    def _judged(self, rendered: Sequence[Rendered]) -> list[Judgement]:
        means = self.engine.expected_number(rendered, self.format.numbers)
        return [TOO_LONG if math.isnan(one) else self.format.judged(one) for one in means]
