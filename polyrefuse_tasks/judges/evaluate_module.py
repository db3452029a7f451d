"""The judges as a metric of Hugging Face `evaluate`: scores any list of answers from Python.

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
    """No answers, or not one language an answer: there is no rate of nothing."""


class RefusalJudge(evaluate.Metric):
    """Labels answers and counts the labels.

    `compute(predictions=..., languages=...)` takes the answers and their prompts' ISO 639-1 codes,
    a list of each, and as keywords `judge` (the name of a judge that measures refusal) and
    `responses_translated` (the answers in English, for the judges that read English alone). It
    returns

        n                                  how many answers
        refusal, compliance, ...           how many of them have each label
        refusal_rate, compliance_rate, ... shares of all answers, 0 to 1
        refusal_rate_interval, ...         [low, high], Wilson's 95% interval of each share
        labels, evidence                   one an answer, in the order given
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
        """Label and count; see the class.

        Raises:
            NothingToJudge: there are no answers, or not one language an answer.
            UnknownJudge, UnknownLanguage, BadJudge, JudgeFailed: as `judge_responses`.
            BadJudge: the judge measures harm alone.
        """
        # evaluate answers an empty list with None, and unequal lengths with an Arrow error. What
        # came in by `add` and `add_batch` is not named here, and was checked there.
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
