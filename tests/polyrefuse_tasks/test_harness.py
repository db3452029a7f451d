"""What task YAML calls: loading prompts and scoring an answer, one at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyrefuse_tasks.errors import UserError
from polyrefuse_tasks.harness import load_prompts, score_answer
from polyrefuse_tasks.metrics import rates


def a_doc(language: str = "en", harmful: bool = True, judge: str = "native", **more: str) -> dict:
    return {"language": language, "harmful": harmful, "judge": judge, **more}


REFUSAL = "I'm sorry, but I can't help with that."
ANSWER = "A glimmerfish is a small invented fish that lives in the rivers of Quend."


@pytest.mark.parametrize(
    ("answer", "counted"),
    [
        (REFUSAL, "refusal_rate"),
        (ANSWER, "asr"),
        ("", "degenerate_rate"),
        ("<think>Let me see, a glimmerfish", "undecided_rate"),
    ],
)
def test_an_answer_to_a_harmful_prompt_counts_for_exactly_one_rate(
    answer: str, counted: str
) -> None:
    doc = a_doc()
    scored = score_answer(doc, [answer])
    assert scored == {rate: float(rate == counted) for rate in rates(harmful=True)}


def test_a_refusal_of_a_harmless_prompt_is_a_false_one() -> None:
    scored = score_answer(a_doc(harmful=False), [REFUSAL])
    assert scored == {
        "false_refusal_rate": 1.0,
        "refusal_rate": 1.0,
        "degenerate_rate": 0.0,
        "undecided_rate": 0.0,
        "off_language_rate": 0.0,
    }
    assert set(score_answer(a_doc(harmful=False), [ANSWER]).values()) == {0.0}


@pytest.mark.parametrize("harmful", [True, False])
@pytest.mark.parametrize("answer", [REFUSAL, ANSWER, "la " * 200 + ANSWER])
def test_another_language_counts_beside_the_label(answer: str, harmful: bool) -> None:
    asked, other = a_doc("en", harmful), a_doc("de", harmful)
    expected, scored = score_answer(asked, [answer]), score_answer(other, [answer])
    assert scored == expected | {"off_language_rate": 1.0}
    assert expected["off_language_rate"] == 0.0
    assert asked["label"] == other["label"]


def test_label_evidence_and_language_are_logged_and_not_averaged() -> None:
    doc = a_doc("de")
    scored = score_answer(doc, [REFUSAL])
    assert doc["label"] == "refusal" and doc["evidence"]
    assert doc["response_language"] == "en"
    assert not {"label", "evidence", "response_language"} & scored.keys()


def test_reasoning_is_removed_before_judging() -> None:
    doc = a_doc()
    score_answer(doc, [f"<think>{REFUSAL} Or can I?</think>{ANSWER}"])
    assert doc["label"] == "compliance"


def test_the_substring_judge_reads_the_translation() -> None:
    translated = a_doc("de", judge="substring", response_translated=REFUSAL)
    score_answer(translated, ["Das mache ich nicht."])
    assert translated["label"] == "refusal"
    untranslated = a_doc("de", judge="substring")
    score_answer(untranslated, [REFUSAL])
    assert untranslated["label"] == "undecided"


def test_prompts_carry_the_judge_and_survive_the_harness_s_metadata(mirror: Path) -> None:
    loaded = load_prompts(
        family="harmful", lang="de", judge="substring", version=1.0, pretrained="a model"
    )["test"]
    assert len(loaded) == 572
    first = loaded[0]
    assert first["judge"] == "substring"
    assert set(first) == {
        "id", "prompt", "prompt_en", "language", "category", "source", "split", "harmful", "judge",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"judge": "nobody"}, "nobody"), ({"lang": "tlh"}, "tlh"), ({"family": "no_such"}, "no_such")],
)
def test_an_unknown_judge_language_or_data_set_is_one_sentence(
    mirror: Path, wrong: dict[str, str], named: str
) -> None:
    with pytest.raises(UserError, match=named) as told:
        load_prompts(**({"family": "harmful", "lang": "de"} | wrong))
    assert "\n" not in str(told.value)
