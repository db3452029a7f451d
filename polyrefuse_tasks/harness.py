"""The functions that task YAML calls: one loads a task's prompts, one scores an answer."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from polyrefuse_tasks import data
from polyrefuse_tasks.invocation import warn_before_publishing
from polyrefuse_tasks.judges import check_judge, judge_response
from polyrefuse_tasks.language_identification import response_language
from polyrefuse_tasks.metrics import score

if TYPE_CHECKING:
    from datasets import Dataset


def load_prompts(
    *, family: str, lang: str, judge: str = "native", **_metadata: Any
) -> dict[str, Dataset]:
    """The prompts of one task, as lm-eval's `custom_dataset` wants them.

    Args:
        family: data set, one of `polyrefuse_tasks.data.DATASETS`.
        lang: ISO 639-1 code.
        judge: who labels the answers; from the task's metadata, so that
            `--metadata '{"judge": "substring"}'` chooses it. Travels in every row, because
            lm-eval hands `score_answer` nothing else.
        _metadata: the rest of the task's metadata and of model_args, which lm-eval merges.

    Raises:
        UserError: unknown data set, language or judge; missing or broken data.
    """
    from datasets import Dataset

    warn_before_publishing()
    check_judge(judge)
    rows = [asdict(row) | {"judge": judge} for row in data.load(family, lang)]
    return {"test": Dataset.from_list(rows)}


def score_answer(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Label one answer and say what it adds to each rate of its task.

    The label, its evidence and the answer's language go into `doc`, which lm-eval logs with the
    sample: it would average them if they were returned.

    Args:
        doc: a row of `load_prompts`, with `response_translated` (the answer in English) where a
            judge that reads English is to label an answer in another language.
        results: the answer, alone in a list.
    """
    judgement = judge_response(
        results[0],
        doc["language"],
        judge=doc["judge"],
        response_translated=doc.get("response_translated"),
    )
    doc["label"] = judgement.label.value
    doc["evidence"] = judgement.evidence
    doc["response_language"] = response_language(results[0], doc["language"])
    return score(
        judgement.label,
        off_language=doc["response_language"] != doc["language"],
        harmful=doc["harmful"],
    )
