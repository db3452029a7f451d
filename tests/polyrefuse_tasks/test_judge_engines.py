"""The engine of judge models: batches say what single prompts say, by weights made here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from polyrefuse_tasks.judge_engines.engine import CannotJudge, Loading
from polyrefuse_tasks.judge_engines.loading import load
from polyrefuse_tasks.judge_engines.transformers_engine import TransformersEngine
from polyrefuse_tasks.judge_models.formats import Chat, Text
from tests.models import make_tokenizer, tiny

ARCHITECTURES = ("qwen2", "qwen3", "mistral", "llama", "gemma")
TEXTS = ["a", "some more words", "x" * 90, "words of another length", "b"]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: save(name, tmp_path_factory.mktemp(name)) for name in ARCHITECTURES}


def save(name: str, folder: Path, **settings: Any) -> Path:
    tokenizer = make_tokenizer()
    model = tiny(name, vocab_size=len(tokenizer), max_position_embeddings=256, **settings)
    # What a published judge may bring, and what may not decide its verdicts.
    model.generation_config.do_sample = True
    model.generation_config.temperature = 2.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_batch_says_what_each_prompt_says_alone(name: str, folder_of: dict[str, Path]) -> None:
    prompts = [Text(text) for text in TEXTS]
    alone = load(Loading(str(folder_of[name]), engine="transformers", batch_size=1))
    batched = load(Loading(str(folder_of[name]), engine="transformers", batch_size=3))
    expected = [alone.complete([prompt], 7)[0] for prompt in prompts]
    assert batched.complete(prompts, 7) == expected
    assert len(set(expected)) > 1
    assert expected == alone.complete(prompts, 7)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_one_token_is_one_forward_pass(
    name: str, folder_of: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(Loading(str(folder_of[name]), engine="transformers", batch_size=3))
    assert isinstance(engine, TransformersEngine)
    prompts = [Text(text) for text in TEXTS]
    two = engine.complete(prompts, 2)
    monkeypatch.setattr(engine.model, "generate", None)
    one = engine.complete(prompts, 1)
    assert all(
        longer is not None and shorter is not None and longer.startswith(shorter.rstrip("\ufffd"))
        for longer, shorter in zip(two, one, strict=True)
    )


def test_a_prompt_longer_than_the_context_is_no_verdict(folder_of: dict[str, Path]) -> None:
    engine = load(Loading(str(folder_of["llama"]), engine="transformers"))
    assert isinstance(engine, TransformersEngine)
    most = engine.model.config.max_position_embeddings
    short, fits, longer = "y", "x" * (most - 5), "x" * (most - 4)
    # One token a byte, and one of the beginning.
    found = engine.complete([Text(longer), Text(short), Text(fits, special_tokens=False)], 5)
    assert found[0] is None
    assert None not in found[1:]


def test_expected_numbers_are_those_of_a_single_pass(folder_of: dict[str, Path]) -> None:
    engine = load(Loading(str(folder_of["gemma"]), engine="transformers", batch_size=2))
    assert isinstance(engine, TransformersEngine)
    found = engine.expected_number([Text(text) for text in TEXTS], ["1", "2", "5"])
    for text, number in zip(TEXTS, found, strict=True):
        ids = engine.tokenizer(text, return_tensors="pt").input_ids
        tokens = [engine.tokenizer(one, add_special_tokens=False).input_ids[0] for one in "125"]
        with torch.no_grad():
            shares = engine.model(ids).logits[0, -1, tokens].double().softmax(-1)
        expected = float(shares @ torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64))
        assert number == pytest.approx(expected, abs=1e-5)


def test_contents_are_given_as_parts_where_a_template_wants_them(tmp_path: Path) -> None:
    """As Llama Guard 3 1B's template, which renders an empty conversation of plain texts."""
    from polyrefuse_tasks.judge_engines.rendering import token_ids

    parts = (
        "{% for message in messages %}{% for part in message.content "
        "if part.type == 'text' %}{{ part.text }}|{% endfor %}{% endfor %}"
    )
    chat = Chat([{"role": "user", "content": "why"}, {"role": "assistant", "content": "so"}])
    tokenizer = make_tokenizer(parts)
    assert tokenizer.decode(token_ids(tokenizer, chat)) == "why|so|"
    plain = make_tokenizer()
    assert "so" in plain.decode(token_ids(plain, chat))
    for broken in ("{{ messages[0].content }}", "{{ raise_exception('no') }}"):
        with pytest.raises(CannotJudge, match="cannot render what is to be judged"):
            token_ids(make_tokenizer(broken), chat)


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CannotJudge, match="cannot be loaded"):
        load(Loading(str(tmp_path / "nowhere"), engine="transformers"))


def test_the_revision_is_of_the_weights(folder_of: dict[str, Path], tmp_path: Path) -> None:
    first = load(Loading(str(folder_of["llama"]), engine="transformers")).revision
    again = load(Loading(str(folder_of["llama"]), engine="transformers", batch_size=2)).revision
    assert first == again
    other = save("llama", tmp_path / folder_of["llama"].name, rms_norm_eps=1e-3)
    assert load(Loading(str(other), engine="transformers")).revision != first
