"""Continuous batching gives the answers of plain `generate`, with interventions in place."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import OfflineModeIsEnabled
from transformers import (
    PreTrainedModel,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation.continuous_batching.continuous_api import ContinuousBatchingManager
from transformers.utils import import_utils

from polyrefuse_models.interventions import Ablation, Addition, Intervention, SoftPrompt
from polyrefuse_models.interventions.orthogonalise import obstacle as why_hooks
from polyrefuse_models.neutral_generation import neutralise
from polyrefuse_models.wrappers import continuous, torch_flash
from polyrefuse_models.wrappers.continuous import (
    CannotPage,
    Decoding,
    Failed,
    Paged,
    Sampling,
    find_paged,
    gumbel,
    obstacle,
    scrambled,
)
from tests.models import WIDTH, make_llama, make_tokenizer, multimodal_gemma, tiny

PAGED = (
    *("llama", "qwen2", "qwen3", "qwen3_moe", "mistral", "mixtral", "phi3", "granite", "gpt_oss"),
    *("cohere2", "gpt_neox", "gemma3_text", "olmo2", "gpt2", "opt"),
)
"""What transformers pages, of the architectures that the tests build."""

TOKENS = 16
END = 1


@pytest.fixture(autouse=True)
def no_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers collects garbage twice a manager, which takes longer than what is tested."""
    monkeypatch.setattr(gc, "collect", lambda *_: 0)


def a_model(model_type: str) -> PreTrainedModel:
    # These have as many key-value heads as others, whatever the common settings say.
    own = {"num_key_value_heads": 4} if model_type in ("gpt2", "gpt_neox", "opt") else {}
    model = tiny(model_type, **own)
    neutralise(model)
    return model


def prompts(vocabulary: int = 64) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(2, vocabulary, (length,), generator=generator).tolist()
        for length in (3, 17, 30, 9)
    ]


def static(model: PreTrainedModel, asked: list[list[int]], tokens: int = TOKENS) -> list[list[int]]:
    """Each prompt by itself: no padding, no batch, transformers' own `generate`."""
    return [
        model.generate(
            torch.tensor([ids]), max_new_tokens=tokens, eos_token_id=END, pad_token_id=0
        )[0, len(ids) :].tolist()
        for ids in asked
    ]


def paged(
    model: PreTrainedModel, asked: list[list[int]], decoding: Decoding | None = None
) -> list[list[int]]:
    suppressed = tuple(model.generation_config.suppress_tokens or ())
    decoding = decoding or Decoding(TOKENS, (END,), suppressed)
    found = find_paged(model, asked[:3], decoding)
    answers = dict(found.answers(asked, decoding))
    return [answers[place] for place in range(len(asked))]


def direction() -> torch.Tensor:
    return torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))


def soft_prompt() -> SoftPrompt:
    vectors = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(2))
    return SoftPrompt(make_tokenizer(), vectors)


CONDITIONS: dict[str, Callable[[], list[Intervention]]] = {
    "baseline": list,
    "ablation by hooks": lambda: [Ablation(direction())],
    "ablation by weights": lambda: [Ablation(direction(), method="weights")],
    "addition": lambda: [Addition(direction(), 1, coefficient=2.0)],
    "soft prompt": lambda: [soft_prompt()],
    "soft prompt and ablation": lambda: [Ablation(direction()), soft_prompt()],
}


SAMPLED = ("llama", "gpt_oss", "gemma3_text", "opt")


@pytest.mark.parametrize(
    "model_type",
    [pytest.param(each, marks=[] if each in SAMPLED else [pytest.mark.slow]) for each in PAGED],
)
def test_answers_are_those_of_generate_under_every_condition(model_type: str) -> None:
    seen = {}
    for name, make in CONDITIONS.items():
        model = a_model(model_type)
        if name == "ablation by weights" and why_hooks(model) is not None:
            continue
        asked = prompts()
        for intervention in make():
            intervention.install(model)
            if isinstance(intervention, SoftPrompt):
                asked = [[*intervention.ids.tolist(), *ids] for ids in asked]
        expected = static(model, asked)
        if name == "baseline":
            assert paged(model, asked) == expected
        else:
            suppressed = tuple(model.generation_config.suppress_tokens or ())
            found = Paged(model, model.config._attn_implementation)
            answers = dict(found.answers(asked, Decoding(TOKENS, (END,), suppressed)))
            assert [answers[place] for place in range(len(asked))] == expected, name
        seen[name] = expected
    # What the test is worth: what was done to the model changed its answers.
    assert all(answers != seen["baseline"] for name, answers in seen.items() if name != "baseline")
    assert any(answer != other for answer in seen["baseline"] for other in seen["baseline"])


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("mamba", "MambaForCausalLM keeps a state"),
        ("recurrent_gemma", "RecurrentGemmaForCausalLM keeps a state"),
        ("qwen3_next", "Qwen3NextForCausalLM keeps a state"),
        ("gpt_neo", "the attention implementation of GPTNeoForCausalLM cannot be replaced"),
        ("bloom", "the attention implementation of BloomForCausalLM cannot be replaced"),
        ("mpt", "the attention implementation of MptForCausalLM cannot be replaced"),
    ],
)
def test_a_model_says_itself_that_it_cannot_be_paged(model_type: str, reason: str) -> None:
    assert reason in (obstacle(tiny(model_type)) or "")


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("lfm2", "transformers cannot page Lfm2ForCausalLM"),
        ("llama4_text", "transformers cannot page Llama4ForCausalLM"),
        ("gpt_bigcode", "transformers cannot page GPTBigCodeForCausalLM"),
        ("doge", "transformers cannot page DogeForCausalLM"),
    ],
)
def test_what_transformers_cannot_page_is_found_by_trying(model_type: str, reason: str) -> None:
    model = tiny(model_type)
    before = model.config._attn_implementation
    assert obstacle(model) is None
    with pytest.raises(CannotPage, match=reason):
        paged(model, prompts())
    assert model.config._attn_implementation == before


def test_a_model_that_ignores_the_paged_cache_is_found_by_trying() -> None:
    model = a_model("llama")

    def forget(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # What a layer with a state or a mask of its own does: it reads no paged cache.
        if kwargs.pop("cache", None) is not None:
            kwargs["attention_mask"] = None
        return args, kwargs

    for layer in model.model.layers:
        layer.self_attn.register_forward_pre_hook(forget, with_kwargs=True)
    with pytest.raises(CannotPage, match="LlamaForCausalLM answers . of 3 prompts differently"):
        paged(model, prompts())


def test_capped_attention_scores_are_not_paged_by_eager_attention() -> None:
    model = tiny("gemma2")
    model.set_attn_implementation("eager")
    with pytest.raises(CannotPage, match="Gemma2ForCausalLM caps attention scores"):
        paged(model, prompts())


def test_a_model_on_two_devices_is_not_paged() -> None:
    model = tiny("llama")
    model.hf_device_map = {"model.layers.0": 0, "model.layers.1": "cpu"}
    assert "spread over several devices" in (obstacle(model) or "")


def test_a_prompt_of_peft_is_not_paged_and_other_adapters_are() -> None:
    from peft import LoraConfig, PromptTuningConfig, get_peft_model

    tuned = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    assert "peft" in (obstacle(get_peft_model(tiny("llama"), tuned)) or "")
    plain = static(a_model("llama"), prompts())
    lora = get_peft_model(
        a_model("llama"), LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    ).eval()
    assert obstacle(lora) is None
    expected = static(lora.get_base_model(), prompts())
    assert expected != plain
    assert paged(lora, prompts()) == expected


# --- how answers end


def test_an_answer_ends_at_an_end_and_none_is_longer_than_asked() -> None:
    model = a_model("llama")
    (answer,) = static(model, prompts()[:1])
    end = answer[3]
    decoding = Decoding(TOKENS, (END, end))
    assert paged(model, prompts()[:1], decoding) == [answer[: answer.index(end) + 1]]
    assert {len(answer) for answer in paged(model, prompts(), Decoding(2))} == {2}


def test_an_answer_ends_where_it_is_told_to() -> None:
    model = a_model("llama")
    expected = static(model, prompts())
    decoding = Decoding(TOKENS, (END,), make_stop=lambda: lambda tokens: len(tokens) == 5)
    assert paged(model, prompts(), decoding) == [answer[:5] for answer in expected]


def test_suppressed_tokens_are_not_chosen_whether_or_not_they_have_logits() -> None:
    model = a_model("llama")
    first = sorted({answer[0] for answer in static(model, prompts())})
    suppressed = (*first, 9999)
    model.generation_config.suppress_tokens = list(suppressed)
    expected = static(model, prompts())
    assert not set(first) & {token for answer in expected for token in answer}
    assert paged(model, prompts()) == expected


# --- drawn answers


DRAWN = Sampling(1.3, 0, 1.0)


def drawn(
    model: PreTrainedModel, sampling: Sampling, asked: list[list[int]], seeds: list[int]
) -> list[list[int]]:
    decoding = Decoding(TOKENS, (END,), sampling=sampling)
    answers = dict(Paged(model, "sdpa").answers(asked, decoding, seeds))
    return [answers[place] for place in range(len(asked))]


def test_a_drawn_answer_depends_on_its_seed_and_not_on_its_company() -> None:
    model, asked, seeds = a_model("llama"), prompts(), [5, 2**31 - 1, 0, 77]
    answers = drawn(model, DRAWN, asked, seeds)
    assert answers != static(model, asked)
    alone = [drawn(model, DRAWN, [ids], [seed])[0] for ids, seed in zip(asked, seeds, strict=True)]
    assert alone == answers
    assert drawn(model, DRAWN, asked, [seed ^ 1 for seed in seeds]) != answers
    same = drawn(model, DRAWN, [asked[0]] * 8, list(range(8)))
    assert len(set(map(tuple, same))) == 8


@pytest.mark.parametrize(
    "sampling", [Sampling(0.001, 0, 1.0), Sampling(3.0, 1, 1.0), Sampling(3.0, 0, 1e-6)]
)
def test_each_setting_of_sampling_is_followed(sampling: Sampling) -> None:
    model = a_model("llama")
    assert drawn(model, sampling, prompts(), [1, 2, 3, 4]) == static(model, prompts())


def test_transformers_says_that_it_follows_them() -> None:
    for warper in (TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper):
        assert warper.supports_continuous_batching is True


def test_draws_have_the_probabilities_of_the_softmax() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, 0.5, -torch.inf])
    rows = 200_000
    keys = torch.arange(rows).unsqueeze(1)
    tokens = scrambled(torch.arange(6) ^ 12345)
    counts = (
        (logits + gumbel(scrambled(tokens ^ scrambled(keys)))).argmax(dim=1).bincount(minlength=6)
    )
    expected = logits.double().softmax(dim=0) * rows
    assert counts[5] == 0
    chi_square = ((counts - expected)[:5] ** 2 / expected[:5]).sum().item()
    assert chi_square < 18.5  # 4 degrees of freedom, one in a thousand


def test_scrambling_is_one_to_one_and_noise_is_finite() -> None:
    ends = torch.tensor([0, 1, 2**31 - 1, 2**31, 2**32 - 1])
    assert torch.isfinite(gumbel(ends)).all()
    some = torch.arange(2**18) * 16383 % 2**32
    assert scrambled(some).unique().numel() == some.unique().numel()
    assert scrambled(some).min() >= 0 and scrambled(some).max() < 2**32


# --- what is left behind


def state(model: PreTrainedModel) -> tuple[Any, ...]:
    return (
        [config._attn_implementation for config in continuous._configs(model)],
        torch.random.get_rng_state().tolist(),
        model.generation_config.to_dict(),
        torch.is_grad_enabled(),
    )


@pytest.mark.parametrize("model_type", ["llama", "gpt_oss"])
def test_the_model_and_chance_are_as_before(model_type: str) -> None:
    model = a_model(model_type)
    before, threads = state(model), set(threading.enumerate())
    paged(model, prompts())
    assert state(model) == before
    # Those of an earlier test may have ended meanwhile.
    assert set(threading.enumerate()) <= threads


def test_parts_of_a_model_keep_their_own_attention() -> None:
    model = multimodal_gemma()
    model.set_attn_implementation({"text_config": "eager", "vision_config": "sdpa"})
    before = [config._attn_implementation for config in continuous._configs(model)]
    with pytest.raises(RuntimeError), continuous._kept(model):
        model.set_attn_implementation("sdpa")
        raise RuntimeError
    assert [config._attn_implementation for config in continuous._configs(model)] == before


def test_whoever_stops_asking_leaves_nothing_running() -> None:
    model = a_model("llama")
    before = state(model)
    decoding = Decoding(2000)
    short = Decoding(TOKENS, (END,))
    with closing(Paged(model, "sdpa").answers(prompts(), short)) as answers:
        next(answers)
    with closing(Paged(model, "sdpa").answers(prompts(), decoding)):
        pass
    assert state(model) == before


def fails_at(model: PreTrainedModel, number: int) -> Iterator[int]:
    """Have that forward pass fail, counted from 0."""
    passes = iter(range(number, -1, -1))

    def fail(*_: Any) -> None:
        if next(passes, 1) == 0:
            raise RuntimeError("CUDA out of memory, for example.\nTried to allocate")

    model.register_forward_pre_hook(fail)
    return passes


@pytest.mark.parametrize("number", [0, 7])
def test_a_failure_on_transformers_thread_is_raised_here(number: int) -> None:
    model = a_model("llama")
    before = state(model)
    fails_at(model, number)
    sentence = (
        "transformers' continuous batching failed: CUDA out of memory, for example; "
        "give batching=static."
    )
    with pytest.raises(Failed) as raised:
        list(Paged(model, "sdpa").answers(prompts(), Decoding(TOKENS, (END,))))
    assert str(raised.value) == sentence
    assert state(model) == before


def test_what_torch_cannot_do_when_a_manager_stops_is_raised_as_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = a_model("llama")

    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(ContinuousBatchingManager, "destroy", fail)
    with pytest.raises(Failed, match="illegal memory access was encountered; give batching=static"):
        list(Paged(model, "sdpa").answers(prompts(), Decoding(2)))


@pytest.mark.parametrize(
    ("attention", "sampling", "asked", "most"),
    [("flash_attention_3", None, 4, 4), ("flash_attention_3", None, 5000, 1024)]
    + [("kernels-community/flash-attn2", None, 200, 200), ("flash_attention_2", DRAWN, 200, 128)]
    + [("sdpa", None, 200, 128), ("sdpa", None, 3, 3)],
)
def test_no_more_answers_at_a_time_than_are_asked_for(
    attention: str, sampling: Sampling | None, asked: int, most: int
) -> None:
    paged = Paged(a_model("llama"), attention, graphs=True)
    config = continuous._config(paged, [[5]] * asked, Decoding(2, sampling=sampling))
    assert config.max_requests_per_batch == most


def test_paged_passes_are_without_cudnn_attention() -> None:
    model, cuda = a_model("llama"), torch.backends.cuda
    before, on = cuda.cudnn_sdp_enabled(), []
    cuda.enable_cudnn_sdp(True)
    model.register_forward_pre_hook(lambda *_: on.append(cuda.cudnn_sdp_enabled()))
    try:
        list(Paged(model, "sdpa").answers(prompts(), Decoding(2)))
        assert cuda.cudnn_sdp_enabled()
    finally:
        cuda.enable_cudnn_sdp(before)
    assert len(on) > 1 and not any(on)


# --- kernels of the hub


def test_a_kernel_of_the_hub_is_tried_and_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """To ask transformers whether it has one makes the `kernels` package download it."""
    kernels = ModuleType("kernels")
    kernels.get_kernel = lambda *_, **__: pytest.fail("downloaded")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kernels", kernels)
    monkeypatch.setattr(import_utils, "is_kernels_available", lambda *_, **__: True)
    model = SimpleNamespace(
        dtype=torch.bfloat16,
        device=torch.device("cuda"),
        _supports_flash_attn=True,
        config=SimpleNamespace(_attn_implementation="sdpa", get_text_config=lambda: None),
    )
    for has, ways in (
        (False, [*OF_TORCH, ("sdpa", False)]),
        (True, [*FLASH, *OF_TORCH, ("sdpa", False)]),
    ):
        monkeypatch.setattr(continuous, "is_kernels_available", lambda has=has: has)
        found = continuous._ways(model, True)  # type: ignore[arg-type]
        assert [(way.attention, way.graphs) for way in found] == ways
    model.config._attn_implementation = "kernels-community/flash-attn2"
    found = continuous._ways(model, False)  # type: ignore[arg-type]
    assert [(way.attention, way.graphs, way.masked) for way in found] == [
        ("kernels-community/flash-attn2", True, False),
        ("kernels-community/flash-attn2", False, False),
    ]


OF_TORCH = [("torch_flash", graphs) for graphs in (True, False) if torch_flash.register()]
FLASH = [(f"flash_attention_{version}", graphs) for version in (3, 2) for graphs in (True, False)]


@pytest.mark.parametrize(("own", "offline"), [("sdpa", True), ("eager", False)])
def test_nothing_is_downloaded_for_attention_that_nobody_named(
    monkeypatch: pytest.MonkeyPatch, own: str, offline: bool
) -> None:
    model = a_model("llama")
    model.set_attn_implementation(own)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    exchange, refused = model.set_attn_implementation, []

    def download(name: str) -> None:
        try:
            HfApi(endpoint="http://127.0.0.1:9").model_info("kernels-community/flash-attn2")
        except OfflineModeIsEnabled:
            refused.append(True)
        except Exception:  # nobody answers
            refused.append(False)
        exchange(name)

    monkeypatch.setattr(model, "set_attn_implementation", download)
    assert len(dict(Paged(model, "eager").answers(prompts(), Decoding(2)))) == 4
    assert refused[0] is offline
    assert constants.HF_HUB_OFFLINE is False


def test_inference_mode_is_no_hindrance() -> None:
    model = a_model("llama")
    expected = static(model, prompts())
    with torch.inference_mode():
        assert paged(model, prompts()) == expected


def test_more_answers_than_rows_and_blocks_than_the_cache_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(continuous, "ROWS", 3)
    monkeypatch.setattr(continuous, "PASS", 8)
    model = make_llama()
    neutralise(model)
    asked = [ids[: 2 + i % 5] for i, ids in enumerate(prompts(260) * 4)]
    assert paged(model, asked) == static(model, asked)
