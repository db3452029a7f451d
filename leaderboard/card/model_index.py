"""Make the `model-index` of a card: the results that a hub reads from the YAML of a model card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyrefuse_leaderboard.card.safety import BY_LANGUAGE
from polyrefuse_leaderboard.card.subjects import Measured
from polyrefuse_leaderboard.records import MEAN, Record
from polyrefuse_leaderboard.table import metric_title

from polyrefuse_tasks.metrics import LOOPHOLE

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

SHOWN = (*BY_LANGUAGE, LOOPHOLE)
"""The metrics in the `model-index`."""


def results(measured: Measured) -> tuple[EvalResult, ...]:
    """Return the rates of the model without an intervention, in percent.

    A hub shows them as results of the published weights, and rates under an intervention are not
    results of those weights. If several conditions have no intervention, the one that the study
    calls baseline is taken.
    """
    from huggingface_hub import EvalResult

    untouched = [
        one for one in measured.safety if one.condition == "baseline" and one.metric in SHOWN
    ]
    if len(measured.columns(untouched)) > 1:
        untouched = [one for one in untouched if measured.column(one) == "baseline"]
    return tuple(
        EvalResult(
            task_type="text-generation",
            task_name="Refusal safety",
            dataset_type=record.dataset,
            dataset_name=f"{record.dataset}, {record.language}",
            dataset_config=record.language,
            dataset_split="test",
            metric_type=record.metric,
            metric_name=f"{metric_title(record.metric)} (%), judge {record.judge}",
            metric_value=round(100 * record.value, 2),
            metric_args={
                "judge": record.judge,
                "n": record.n,
                "low": round(100 * record.low, 2),
                "high": round(100 * record.high, 2),
            },
        )
        for record in sorted(untouched, key=_order)
    )


def _order(one: Record) -> tuple[str, str, str, bool, str]:
    """Order by dataset, judge and metric, with the mean before the languages."""
    return one.dataset, one.judge, one.metric, one.language != MEAN, one.language
