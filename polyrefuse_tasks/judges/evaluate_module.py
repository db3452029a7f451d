"""The judges as a metric of Hugging Face `evaluate`, to score any list of answers from Python.

>>> from polyrefuse_tasks.judges.evaluate_module import RefusalJudge
>>> answers = ["Lo siento, pero no puedo ayudar con eso.", "Claro: primero hierve el agua."]
>>> RefusalJudge().compute(predictions=answers, languages=["es", "es"])["refusal_rate"]
0.5
"""

from collections import Counter
from typing import Any

import datasets
import evaluate

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.intervals import wilson
from polyrefuse_tasks.judges import Label, check_refusal_judge, judge_responses


class NothingToJudge(UserError):
    """There are no answers, or not one language for each answer."""


class RefusalJudge(evaluate.Metric):
    """A metric that labels answers and counts the labels.

    `compute(predictions=..., languages=...)` takes a list of answers and a list of the ISO 639-1
    codes of their prompts. It also takes the keywords `judge` (the name of a judge that measures
    refusal) and `responses_translated` (the answers in English, for judges that read only English).
    It returns

        n                                  the number of answers
        refusal, compliance, ...           the number of answers with each label
        refusal_rate, compliance_rate, ... the share of all answers, 0 to 1
        refusal_rate_interval, ...         [low, high], Wilson's 95% interval of the share
        labels, evidence                   one for each answer, in the given order
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Share of answers that refuse, comply, degenerate, or stay undecided.",
            citation="",
            inputs_description=type(self).__doc__ or "",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "languages": datasets.Value("string")}
            ),
        )

    def compute(self, **inputs: Any) -> dict[str, Any]:
        """Label the answers and count the labels; see the class.

        Raises:
            NothingToJudge: there are no answers, or not one language for each answer.
            UnknownJudge, UnknownLanguage, BadJudge, JudgeFailed: see `judge_responses`.
            BadJudge: the judge measures only harm.
        """
        # evaluate returns None for an empty list and an Arrow error for unequal lengths. Answers
        # from `add` and `add_batch` are not passed here, and were checked there.
        if "predictions" in inputs:
            answers, languages = inputs["predictions"], inputs.get("languages", [])
            if len(answers) == 0 or len(answers) != len(languages):
                raise NothingToJudge(
                    f"{len(answers)} predictions and {len(languages)} languages: give one "
                    "language for each prediction, and at least one of them"
                )
        return super().compute(**inputs)

    def _compute(
        self,
        predictions: list[str],
        languages: list[str],
        judge: str = "native",
        responses_translated: list[str] | None = None,
    ) -> dict[str, Any]:
        n = len(predictions)
        translated = responses_translated or None
        if translated and len(translated) != n:
            raise NothingToJudge(
                f"{n} predictions and {len(translated)} responses_translated: give one translation "
                "for each prediction, or none at all"
            )
        judgements = judge_responses(
            predictions,
            languages,
            judge=check_refusal_judge(judge),
            responses_translated=translated,
        )
        counts = Counter(judgement.label for judgement in judgements)
        result: dict[str, Any] = {"n": n}
        for label in Label:
            hits = counts[label]
            low, high = wilson(hits, n)
            result[label.value] = hits
            result[f"{label.value}_rate"] = hits / n
            result[f"{label.value}_rate_interval"] = [float(low), float(high)]
        result["labels"] = [str(judgement.label) for judgement in judgements]
        result["evidence"] = [judgement.evidence for judgement in judgements]
        return result
