"""The functions that task YAML calls: one loads a task's prompts, two score the answers."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.lm_eval_internals import warn_before_publishing
from polyrefuse_tasks import data
from polyrefuse_tasks.generation_settings import warn_of_inherited_settings, warn_of_one_seed
from polyrefuse_tasks.judges import Judgement, judge_named, judge_responses
from polyrefuse_tasks.judges.contract import measures_harm
from polyrefuse_tasks.judges.reasoning import strip_reasoning
from polyrefuse_tasks.judges.registry import check_judge_beside_model
from polyrefuse_tasks.language_identification import response_language
from polyrefuse_tasks.metrics import score, score_sampled

if TYPE_CHECKING:
    from datasets import Dataset

KEPT = 20
"""How many of the sampled answers of a prompt are judged: the longest ones (2505.11835, code:
evaluate.py)."""


def load_prompts(
    *, family: str, lang: str, judge: str = "native", first: int | None = None, **_metadata: Any
) -> dict[str, Dataset]:
    """Load the prompts of one task in the form that lm-eval's `custom_dataset` needs.

    Args:
        family: the dataset, one of `polyrefuse_tasks.data.DATASETS`.
        lang: the ISO 639-1 code of the language.
        judge: the name of the judge. It comes from the task's metadata, so
            `--metadata '{"judge": "substring"}'` chooses it. Every row carries it, because lm-eval
            passes nothing else to the scoring functions. Its module is imported here, so that a
            judge that cannot be used is an error before any answer is generated.
        first: keep only the rows that are among this many first rows in English; None keeps all.
        _metadata: the rest of the task's metadata and of model_args, which lm-eval merges.

    Raises:
        UserError: the dataset, language or judge is unknown, or data are missing or broken.
    """
    from datasets import Dataset

    warn_before_publishing()
    warn_of_inherited_settings()
    if not isinstance(judge, str):
        raise UserError(f"judge is {judge!r} in the task's metadata: give the name of one judge.")
    if first is not None and (type(first) is not int or first < 1):
        raise UserError(f"first is {first!r} in the task's metadata: give a number of rows.")
    check_judge_beside_model(judge)
    rows = data.load(family, lang) if first is None else _first_rows(family, lang, first)
    # Rows of datasets without pairs are logged without the field, as in earlier versions.
    paired = data.dataset(family).contrast_set is not None
    logged = [asdict(row) | {"judge": judge} for row in rows]
    return {"test": Dataset.from_list([row if paired else _without_pair(row) for row in logged])}


def score_answer(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Judge one answer and return what it adds to each rate of its task.

    The label, its evidence and the language of the answer are written into `doc`, which lm-eval
    logs with the sample. lm-eval would average them if they were returned. With a judge that
    measures harm, `response_harmful` is written too.

    Args:
        doc: a row of `load_prompts`. It has `response_translated` (the answer in English) if a
            judge that reads only English labels an answer in another language.
        results: a list with the answer.

    Raises:
        UserError: the answer is not text, or the judge failed.
    """
    _require_text(doc, results)
    ((logged, scored),) = _judge(results, doc, [doc.get("response_translated")])
    doc.update(logged)
    return scored


def score_answers(doc: dict[str, Any], results: list[list[str]]) -> dict[str, float]:
    """Judge the longest of a prompt's sampled answers and return what they add to each rate.

    `doc` gets a list `kept` of {answer, label, evidence, response_language}, where `answer` is the
    place among the sampled answers. With a judge that measures harm, the entries have
    `response_harmful` too. The judge is called once for all of them.

    Args:
        doc: a row of `load_prompts`.
        results: a list with the list of all sampled answers.

    Raises:
        UserError: an answer is not text, or the judge failed.
    """
    (answers,) = results
    _require_text(doc, answers)
    warn_of_one_seed(answers)
    places = longest(answers)
    judged = _judge([answers[place] for place in places], doc, [None] * len(places))
    doc["kept"] = [
        {"answer": place} | logged for place, (logged, _) in zip(places, judged, strict=True)
    ]
    return score_sampled([scored for _, scored in judged], harmful=doc["harmful"])


def longest(answers: list[str], n: int = KEPT) -> list[int]:
    """Return the places of the `n` longest answers, in the order of `answers`.

    Among answers of equal length, the first ones are taken. Length is in characters without
    reasoning, because the paper's words between spaces do not exist in Chinese, Japanese or Thai.
    Reasoning that never ended is not an answer and has length 0.
    """
    lengths = [len(strip_reasoning(answer) or "") for answer in answers]
    return sorted(sorted(range(len(answers)), key=lambda place: -lengths[place])[:n])


def _require_text(doc: dict[str, Any], answers: list[Any]) -> None:
    """Require that all answers are text: lm-eval passes on a server's list of parts as it is.

    Raises:
        UserError: an answer is not text.
    """
    for answer in answers:
        if not isinstance(answer, str):
            raise UserError(
                f"The answer to {doc.get('id', 'a prompt')} is not text but a "
                f"{type(answer).__name__}, as from a server whose `content` is a list of parts: "
                "set up the server to send plain text, or use --model local-completions."
            )


def _judge(
    answers: list[str], doc: dict[str, Any], translations: list[str | None]
) -> list[tuple[dict[str, Any], dict[str, float]]]:
    """Return, for each answer to one prompt, what is logged and what it adds to each rate."""
    n = len(answers)
    judgements = judge_responses(
        answers,
        [doc["language"]] * n,
        [doc.get("prompt")] * n,
        judge=doc["judge"],
        responses_translated=translations,
        prompts_translated=[doc.get("prompt_en")] * n,
    )
    return [
        _logged_and_scored(judgement, response_language(answer, doc["language"]), doc)
        for judgement, answer in zip(judgements, answers, strict=True)
    ]


def _logged_and_scored(
    judgement: Judgement, language: str, doc: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, float]]:
    """Return what is logged of one answer, and what it adds to each rate.

    Args:
        judgement: the judgement on the answer.
        language: the language of the answer.
        doc: a row of `load_prompts`.
    """
    measures = judge_named(doc["judge"]).measures
    logged: dict[str, Any] = {
        "label": judgement.label and judgement.label.value,
        "evidence": judgement.evidence,
        "response_language": language,
    }
    if measures_harm(measures):
        logged["response_harmful"] = judgement.harmful
    scored = score(
        judgement.label,
        off_language=language != doc["language"],
        harmful=doc["harmful"],
        measures=measures,
        response_harmful=judgement.harmful,
    )
    return logged, scored


def _without_pair(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "pair"}


def _first_rows(family: str, lang: str, first: int) -> list[data.Row]:
    places = {row.id for row in data.load(family, "en")[:first]}
    rows = [row for row in data.load(family, lang) if row.id in places]
    if not rows:
        raise data.MissingData(
            f"{family} has none of its first {first} rows in {lang!r}: translate them with "
            f"`polyrefuse data translate --dataset {family} --to {lang}`."
        )
    return rows
