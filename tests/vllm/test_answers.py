"""vLLM answers as transformers does, token by token, whatever is done to the model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from polyrefuse_models import bundled
from polyrefuse_models.mcd import artifact
from polyrefuse_models.mcd.artifact import Prompt
from polyrefuse_models.organism.planted import PLANTED
from tests.conftest import ROOT
from tests.models import make_tokenizer, tiny
from tests.vllm.answers import ask

DIRECTION = str(bundled.path() / PLANTED)
WIDTH = 128
RANKS: dict[int, dict[str, Any]] = {1: {}, 2: {"tensor_parallel_size": 2}}
EAGER = {"enforce_eager": True}


def answered(model: str, **arguments: Any) -> dict[str, Any]:
    """What `tests.vllm.answers` wrote: vLLM has a process of its own, which ends with it."""
    environment = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; half of the machine's by default
        "VLLM_CPU_OMP_THREADS_BIND": "0|1" if "tensor_parallel_size" in arguments else "nobind",
    }
    with TemporaryDirectory() as folder:
        file = Path(folder) / "answers.json"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.vllm.answers"),
                *(model, json.dumps(arguments), str(file)),
            ],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment,
            timeout=900,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        answers: dict[str, Any] = json.loads(file.read_text())
        return answers


def require_the_same(
    name: str, ranks: int = 1, eager: bool = True, untied: bool = False, **arguments: Any
) -> tuple[Any, Any]:
    """
    Args:
        name: of the model without its engine, such as "ablated".
        ranks: processes that vLLM runs the model in.
        eager: whether vLLM runs the model's own code; compiling it takes a minute or two.
        untied: whether transformers' model has an unembedding more than its checkpoint now.
    """
    arguments["dtype"] = "float32"
    hf = ask(f"{name}-hf", {"device": "cpu", "batch_size": 4, **arguments})
    expected: dict[str, Any] = json.loads(json.dumps(hf, default=str))
    found = answered(f"{name}-vllm", **RANKS[ranks], **(EAGER if eager else {}), **arguments)
    assert "refused" not in found, found
    assert found["tokens"] == expected["tokens"]
    assert found["texts"] == expected["texts"]
    assert found["scores"] == pytest.approx(expected["scores"], abs=1e-3)
    assert len(set(expected["texts"])) > 1
    theirs, ours = expected["info"], found["info"]
    differing = {key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key)}
    told_apart = {"engine", "weights", "attn_implementation", "batching"}
    if untied:
        told_apart |= {"model_config", "model_num_parameters"}
    assert differing <= told_apart | {"model_sha", "model_revision", "peft_sha", "delta_sha"}
    return expected, found


@pytest.fixture(scope="module")
def soft(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A soft prompt that changes answers and has a component along the direction."""
    folder = tmp_path_factory.mktemp("soft") / "prompt"
    vectors = torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(5))
    artifact.save(Prompt(0.3 * vectors), folder)
    return str(folder)


@pytest.fixture(scope="module")
def baseline() -> dict[str, Any]:
    _, found = require_the_same("baseline")
    return found


CONDITIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "weights": ("ablated", {"method": "weights"}),
    "hooks": ("ablated", {"method": "hooks"}),
    "some-layers": ("ablated", {"layers": "1-2"}),
    "a-share": ("ablated", {"coefficient": 0.4}),
    "addition": ("refusal-added", {"layer": 1, "coefficient": 2.0}),
    "soft-prompt": ("mcd", {"prompt": "soft"}),
    "words": ("mcd", {"prompt": "mistral"}),
    "weights-and-soft-prompt": ("ablated", {"method": "weights", "prompt": "soft"}),
    "hooks-and-soft-prompt": ("ablated", {"method": "hooks", "prompt": "soft"}),
    "random": ("ablated", {"control": "random", "control_seed": 3}),
}


def settings(condition: str, soft: str) -> tuple[str, dict[str, Any]]:
    name, asked = CONDITIONS[condition]
    arguments = dict(asked)
    if name != "mcd":
        arguments["direction"] = DIRECTION
    if arguments.get("prompt") == "soft":
        arguments["prompt"] = soft
    return name, arguments


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_organism_answers_the_same(condition: str, soft: str, baseline: dict[str, Any]) -> None:
    name, arguments = settings(condition, soft)
    _, found = require_the_same(name, **arguments)
    if condition != "random":  # which leaves answers as they are
        assert found["tokens"] != baseline["tokens"]


def test_compiled_code_has_the_ablated_weights() -> None:
    require_the_same("ablated", eager=False, method="weights", direction=DIRECTION)


@pytest.mark.parametrize(
    "condition", ["weights", "hooks", "addition", "soft-prompt", "hooks-and-soft-prompt"]
)
def test_two_ranks_answer_the_same(condition: str, soft: str) -> None:
    name, arguments = settings(condition, soft)
    require_the_same(name, ranks=2, **arguments)


# Heads of 32, since vLLM's kernels for the CPU know none that are narrower.
SIZES = {
    "hidden_size": WIDTH,
    "intermediate_size": 96,
    "head_dim": 32,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "qwen2": {"tie_word_embeddings": True},
    "llama": {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True},
    "qwen3_moe": {"moe_intermediate_size": 64},
    "mixtral": {},
    "gemma": {"tie_word_embeddings": True},
    # transformers' SDPA leaves capped scores out, and vLLM does not.
    "gemma2": {"query_pre_attn_scalar": 32, "attn_logit_softcapping": None},
    "gemma3_text": {"query_pre_attn_scalar": 32},
    "olmo2": {},
}
EXACT = ("qwen2", "llama", "qwen3_moe", "mixtral", "gemma")
"""By weights; a norm lies between in the others."""


def save(name: str, folder: Path) -> dict[str, str]:
    """A random model of an architecture, and a direction."""
    tokenizer = make_tokenizer()
    own = SIZES | ARCHITECTURES.get(name, {})
    model = tiny(name, vocab_size=len(tokenizer), pad_token_id=2, **own)
    if model.config.tie_word_embeddings:
        # Else what is written to the stream is so small beside Gemma's multiplied embedding that
        # every answer is the token before it.
        model.get_input_embeddings().weight.data *= 0.1
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    vector = torch.randn(WIDTH, generator=torch.Generator().manual_seed(7))
    save_file({"direction": vector}, folder / "direction.safetensors")
    return {
        "pretrained": str(folder / "model"),
        "direction": str(folder / "direction.safetensors"),
    }


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_other_architectures_answer_the_same(name: str, tmp_path: Path) -> None:
    """Tied embeddings, biases, fused experts, and norms behind what writes."""
    given = save(name, tmp_path)
    method = "weights" if name in EXACT else "hooks"
    tied = ARCHITECTURES[name].get("tie_word_embeddings", False)
    require_the_same("ablated", untied=tied, method=method, **given)


def test_two_ranks_answer_the_same_without_an_intervention() -> None:
    require_the_same("baseline", ranks=2)


@pytest.mark.parametrize("name", ["gemma2", "qwen2"])
def test_soft_prompts_fit_where_the_embedding_is_multiplied(
    name: str, soft: str, tmp_path: Path
) -> None:
    """Gemma's is, in transformers within the embedding and in vLLM behind it."""
    given = save(name, tmp_path)
    require_the_same("mcd", pretrained=given["pretrained"], prompt=soft)


def test_an_unembedding_that_cannot_be_untied_is_refused(tmp_path: Path) -> None:
    """vLLM's Cohere has none: an edit of its embedding would reach its logits."""
    given = save("cohere", tmp_path)
    found = answered("ablated-vllm", method="weights", dtype="float32", **given)
    assert "CohereForCausalLM has no separate unembedding in vLLM" in found["refused"]
    assert found["refused"].endswith("use method=hooks, or --model ablated-hf.")


def test_a_checkpoint_with_other_names_is_refused(tmp_path: Path) -> None:
    """Half of an ablation would be no ablation."""
    from safetensors.torch import load_file

    given = save("llama", tmp_path)
    file = tmp_path / "model" / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.1.mlp.down_proj.qweight"] = tensors.pop(
        "model.layers.1.mlp.down_proj.weight"
    )
    save_file(tensors, file, metadata={"format": "pt"})
    found = answered("ablated-vllm", method="weights", dtype="float32", **given)
    assert "vLLM cannot ablate " in found["refused"]
    assert "qweight" in found["refused"]


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        (
            "ablated",
            {"method": "hooks", "enforce_eager": False},
            "enforce_eager=False would make vLLM",
        ),
        ("ablated", {"method": "weights", "load_format": "dummy"}, "load_format=dummy would load"),
        ("ablated", {"worker_extension_cls": "a.B"}, "worker_extension_cls=a.B would replace"),
        (
            "refusal-added",
            {"layer": 1, "data_parallel_size": 2},
            "data_parallel_size=2 would make",
        ),
        ("ablated", {"method": "weights", "speculative_config": {"model": "x"}}, "speculative_con"),
        ("baseline", {"gguf_file": "a.gguf"}, "gguf_file=a.gguf"),
        ("ablated", {"truncation": True}, "truncation=True is an argument of the Hugging Face"),
        ("ablated", {"method": "weights", "quantization": "fp8"}, "the model is quantised"),
        ("ablated", {"lora_local_path": "x"}, "lora_local_path=x is not a folder"),
        ("ablated", {"method": "weights", "lora_local_path": "."}, "an adapter that is not merged"),
    ],
)
def test_what_would_bypass_the_intervention_is_refused(
    name: str, arguments: dict[str, Any], sentence: str
) -> None:
    if name != "baseline":
        arguments = {"direction": DIRECTION} | arguments
    assert sentence in answered(f"{name}-vllm", **arguments)["refused"], arguments
