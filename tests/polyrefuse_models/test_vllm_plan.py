"""What vLLM's workers are told to do, looked at without vLLM: `tests/vllm` runs them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from polyrefuse_models.interventions import Ablation, Addition, SystemText
from polyrefuse_models.interventions.orthogonalise import orthogonalise, project
from polyrefuse_models.stand_in import stand_in
from polyrefuse_models.vllm_engine.arguments import engine_arguments, refuse_unusable
from polyrefuse_models.vllm_engine.checkpoint import tied_tensors, written_tensors
from polyrefuse_models.vllm_engine.plan import Hook, NotInVllm, Plan, plan_of, refusal, refuse
from polyrefuse_shared.errors import UserError
from tests.models import WIDTH, tiny

EXACT: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3_moe": {},
    "mixtral": {},
    "gpt_oss": {},
    "granite": {"tie_word_embeddings": True},
    "gpt_neox": {},
    "cohere": {},
    "gemma": {},
    "mamba2": {},
}
"""Architectures that weights are exact in: biases, ties, experts stacked in both orientations."""
DIRECTION = torch.randn(WIDTH, generator=torch.Generator().manual_seed(11))
IDS = torch.tensor([[5, 6, 7, 8, 9]])


@pytest.mark.parametrize("name", EXACT)
def test_the_checkpoint_s_tensors_ablate_as_the_model_s(name: str, tmp_path: Path) -> None:
    """What the loader does to a stream of tensors, against `orthogonalise` on the model."""
    model = tiny(name, **EXACT[name])
    model.save_pretrained(tmp_path)
    plan = plan_of([Ablation(DIRECTION, method="weights")], stand_in(model.config))
    tensors = load_file(tmp_path / "model.safetensors")
    assert plan.writes.keys() <= tensors.keys()
    config = model.config
    if plan.tied is not None:
        embedding, head = plan.tied
        tensors[head] = tensors[embedding].clone()
        config.tie_word_embeddings = False
    for written, dim in plan.writes.items():
        project(tensors[written], plan.unit, dim)
    streamed: Any = type(model).from_pretrained(None, config=config, state_dict=tensors).eval()
    orthogonalise(model, DIRECTION)
    with torch.inference_mode():
        expected, found = model(input_ids=IDS).logits, streamed(input_ids=IDS).logits
        untouched = tiny(name, **EXACT[name])(input_ids=IDS).logits
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, untouched, atol=1e-3)


def test_tied_tensors_are_named() -> None:
    assert tied_tensors(tiny("qwen2", tie_word_embeddings=True)) == (
        "model.embed_tokens.weight",
        "lm_head.weight",
    )
    assert tied_tensors(tiny("qwen2", tie_word_embeddings=False)) is None


def test_experts_are_named_as_the_checkpoint_has_them() -> None:
    written = written_tensors(stand_in(tiny("qwen3_moe").config))
    assert written["model.layers.1.mlp.experts.3.down_proj.weight"] == 0
    assert written["model.layers.0.self_attn.o_proj.weight"] == 0
    assert written["model.embed_tokens.weight"] == 1
    assert len(written) == 1 + 3 * (1 + 4)


def test_hooks_stand_where_ablation_has_its_own() -> None:
    model = tiny("llama")
    plan = plan_of([Ablation(DIRECTION)], model)
    assert plan.hooks[:3] == (
        Hook("model.layers.0", "input", "ablate"),
        Hook("model.layers.0.self_attn", "output", "ablate"),
        Hook("model.layers.0", "output", "ablate"),
    )
    assert len(plan.hooks) == 2 * 3 + 1
    share = plan_of([Ablation(DIRECTION, coefficient=0.5, layers=range(1, 2))], model)
    assert [(hook.module, hook.place) for hook in share.hooks] == [
        ("model.layers.1", "input"),
        ("model.layers.1.self_attn", "output"),
        ("model.layers.1.mlp", "output"),
    ]
    added = plan_of([Addition(DIRECTION, 2, coefficient=3.0)], model)
    assert added.hooks == (Hook("model.layers.2", "input", "add"),)
    assert added.coefficient == 3.0
    norms = plan_of([Ablation(DIRECTION, coefficient=0.5)], tiny("gemma2"))
    assert Hook("model.layers.1.post_attention_layernorm", "output", "ablate") in norms.hooks


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = Plan(DIRECTION, 0.25, {"a.b": 1}, ("e", "h"), (Hook("m.0", "input", "add"),))
    plan.save(tmp_path)
    again = Plan.load(tmp_path)
    assert torch.equal(again.direction, DIRECTION)
    assert (again.coefficient, again.writes, again.tied, again.hooks) == (
        *(0.25, {"a.b": 1}),
        *(("e", "h"), (Hook("m.0", "input", "add"),)),
    )
    assert again.unit.dtype == torch.float64
    assert float(again.unit.norm()) == pytest.approx(1, abs=1e-15)
    (tmp_path / "none").mkdir()
    plan_of([SystemText("a", "b", {})], tiny("llama")).save(tmp_path / "none")
    assert Plan.load(tmp_path / "none").direction is None
    assert refusal(tmp_path) is None
    refuse(tmp_path, "it cannot")
    assert refusal(tmp_path) == "it cannot"


def test_what_vllm_cannot_do_is_said() -> None:
    class Stranger:
        condition, edits_weights = "odd", False

        def install(self, model: Any) -> None: ...

        def identity(self) -> dict[str, Any]:
            return {}

    with pytest.raises(NotInVllm, match="Stranger is not possible inside vLLM; use a Hugging"):
        plan_of([Stranger()], tiny("llama"))
    with pytest.raises(NotInVllm, match="takes a second tensor of the residual stream"):
        plan_of([Ablation(DIRECTION)], tiny("zamba"))


WEIGHTS = Plan(DIRECTION, writes={"a": 0})
TIED = Plan(DIRECTION, writes={"a": 0}, tied=("a", "b"))
HOOKS = Plan(DIRECTION, hooks=(Hook("m", "input", "add"),))


@pytest.mark.parametrize(
    ("given", "plan", "soft", "sentence"),
    [
        ({"load_format": "sharded_state"}, WEIGHTS, False, "load_format=sharded_state would load"),
        ({"load_format": "mistral"}, WEIGHTS, False, "use one of auto, hf, safetensors"),
        ({"hf_overrides": "x"}, TIED, False, "hf_overrides=x is not a dictionary"),
        ({"speculative_config": {"a": 1}}, WEIGHTS, False, "would load a second model"),
        ({"enforce_eager": False}, HOOKS, False, "enforce_eager=False would make vLLM compile"),
        ({"data_parallel_size": 4}, HOOKS, False, "which hooks do not reach"),
        ({"data_parallel_size": "2"}, Plan(), True, "which a soft prompt's vectors do not reach"),
        ({"enable_prompt_embeds": False}, Plan(), True, "would keep the soft prompt out"),
        ({"worker_extension_cls": "mine.Own"}, WEIGHTS, False, "worker_extension_cls=mine.Own"),
        ({"kv_transfer_config": {"a": 1}}, HOOKS, False, "computed without the intervention"),
        ({"kv_transfer_config": {"a": 1}}, Plan(), True, "computed without the intervention"),
        ({"spec_model": "draft"}, WEIGHTS, False, "spec_model=draft would load a second model"),
        ({"model_loader_extra_config": "a"}, WEIGHTS, False, "is not a dictionary"),
    ],
)
def test_arguments_that_bypass_are_refused(
    given: dict[str, Any], plan: Plan, soft: bool, sentence: str
) -> None:
    with pytest.raises(NotInVllm, match=sentence):
        engine_arguments(given, plan, Path("folder"), soft_prompt=soft)


def test_arguments_of_the_user_go_on() -> None:
    nothing = {"load_format": "dummy", "enforce_eager": False, "data_parallel_size": 2, "seed": 3}
    assert engine_arguments(nothing, Plan(), Path("f"), soft_prompt=False) == nothing
    given = {
        "load_format": "safetensors",
        "model_loader_extra_config": {"enable_multithread_load": True},
        "hf_overrides": {"text_config": {"a": 1}},
        "tensor_parallel_size": 2,
    }
    loading = engine_arguments(given, TIED, Path("f"), soft_prompt=False)
    assert loading["tensor_parallel_size"] == 2
    assert loading["load_format"] == "polyrefuse"
    assert loading["model_loader_extra_config"] == {
        "enable_multithread_load": True,
        "polyrefuse_plan": "f",
        "polyrefuse_load_format": "safetensors",
    }
    assert loading["hf_overrides"] == {
        "text_config": {"a": 1, "tie_word_embeddings": False},
        "tie_word_embeddings": False,
    }
    assert "enforce_eager" not in loading
    assert engine_arguments({}, HOOKS, Path("f"), soft_prompt=True) == {
        "worker_extension_cls": "polyrefuse_models.vllm_engine.worker.Worker",
        "enforce_eager": True,
        "enable_prompt_embeds": True,
    }


@pytest.mark.parametrize("name", ["gguf_file", "peft", "delta", "truncation", "batching"])
def test_arguments_of_the_other_path_are_refused(name: str) -> None:
    with pytest.raises(NotInVllm, match=f"{name}=x is an argument of the Hugging Face models"):
        refuse_unusable({name: "x"})


@pytest.mark.parametrize("name", ["model", "model_weights", "hf_config_path", "config_format"])
def test_another_model_than_the_named_one_is_refused(name: str) -> None:
    with pytest.raises(NotInVllm, match=f"{name}=x would make vLLM run another model"):
        refuse_unusable({name: "x"})
    with pytest.raises(NotInVllm, match="max_length= and max_model_len= are the same setting"):
        refuse_unusable({"max_length": 64, "max_model_len": 64})


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
@pytest.mark.parametrize("name", ["baseline", "ablated", "refusal-added", "mcd"])
def test_the_extra_is_named_where_vllm_is_missing(name: str) -> None:
    from lm_eval.api.registry import get_model

    with pytest.raises(UserError, match=r"vLLM is not installed.* 'lm-eval-polyrefuse\[vllm\]'"):
        get_model(f"{name}-vllm")
