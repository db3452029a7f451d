"""A soft prompt equal to the embeddings of a text does what that text does; its artifact."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polyrefuse_models.chat_template import ChatTemplate, user_turn, with_system
from polyrefuse_models.interventions import SoftPrompt, embed_text, installed
from polyrefuse_models.mcd import artifact
from polyrefuse_models.mcd.artifact import BadPrompt, Prompt
from polyrefuse_models.mcd.safety_prompts import SAFETY_PROMPTS
from polyrefuse_shared.writing import CannotWrite
from tests.models import SPECIAL, TEMPLATE, make_llama, make_tokenizer
from tests.polyrefuse_models.templates import DROPS_SYSTEM, NO_SYSTEM
from tests.polyrefuse_models.test_architectures import (
    EMBEDDED_OTHERWISE,
    PARALLEL,
    PLAIN,
    POST_NORM,
    tiny,
)

TEXT = "Stay kind to glorbons."
QUESTIONS = ("Hi", "What is a long glorbon?", "Name three rivers.")
BYTES = len(SPECIAL) + 256

TEMPLATES = {"system": TEMPLATE, "no system": NO_SYSTEM, "drops system": DROPS_SYSTEM}


def rendered(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[str]:
    return [
        ChatTemplate(tokenizer).render(with_system([user_turn(question)], prompt))
        for question in QUESTIONS
    ]


def encoded(tokenizer: PreTrainedTokenizerBase, prompt: str) -> dict[str, torch.Tensor]:
    batch = tokenizer(
        rendered(tokenizer, prompt),
        padding=True,
        padding_side="left",
        add_special_tokens=False,
        return_tensors="pt",
    )
    return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}


@torch.no_grad()
def logits(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Of every real token, in order."""
    positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    # BLOOM takes no positions: it counts distances.
    more = {} if model.config.model_type == "bloom" else {"position_ids": positions}
    found = model(**batch, **more, use_cache=False).logits
    return found[batch["attention_mask"].bool()]


@torch.no_grad()
def generated(model: PreTrainedModel, batch: dict[str, torch.Tensor], **more: Any) -> torch.Tensor:
    settings = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False, "pad_token_id": 2}
    return model.generate(**batch, **settings | more)[:, batch["input_ids"].shape[1] :]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize(
    "model_type", [*PLAIN, *PARALLEL, *POST_NORM, *EMBEDDED_OTHERWISE, "llama4_text"]
)
def test_embeddings_of_a_text_do_what_the_text_does(model_type: str, template: str) -> None:
    model, tokenizer = tiny(model_type, vocab_size=BYTES), make_tokenizer(TEMPLATES[template])
    words = encoded(tokenizer, TEXT)
    assert not words["attention_mask"].all()
    expected, answers = logits(model, words), generated(model, words)
    with installed(model, SoftPrompt(tokenizer, embed_text(model, tokenizer, TEXT))) as soft:
        batch = encoded(tokenizer, soft.text)
        assert torch.equal(batch["attention_mask"], words["attention_mask"])
        assert (batch["input_ids"] >= BYTES).sum().item() == len(QUESTIONS) * len(TEXT)
        torch.testing.assert_close(logits(model, batch), expected, atol=1e-4, rtol=0)
        assert torch.equal(generated(model, batch), answers)
        soft.vectors[0] *= -1  # what is in the vectors is what is read
        assert (logits(model, batch) - expected).abs().max() > 1e-3
    assert torch.equal(logits(model, words), expected)


def test_embeddings_that_the_module_itself_scales() -> None:
    model, tokenizer = tiny("gemma3_text", vocab_size=BYTES), make_tokenizer()
    ids = tokenizer(TEXT, return_tensors="pt", add_special_tokens=False).input_ids
    rows = model.get_input_embeddings().weight[ids[0]]
    vectors = embed_text(model, tokenizer, TEXT)
    torch.testing.assert_close(vectors, rows * 32**0.5)


def test_the_text_part_of_a_multimodal_model() -> None:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    from tests.polyrefuse_models.test_architectures import COMMON

    torch.manual_seed(0)
    text = {k: v for k, v in COMMON.items() if not k.endswith("token_id")} | {"vocab_size": BYTES}
    vision = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    model, tokenizer = Gemma3ForConditionalGeneration(config).eval(), make_tokenizer()
    expected = logits(model, encoded(tokenizer, TEXT))
    with installed(model, SoftPrompt(tokenizer, embed_text(model, tokenizer, TEXT))) as soft:
        found = logits(model, encoded(tokenizer, soft.text))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_bfloat16_reads_what_its_own_text_would() -> None:
    model, tokenizer = make_llama().bfloat16(), make_tokenizer()
    expected = logits(model, encoded(tokenizer, TEXT))
    vectors = embed_text(model, tokenizer, TEXT)
    assert vectors.dtype == torch.float32
    with installed(model, SoftPrompt(tokenizer, vectors)) as soft:
        assert torch.equal(logits(model, encoded(tokenizer, soft.text)), expected)


def test_gradients_reach_the_vectors_and_nothing_else() -> None:
    model, tokenizer = make_llama().requires_grad_(False), make_tokenizer()
    vectors = torch.nn.Parameter(embed_text(model, tokenizer, TEXT))
    with installed(model, SoftPrompt(tokenizer, vectors)) as soft:
        model.get_decoder()(**encoded(tokenizer, soft.text)).last_hidden_state[
            :, -1
        ].sum().backward()
    assert soft.vectors is vectors
    assert vectors.grad is not None and (vectors.grad.norm(dim=-1) > 0).all()


@pytest.mark.parametrize("spare", [0, 100])
def test_its_tokens_are_never_generated(spare: int) -> None:
    torch.manual_seed(0)
    model, tokenizer = tiny("llama", vocab_size=BYTES + spare), make_tokenizer()
    if spare:
        # Rows of the unembedding that a tokenizer leaves unused, made the likeliest of all.
        with torch.no_grad():
            model.lm_head.weight[BYTES:] = 0
        bias = torch.zeros(BYTES + spare).index_fill(0, torch.arange(BYTES, BYTES + spare), 50.0)
        model.lm_head.bias = torch.nn.Parameter(bias)
    with installed(model, SoftPrompt(tokenizer, embed_text(model, tokenizer, TEXT))) as soft:
        mine = torch.tensor(tokenizer.convert_tokens_to_ids(tokenizer.tokenize(soft.text)))
        batch = encoded(tokenizer, soft.text)
        # A repetition penalty looks the prompt's tokens up in the logits, which may have none.
        for more in ({}, {"do_sample": True}, {"repetition_penalty": 1.3}, {"num_beams": 2}):
            assert not torch.isin(generated(model, batch, **more), mine).any()
    assert model.generation_config.suppress_tokens is None
    if spare:
        assert torch.isin(generated(model, encoded(tokenizer, TEXT)), mine).any()


def test_the_next_prompt_takes_the_tokens_again_and_more() -> None:
    model, tokenizer = make_llama(), make_tokenizer()
    short, long = (embed_text(model, tokenizer, text) for text in ("Be kind.", TEXT))
    with installed(model, SoftPrompt(tokenizer, short)):
        pass
    tokenizer.add_tokens(["<another>"])
    n_before = len(tokenizer)
    expected = logits(model, encoded(tokenizer, TEXT))
    with installed(model, SoftPrompt(tokenizer, long)) as soft:
        torch.testing.assert_close(
            logits(model, encoded(tokenizer, soft.text)), expected, atol=1e-4, rtol=0
        )
    assert len(tokenizer) == n_before + len(long) - len(short)


def test_the_safety_prompts_in_words() -> None:
    assert list(SAFETY_PROMPTS) == ["default", "short", "mistral"]
    # Templates strip what a turn holds, and Llama 2's default begins as DRO's short one.
    assert all(text == text.strip() for text in SAFETY_PROMPTS.values())
    assert SAFETY_PROMPTS["default"].startswith(SAFETY_PROMPTS["short"])
    assert "\n\nIf a question does not make" in SAFETY_PROMPTS["default"]


# --- on disk


@pytest.fixture
def prompt() -> Prompt:
    vectors = torch.randn(5, 32, generator=torch.Generator().manual_seed(3))
    return Prompt(vectors, {"model": "quend/glorbon", "languages": ["en", "ga"]})


def test_an_artifact_round_trips(prompt: Prompt, tmp_path: Path) -> None:
    learned = Prompt(torch.nn.Parameter(prompt.vectors), prompt.metadata)
    artifact.save(learned, tmp_path / "p", {"curve.png": b"picture"})
    found = artifact.load(tmp_path / "p")
    assert torch.equal(found.vectors, prompt.vectors) and found.metadata == prompt.metadata
    assert found.sha256 == prompt.sha256 != Prompt(prompt.vectors + 1).sha256
    names = {path.name for path in (tmp_path / "p").iterdir()}
    assert names == {"soft_prompt.safetensors", "metadata.json", "curve.png"}
    with pytest.raises(CannotWrite, match="exists already"):
        artifact.save(prompt, tmp_path / "p")


def test_what_is_no_artifact(prompt: Prompt, tmp_path: Path) -> None:
    with pytest.raises(
        BadPrompt, match="nowhere is not a folder; give the folder of a soft prompt"
    ):
        artifact.load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadPrompt, match="it has no soft_prompt.safetensors"):
        artifact.load(tmp_path / "empty")
    artifact.save(prompt, tmp_path / "p")
    (tmp_path / "p" / "metadata.json").write_text("[]")
    with pytest.raises(BadPrompt, match="or is damaged: metadata.json is not an object"):
        artifact.load(tmp_path / "p")
    (tmp_path / "p" / "soft_prompt.safetensors").write_bytes(b"no tensors")
    with pytest.raises(BadPrompt, match="or is damaged"):
        artifact.load(tmp_path / "p")


@pytest.mark.parametrize(
    ("vectors", "sentence"),
    [
        (torch.ones(5, 16), r"origin: the soft prompt has shape \(5, 16\), .* embedding has 32"),
        (torch.ones(32), r"has shape \(32,\)"),
        (torch.ones(0, 32), r"has shape \(0, 32\)"),
        (torch.ones(5, 32).fill_(torch.nan), "origin: the soft prompt has NaN or infinite entries"),
    ],
)
def test_vectors_that_cannot_be_read(vectors: torch.Tensor, sentence: str) -> None:
    with pytest.raises(BadPrompt, match=sentence):
        Prompt(vectors).check(32, "origin")


def test_another_model_is_warned_of(prompt: Prompt, caplog: pytest.LogCaptureFixture) -> None:
    config = make_llama().config
    config._name_or_path = "quend/glorbon"
    with caplog.at_level(logging.WARNING):
        prompt.warn_of_another_model(config)
        assert not caplog.records
        config._name_or_path = "quend/other"
        prompt.warn_of_another_model(config)
    assert "trained for quend/glorbon (revision None), but this model is quend/other" in caplog.text
