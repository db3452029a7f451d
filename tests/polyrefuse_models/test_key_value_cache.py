"""One name of the key-value cache or the other, whichever the installed transformers has."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from transformers import DynamicCache, GenerationMixin, LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutput
from transformers.utils import ModelOutput

from polyrefuse_models import key_value_cache
from polyrefuse_models.anatomy import decoder
from polyrefuse_models.chat_model import ChatModel
from polyrefuse_models.directions.scores import SideBySide
from polyrefuse_models.key_value_cache import NEW, OLD, lent, shared_cache, with_cache
from polyrefuse_models.mcd.labels import sampled_answers
from polyrefuse_models.mcd.states import batch_states
from tests.conftest import ROOT
from tests.models import make_llama, make_tokenizer, tiny

IDS = torch.tensor([[3, 50, 60, 70, 80, 90]])
PROMPTS = ["What is a bench?", "What is a glimmerfish, and where?"]


def chat() -> ChatModel:
    model, tokenizer = make_llama(), make_tokenizer()

    def encode(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        batch = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
        return batch["input_ids"], batch["attention_mask"]

    return ChatModel(model, tokenizer, lambda prompt: f"<|user|>{prompt}<|end|>", encode, 4)


@torch.inference_mode()
def test_a_cache_goes_out_of_one_pass_and_into_the_next() -> None:
    model = make_llama()
    expected = model(IDS).logits[:, -1]
    for part in model, decoder(model):
        cache = shared_cache(part(IDS[:, :4], use_cache=True))
        assert isinstance(cache, DynamicCache)
        assert cache.get_seq_length() == 4
    logits = model(IDS[:, 4:], **with_cache(model, cache)).logits[:, -1]
    torch.testing.assert_close(logits, expected)


@torch.inference_mode()
def test_a_lent_cache_is_appended_to_and_the_own_one_stays() -> None:
    """Also of a window that is shorter than what is appended; nothing is copied for one."""
    for model in make_llama(), tiny("mistral", sliding_window=4):
        ids = IDS % 64
        own = shared_cache(model(ids[:, :4], use_cache=True))
        kept = [(layer.keys.clone(), layer.values.clone()) for layer in own.layers]
        assert lent(own).layers[0].keys is own.layers[0].keys
        expected = model(ids).logits[:, -1]
        for times in (1, 3, 1):
            rows = ids[:, 4:].repeat(times, 1)
            logits = model(rows, **with_cache(model, lent(own, times))).logits[:, -1]
            torch.testing.assert_close(logits, expected.expand(times, -1))
        assert own.get_seq_length() == 4
        for layer, (keys, values) in zip(own.layers, kept, strict=True):
            assert torch.equal(layer.keys, keys)
            assert torch.equal(layer.values, values)


@torch.inference_mode()
def test_generation_goes_on_from_a_cache() -> None:
    model = make_llama()
    expected = model.generate(IDS, max_new_tokens=4, do_sample=False)
    cache = shared_cache(model(IDS[:, :-1], use_cache=True))
    answer = model.generate(
        IDS, max_new_tokens=4, do_sample=False, **with_cache(model.generate, cache)
    )
    assert answer.tolist() == expected.tolist()
    assert cache.get_seq_length() == 9


def test_a_model_without_a_cache_has_none_to_share() -> None:
    assert shared_cache(CausalLMOutput(logits=IDS)) is None


def test_both_names_are_known() -> None:
    cache = DynamicCache()
    assert shared_cache({NEW: cache}) is cache  # type: ignore[arg-type]
    assert shared_cache({OLD: cache}) is cache  # type: ignore[arg-type]
    assert with_cache(lambda input_ids, cache: None, cache) == {NEW: cache}
    assert with_cache(lambda input_ids, past_key_values: None, cache) == {OLD: cache}


class Output(dict[str, Any]):
    """What a forward pass returns, its entries as attributes too, and none of another name."""

    __getattr__ = dict.__getitem__


def without_the_old_name(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a Llama as transformers 5.40 will have it, for those who call it from outside.

    A forward pass takes any keyword, so that a name that it does not know is lost without a word.
    """
    present = NEW if NEW in inspect.signature(LlamaForCausalLM.forward).parameters else OLD
    running = []

    def called(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if running:  # by another part of the model
            return function(*args, **kwargs)
        kwargs.pop(OLD, None)
        running.append(function)
        try:
            output = function(*args, **{present if k == NEW else k: v for k, v in kwargs.items()})
        finally:
            running.pop()
        if not isinstance(output, ModelOutput):
            return output
        return Output({NEW if key == present else key: value for key, value in output.items()})

    def later(function: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, cache: Any = None, **kwargs: Any) -> Any:
            given = {} if cache is None else {NEW: cache}
            return called(function, *args, **kwargs, **given)

        names = {**inspect.signature(function).parameters, **inspect.signature(forward).parameters}
        # `generate` refuses what is not here.
        forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            sorted((names[name] for name in names if name != "args"), key=lambda one: one.kind)
        )
        return forward

    prepare = GenerationMixin.prepare_inputs_for_generation

    def prepared(self: Any, input_ids: Any, *args: Any, cache: Any = None, **kwargs: Any) -> Any:
        given = {} if cache is None else {NEW: cache}
        return prepare(self, input_ids, *args, **kwargs, **given)

    monkeypatch.setattr(GenerationMixin, "prepare_inputs_for_generation", prepared)
    model.generate = partial(called, model.generate)
    model.forward, model.model.forward = later(model.forward), later(model.model.forward)


@torch.inference_mode()
def answers(model: ChatModel) -> list[Any]:
    """What each part that uses a cache gives."""
    directions = torch.eye(32)[:3]
    with SideBySide(model, directions, PROMPTS) as ablated:
        assert ablated._cache is not None
        logits = [logits for _, logits in ablated.passes()]
    return [
        batch_states(model, PROMPTS),
        *logits,
        sampled_answers(model, PROMPTS, answers=3, max_new_tokens=4, seed=1),
    ]


def test_what_uses_a_cache_is_the_same_without_the_old_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, later = chat(), chat()
    without_the_old_name(later.model, monkeypatch)
    output = later.model(IDS, use_cache=True)
    assert NEW in output
    assert OLD not in output
    for one, other in zip(answers(now), answers(later), strict=True):
        if torch.is_tensor(one):
            torch.testing.assert_close(one, other)
        else:
            assert one == other
    # What still used the old name would have lost its cache, and its head with it.
    cache = shared_cache(output)
    ends = [later.model(IDS[:, -1:], **{name: cache}).logits for name in (NEW, OLD)]
    assert not torch.allclose(*ends)


def test_nothing_else_in_the_package_names_the_cache() -> None:
    for folder in ROOT.glob("polyrefuse_*"):
        for path in folder.rglob("*.py"):
            if path.name == f"{key_value_cache.__name__.rpartition('.')[2]}.py":
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = (getattr(node, "attr", None), getattr(node, "arg", None))
                assert OLD not in names, f"{path}, line {node.lineno}: use key_value_cache"
