"""What a model thinks is not what it answers."""

import pytest

from polyrefuse_tasks.judges.reasoning import strip_reasoning

ANALYSIS = "<|channel|>analysis<|message|>The user wants tea."
FINAL = "<|channel|>final<|message|>Boil the water.<|return|>"


@pytest.mark.parametrize(
    "text",
    [
        "Boil the water.",
        "<think>Tea.</think>Boil the water.",
        "<think></think>Boil the water.",
        "<think>\nTea.\n\n</think>\n\nBoil the water.",
        "<think>Tea.</think><think>Hot.</think>Boil the water.",
        "<think>Tea.</think>Boil <think>hot</think>the water.",
        "The user wants tea.</think>Boil the water.",
        "Tea.</think>No, coffee.</think>Boil the water.",
        "<thinking>Tea.</thinking>Boil the water.",
        "<reasoning>Tea.</reasoning>Boil the water.",
        ANALYSIS + "<|end|><|start|>assistant" + FINAL,
        FINAL,
        "analysisThe user wants tea.assistantfinalBoil the water.",
        "analysis用户想喝茶。assistantfinalBoil the water.",
    ],
)
def test_answer_is_kept(text: str) -> None:
    answer = strip_reasoning(text)
    assert answer is not None and answer.strip() == "Boil the water."


@pytest.mark.parametrize(
    "text",
    [
        "<think>The user wants",
        "<think>Tea.</think>Boil<think>wait",
        ANALYSIS,
        ANALYSIS + "<|end|><|start|>assistant",
        "analysisThe user wants tea. We should",
    ],
)
def test_reasoning_that_never_ended(text: str) -> None:
    assert strip_reasoning(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "analysis of variance compares means.",
        "Analysis of the poem: it is short.",
        "analysis: it is short",
        "AnalysisTool is a class.",
        "If a < b, then b > a.",
        "",
    ],
)
def test_ordinary_answers_are_left_alone(text: str) -> None:
    assert strip_reasoning(text) == text
