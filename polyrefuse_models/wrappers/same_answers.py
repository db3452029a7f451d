"""Warn, task by task, about answers that do not depend on the prompt."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from polyrefuse_tasks.judges import Label, UnknownLanguage, judge_response
from polyrefuse_tasks.same_answers import FEWEST, SHARE, warn_of_same_answers

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance


def same_answers(requests: Sequence[Instance], answers: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each task most of whose answers are the same text and not a refusal.

    Tasks whose rows have no language do not measure refusal, and may well have equal answers.
    """
    tasks: dict[str, list[tuple[Instance, str]]] = defaultdict(list)
    for request, answer in zip(requests, answers, strict=True):
        if "language" in request.doc:
            tasks[request.task_name].append((request, answer))
    for task, given in tasks.items():
        most = max(Counter(" ".join(answer.split()) for _, answer in given).values())
        if most <= FEWEST * SHARE:
            continue  # This is the usual case, and no answer has to be judged.
        try:
            kept = [
                (request.doc_id, answer)
                for request, answer in given
                if not _refused(answer, request.doc["language"])
            ]
        except UnknownLanguage:
            continue
        prompts = {prompt for prompt, _ in kept}
        if warning := warn_of_same_answers([answer for _, answer in kept], len(prompts)):
            yield f"{task}: {warning}"


def _refused(answer: str, language: str) -> bool:
    return judge_response(answer, language).label is Label.REFUSAL
