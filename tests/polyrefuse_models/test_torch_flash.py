"""torch's flash kernel over the paged cache: what it is handed.

It is for CUDA alone. Here a loop over answers in float64 stands in for it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from polyrefuse_models.interventions import SoftPrompt
from polyrefuse_models.neutral_generation import neutralise
from polyrefuse_models.wrappers import torch_flash
from polyrefuse_models.wrappers.continuous import Decoding, Failed, Paged
from tests.models import tiny
from tests.polyrefuse_models.test_continuous import (
    CONDITIONS,
    END,
    TOKENS,
    prompts,
    static,
)

varlen = pytest.importorskip("torch.nn.attention.varlen", reason="torch has it from 2.10 on")
if "window_size" not in inspect.signature(varlen.varlen_attn).parameters:
    pytest.skip("torch's kernel knows windows from 2.11 on", allow_module_level=True)


def by_answer(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    begins: torch.Tensor,
    key_begins: torch.Tensor,
    longest: int,
    longest_key: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
) -> torch.Tensor:
    """softmax(q k^T scale) v of each answer, whose last token sees all its keys, in float64."""
    answer = torch.full_like(query, torch.nan)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    left, right = window_size
    assert right == 0
    spans = zip(begins.tolist(), begins[1:].tolist(), strict=False)
    key_spans = zip(key_begins.tolist(), key_begins[1:].tolist(), strict=False)
    for (start, end), (key_start, key_end) in zip(spans, key_spans, strict=True):
        assert end - start <= longest and key_end - key_start <= longest_key
        q, k, v = query[start:end], key[key_start:key_end], value[key_start:key_end]
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        scores = torch.einsum("qhc,khc->hqk", q.double(), k.double()) * scale
        places = torch.arange(len(k))
        own = places[len(k) - len(q) :, None]
        seen = (places <= own) & ((left < 0) | (places >= own - left))
        weights = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)
        answer[start:end] = torch.einsum("hqk,khc->qhc", weights, v.double()).to(query.dtype)
    return answer


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    assert torch_flash.register()
    made: list[tuple[int, int]] = []

    def counted(*tensors: Any, **settings: Any) -> torch.Tensor:
        made.append(settings["window_size"])
        return by_answer(*tensors, **settings)

    monkeypatch.setattr(torch_flash, "kernel", counted)
    return made


WINDOW = 5
MIXED = {
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
MODELS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "mistral": {"sliding_window": WINDOW},
    "phi3": {"sliding_window": WINDOW},
    "gemma3_text": MIXED,
    "cohere2": MIXED,
}


@pytest.mark.parametrize("model_type", MODELS)
@pytest.mark.parametrize("condition", ["baseline", "ablation by hooks", "soft prompt"])
def test_answers_are_those_of_generate(
    calls: list[tuple[int, int]], model_type: str, condition: str
) -> None:
    model, asked = tiny(model_type, **MODELS[model_type]), prompts()
    neutralise(model)
    for intervention in CONDITIONS[condition]():
        intervention.install(model)
        if isinstance(intervention, SoftPrompt):
            asked = [[*intervention.ids.tolist(), *ids] for ids in asked]
    expected = static(model, asked)
    suppressed = tuple(model.generation_config.suppress_tokens or ())
    decoding = Decoding(TOKENS, (END,), suppressed)
    answers = dict(Paged(model, torch_flash.NAME).answers(asked, decoding))
    assert [answers[place] for place in range(len(asked))] == expected
    full, window = (-1, 0), (WINDOW - 1, 0)
    of_layers = {"mistral": {window}, "phi3": {window}}
    assert set(calls) == of_layers.get(model_type, {full, window} if MODELS[model_type] else {full})
    assert model.config._attn_implementation == "sdpa"


def test_a_window_that_is_one_token_too_wide_would_be_seen(
    calls: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, kernel = tiny("mistral", sliding_window=WINDOW), torch_flash.kernel
    neutralise(model)

    def wider(*tensors: Any, window_size: tuple[int, int], **settings: Any) -> torch.Tensor:
        return kernel(*tensors, window_size=(window_size[0] + 1, 0), **settings)

    expected = static(model, prompts())
    monkeypatch.setattr(torch_flash, "kernel", wider)
    answers = dict(Paged(model, torch_flash.NAME).answers(prompts(), Decoding(TOKENS, (END,))))
    assert [answers[place] for place in range(4)] != expected


def test_torch_has_a_kernel_that_takes_what_it_is_handed(monkeypatch: pytest.MonkeyPatch) -> None:
    torch_has = inspect.signature(varlen.varlen_attn)
    handed: list[inspect.BoundArguments] = []

    @functools.wraps(varlen.varlen_attn)
    def see(*tensors: Any, **settings: Any) -> torch.Tensor:
        handed.append(torch_has.bind(*tensors, **settings))
        return tensors[0]

    monkeypatch.setattr(varlen, "varlen_attn", see)
    heads, begins = torch.empty(5, 4, 8), torch.tensor([0, 2, 5])
    torch_flash.kernel(
        heads, heads[:, :2], heads[:, :2], begins, begins, 3, 3, scale=None, window_size=(-1, 0)
    )
    (call,) = handed
    assert call.arguments["window_size"] == (-1, 0)  # what the kernel reads as causal
    assert call.arguments.get("enable_gqa", True) is True
    assert ("enable_gqa" in torch_has.parameters) == ("enable_gqa" in call.arguments)


@pytest.mark.parametrize(("model_type", "changed"), [("gemma2", "softcap"), ("gpt_oss", "s_aux")])
def test_scores_that_the_kernel_does_not_know_are_refused(
    calls: list[tuple[int, int]], model_type: str, changed: str
) -> None:
    model = tiny(model_type)
    with pytest.raises(
        Failed, match=f"torch's flash kernel does not support the layer's {changed}"
    ):
        list(Paged(model, torch_flash.NAME).answers(prompts(), Decoding(2)))
    assert not calls


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What `register` found, for the length of a test."""
    torch_flash.register.cache_clear()
    yield
    torch_flash.register.cache_clear()


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("lacks", ["the module", "windows"])
def test_a_torch_without_the_kernel_registers_nothing(
    monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    if lacks == "the module":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    else:
        monkeypatch.setattr(varlen, "varlen_attn", lambda query, is_causal=False: query)
    registered: list[str] = []
    monkeypatch.setattr(
        torch_flash.AttentionInterface, "register", lambda name, _: registered.append(name)
    )
    assert torch_flash.register() is False and not registered
