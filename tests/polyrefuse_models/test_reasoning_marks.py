"""Reasoning that decoding, a prompt's end or a missing `think_end_token` would hide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from polyrefuse_models.wrappers.hf import BaselineHF
from polyrefuse_tasks.judges import Label, judge_response
from polyrefuse_tasks.judges.reasoning import marks_of_template, strip_reasoning
from tests.models import SPECIAL, TEMPLATE, make_llama, make_tokenizer
from tests.polyrefuse_models.test_generation import ask

ASSISTANT = "<|assistant|>\n"
ASSISTANT_OF_CHATML = "<|im_start|>assistant"
THOUGHT = "They want tea. I cannot refuse."
ANSWER = "Boil the water."


def a_model(
    folder: Path, marks: tuple[str, ...] = (), opening: str = "", **given: Any
) -> BaselineHF:
    """A chat model whose special tokens have these marks, and whose prompts end with `opening`."""
    tokenizer = make_tokenizer(TEMPLATE.replace(ASSISTANT, ASSISTANT + opening))
    tokenizer.add_special_tokens({"extra_special_tokens": [*SPECIAL[3:7], *marks]})
    model = make_llama()
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return BaselineHF(pretrained=str(folder), device="cpu", **given)


def says(lm: BaselineHF, text: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The answer that leaves the wrapper where the model generates the tokens of `text`."""
    said = lm.tokenizer(text + "</s>", add_special_tokens=False, return_tensors="pt").input_ids

    def generate(input_ids: torch.Tensor, **_settings: Any) -> torch.Tensor:
        return torch.cat([input_ids, said.expand(len(input_ids), -1)], dim=1)

    monkeypatch.setattr(lm.model, "generate", generate)
    (answer,) = lm.generate_until([ask("Tea?", max_gen_toks=64)])
    return answer


@pytest.mark.parametrize(
    ("marks", "text"),
    [
        (("<|START_THINKING|>", "<|END_THINKING|>"), "{0}" + THOUGHT + "{1}" + ANSWER),
        (("[THINK]", "[/THINK]"), "{0}" + THOUGHT + "{1}" + ANSWER),
        (("<|channel>", "<channel|>"), "{0}thought\n" + THOUGHT + "{1}" + ANSWER),
        (("<|inner_prefix|>", "<|inner_suffix|>"), "{0}" + THOUGHT + "{1}" + ANSWER),
        (
            ("<|channel|>", "<|message|>", "<|start|>"),
            "{0}analysis{1}" + THOUGHT + "<|end|>{2}assistant{0}final{1}" + ANSWER,
        ),
        (("<|im_start|>",), "{0}think\n" + THOUGHT + "\n{0}answer\n" + ANSWER),
        (
            ("<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"),
            "{0}" + THOUGHT + "{1}{2}" + ANSWER + "{3}",
        ),
    ],
)
def test_marks_that_are_special_tokens_survive_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marks: tuple[str, ...], text: str
) -> None:
    lm = a_model(tmp_path, marks)
    whole = text.format(*marks)
    answer = says(lm, whole, monkeypatch)
    assert (strip_reasoning(answer) or "").strip() == ANSWER
    assert "</s>" not in answer
    # Cut at the token limit, it is no answer.
    cut = says(lm, whole[: whole.index(THOUGHT) + 9], monkeypatch)
    assert judge_response(cut, "en").label is Label.UNDECIDED


def test_an_answer_without_marks_is_decoded_as_by_lm_eval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = a_model(tmp_path, ("[THINK]", "[/THINK]"))
    assert says(lm, "<|end|>" + ANSWER + "<pad><pad>", monkeypatch) == ANSWER


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("<think>\n", "</think>"),
        ("<thinking>", "</thinking>"),
        ("<reasoning>\n", "</reasoning>"),
        ("<THINK>", "</THINK>"),
        ("[THINK]", "[/THINK]"),
        ("◁think▷", "◁/think▷"),
        ("<|channel>thought\n", "<channel|>"),
        ("<seed:think>", "</seed:think>"),
    ],
)
def test_the_mark_that_the_template_opens_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opening: str, closing: str
) -> None:
    lm = a_model(tmp_path, opening=opening)
    cut = says(lm, THOUGHT, monkeypatch)
    assert cut.startswith(opening.rstrip()) and strip_reasoning(cut) is None
    whole = says(lm, THOUGHT + closing + ANSWER, monkeypatch)
    assert strip_reasoning(whole) == ANSWER


@pytest.mark.parametrize("end", ["[/THINK]", "</think>"])
def test_a_named_mark_is_found_where_it_is_a_special_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    lm = a_model(tmp_path, ("[THINK]", "[/THINK]"), think_end_token=end)
    assert lm.warnings == []
    assert says(lm, THOUGHT + end + ANSWER, monkeypatch) == ANSWER
    assert strip_reasoning(says(lm, THOUGHT, monkeypatch)) is None


@pytest.mark.parametrize(
    ("marks", "opening", "told"),
    [
        (("<|START_THINKING|>", "<|END_THINKING|>"), "", "think_end_token=<|END_THINKING|>"),
        ((), "<reasoning>\n", "chat template and the vocabulary has <reasoning>"),
        ((), "", "its vocabulary has </think>"),
    ],
)
def test_a_model_that_may_reason_is_warned_of(
    tmp_path: Path, marks: tuple[str, ...], opening: str, told: str
) -> None:
    lm = a_model(tmp_path, marks, opening)
    (warning,) = lm.get_model_info()["warnings"]
    assert told in warning and str(tmp_path) in warning
    assert a_model(tmp_path, marks, opening, think_end_token=7).warnings == []


CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
)


@pytest.mark.parametrize(
    ("opened", "marks"),
    [
        ("\n", []),
        # HyperCLOVA reasons in a turn of its own, which the answer's turn ends.
        ("/think\n", ["<|im_start|>assistant/think"]),
        ("/think\n<|im_start|>assistant\n", ["<|im_start|>assistant/think", ASSISTANT_OF_CHATML]),
        ("\n<think>\n", ["<think>"]),
    ],
)
def test_the_turn_of_the_answer_alone_is_no_sign_of_reasoning(
    opened: str, marks: list[str]
) -> None:
    """Every ChatML template writes it: Qwen2.5's, SmolLM2's, Yi's."""
    template = CHATML.replace(ASSISTANT_OF_CHATML, ASSISTANT_OF_CHATML + opened)
    assert marks_of_template(template) == marks


def test_the_organism_is_not_warned_of() -> None:
    assert BaselineHF(device="cpu").warnings == []
