"""What a model thinks is not what it answers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from polyrefuse_tasks.judges import Label, judge_response
from polyrefuse_tasks.judges.agreement import read_rows
from polyrefuse_tasks.judges.reasoning import (
    marks_in,
    opened_in,
    strip_reasoning,
    without_tokens,
)

ANALYSIS = "<|channel|>analysis<|message|>The user wants tea."
FINAL = "<|channel|>final<|message|>Boil the water.<|return|>"
ANSWER = "Boil the water."

PAIRS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<THINK>", "</THINK>"),
    ("<thought>", "</thought>"),
    ("<thoughts>", "</thoughts>"),
    ("<Thought>", "</Thought>"),
    ("<reason>", "</reason>"),
    ("<reasoning>", "</reasoning>"),
    ("<REASONING>", "</REASONING>"),
    ("<reasoning_content>", "</reasoning_content>"),
    ("<analysis>", "</analysis>"),
    ("<reflection>", "</reflection>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<scratch_pad>", "</scratch_pad>"),
    ("<internal>", "</internal>"),
    ("<internal_monologue>", "</internal_monologue>"),
    ("<inner_thoughts>", "</inner_thoughts>"),
    ("<chain_of_thought>", "</chain_of_thought>"),
    ("<antThinking>", "</antThinking>"),
    ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"),
    ("<think:opensource>", "</think:opensource>"),
    ("<longcat_think>", "</longcat_think>"),
    ("< think >", "< / think >"),
    ("<think >", "</think >"),
    ("<think type='x'>", "</think>"),
    ('<think effort="low" lang=en>', "</think>"),
    ("[THINK]", "[/THINK]"),
    ("[Thinking]", "[/Thinking]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|think:start|>", "<|think:end|>"),
    ("<|thinking|>", "<|/thinking|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<unused94>thought\n", "<unused95>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|im_start|>think\n", "<|im_start|>answer\n"),
    ("<|think|>", "<|end|><|begin|>assistant<|content|>"),
    ("[unused16]", "[unused17]"),
    ('<details type="reasoning" done="true">', "</details>"),
    ("Here is my thought process: ", "\nHere is my response: "),
    ("Here's my thought process:\n", "\nHere's my response:\n"),
]


@pytest.mark.parametrize(("opening", "closing"), PAIRS)
@pytest.mark.parametrize("between", ["", "\n\n", " "])
def test_marks_of_many_families(opening: str, closing: str, between: str) -> None:
    thought = "The user wants tea. I cannot refuse that, can I?"
    block = f"{opening}{thought}{closing}{between}"
    assert (strip_reasoning(block + ANSWER) or "").strip() == ANSWER
    assert (strip_reasoning(block + block + ANSWER) or "").strip() == ANSWER
    assert strip_reasoning(opening + thought) is None
    if closing.strip()[0] != "H" and closing != "</details>":  # the prompt had the opening one
        assert (strip_reasoning(f"{thought}{closing}{between}{ANSWER}") or "").strip() == ANSWER


@pytest.mark.parametrize(
    "text",
    [
        "Boil the water.",
        "<think></think>Boil the water.",
        "<think>\nTea.\n\n</think>\n\nBoil the water.",
        "<think>Tea.</think><think>Hot.</think>Boil the water.",
        "<think>Tea.</think>Boil <think>hot</think>the water.",
        "Tea.</think>No, coffee.</think>Boil the water.",
        "<think>Tea.<think>Hot.</think>Good.</think>Boil the water.",
        "<thinking>Tea.<reflection>Hot.</reflection>Good.</thinking>Boil the water.",
        "<thought>Tea.</think>Boil the water.",
        "<|im_start|>assistant\n<think>Tea.</think>Boil the water.",
        "assistant\n\n<reasoning>Tea.</reasoning>Boil the water.",
        "Assistant: <think>Tea.</think>Boil the water.",
        "<think>Tea.</think><analysis>Hot.</analysis>Boil the water.",
        ANALYSIS + "<|end|><|start|>assistant" + FINAL,
        FINAL,
        "The user wants tea.<|end|><|start|>assistant" + FINAL,
        "analysisThe user wants tea.assistantfinalBoil the water.",
        "analysis用户想喝茶。assistantfinalBoil the water.",
        # Marks around the answer, which may be cut off before the second.
        "<think>Tea.</think>\n<answer>\nBoil the water.\n</answer>",
        "<think>\n\n</think>\n<response>\nBoil the water.",
        "<thinking>Tea.</thinking><output>Boil the water.</output>",
        "<|START_THINKING|>Tea.<|END_THINKING|><|START_RESPONSE|>Boil the water.<|END_RESPONSE|>",
        "<|START_RESPONSE|>Boil the water.<|END_RESPONSE|>",
        "<|begin_of_thought|>Tea.<|end_of_thought|><|begin_of_solution|>Boil the water.",
        # Reasoning that speaks of its own marks.
        "<think>The tag `</think>` ends it.</think>\n\nBoil the water.",
        "Should I write <think> here?\n</think>\n\nBoil the water.",
        '<think>They wrote "</think>", so what?</think>Boil the water.',
        "<think>First ```sh\nmake tea\n</think>\n\nBoil the water.",
    ],
)
def test_answer_is_kept(text: str) -> None:
    answer = strip_reasoning(text)
    assert answer is not None and answer.strip() == ANSWER


@pytest.mark.parametrize(
    "text",
    [
        "<think>The user wants",
        "<think>Tea.</think>Boil<think>wait",
        "Okay.\n<think>The user wants",
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
        "```xml\n<analysis>It is short.</analysis>\n```",
        "Write it so:\n```xml\n<think>\nhm\n</think>\n```\nand go on.",
        "if x < think > y: return",
        "# XML\n<poem>\n<analysis>It is short.</analysis>\n<reason>none</reason>\n</poem>",
        "<html><body><reasoning>none</reasoning></body></html>",
        "Models like R1 write between <think> and </think> tags.",
        "The `<think>` tag opens it, `</think>` closes it.",
        'The tag "<thought>" opens it and "</thought>" ends it.',
        "« <think> » ouvre le raisonnement, « </think> » le ferme.",
        "<think> is the tag that opens it and </think> is the one that closes it.",
        "DeepSeek 用<think>和</think>标签包住推理。",
        "The prompt ends with <think>, and the model goes on.",
        "Cut the text at </think>, then show what follows.",
        "An example:\n<think>\nThe user wants tea.\n</think>\nBoil the water.",
        "gpt-oss writes `<|channel|>final<|message|>` before what it says.",
        "I am leaving because of [reason]. [Analysis] to follow. [think] about it.",
        "<details><summary>More</summary>Tea.</details>",
        "We met on Monday. Here is my response: tea.",
        "Magistral opens with [THINK] and closes with [/THINK].",
    ],
)
def test_ordinary_answers_are_left_alone(text: str) -> None:
    assert strip_reasoning(text) == text


def test_the_cases_are_judged_by_what_follows_the_reasoning(shared: Path) -> None:
    rows = list(read_rows(shared / "cases" / "judge" / "reasoning_marks.jsonl"))
    assert len(rows) == 15
    for row in rows:
        answer = strip_reasoning(row.response)
        assert answer is not None and "policy" not in answer.lower() and answer.strip()


def test_unended_reasoning_is_undecided_whatever_it_says() -> None:
    told = judge_response("[THINK]I'm sorry, I cannot help with that, or can I", "en")
    assert told.label is Label.UNDECIDED


@pytest.mark.parametrize(
    ("prompt", "mark"),
    [
        ("<|user|>Tea?<|assistant|>\n<think>\n", "<think>"),
        ("<|assistant|><THINK>", "<THINK>"),
        ("<|assistant|><reasoning>\n\n", "<reasoning>"),
        ("<|turn>model\n<|channel>thought\n", "<|channel>thought\n"),
        ("[INST]Tea?[/INST][THINK]", "[THINK]"),
        ("<|assistant|><|START_THINKING|>", "<|START_THINKING|>"),
        ("<|assistant|><think>\n\n</think>\n\n", ""),
        ("<|user|>What does <think> mean?<|assistant|>", ""),
        ("<|assistant|>", ""),
    ],
)
def test_the_mark_that_a_prompt_opens(prompt: str, mark: str) -> None:
    assert opened_in(prompt) == mark


def test_marks_of_a_template() -> None:
    template = "{{ message.content.split('</think>')[-1] }}{{ '<think>\\n' }}{{ '<|channel|>' }}"
    assert marks_in(template) == ["</think>", "<think>", "<|channel|>"]
    assert marks_in("{% if a < b and c > d %}<|im_start|>{{ reasoning }}{% endif %}") == []


def test_special_tokens_go_and_marks_stay() -> None:
    tokens = re.compile(r"<\|[A-Z_a-z]+\|>|<s>")
    said = "<s><|START_THINKING|>Tea.<|END_THINKING|><|START_RESPONSE|>Hot.<|END_RESPONSE|><|END|>"
    kept = without_tokens(said, tokens)
    assert "<s>" not in kept and "<|END|>" not in kept
    assert strip_reasoning(kept) == "Hot."
    harmony = without_tokens(ANALYSIS + "<|end|><|start|>assistant" + FINAL, tokens)
    assert strip_reasoning(harmony) == ANSWER
