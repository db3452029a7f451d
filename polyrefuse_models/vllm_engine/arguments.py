"""The arguments that vLLM's engine starts with, and those that would bypass an intervention."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyrefuse_models.vllm_engine.plan import NotInVllm, Plan

EXTENSION = "polyrefuse_models.vllm_engine.worker.Worker"
"""What vLLM mixes into its workers."""

LOAD_FORMAT = "polyrefuse"
"""The format under which `loader` is known to vLLM."""

FOLDER, FORMAT = "polyrefuse_plan", "polyrefuse_load_format"
"""In `model_loader_extra_config`: the plan's folder, and the format of the checkpoint's files."""

STREAMED = ("auto", "hf", "safetensors", "fastsafetensors", "instanttensor", "pt", "npcache")
"""Formats whose tensors stream in under the checkpoint's names."""


def refuse_unusable(arguments: Mapping[str, Any]) -> None:
    """Raises:
    NotInVllm: an argument of the Hugging Face wrappers that vLLM has nothing for, or one that
        names another model, or another length, than lm-eval's own.
    """
    for name in ("model", "model_weights", "hf_config_path", "config_format"):
        if arguments.get(name):
            raise NotInVllm(
                f"{name}={arguments[name]} would have vLLM run another model than the results "
                "name; give pretrained= alone."
            )
    if arguments.get("max_length") and arguments.get("max_model_len"):
        raise NotInVllm("max_length= and max_model_len= are one setting; give one of them.")
    for name in ("gguf_file", "peft", "delta", "parallelize", "truncation", "batching"):
        if arguments.get(name):
            raise NotInVllm(
                f"{name}={arguments[name]} is an argument of the Hugging Face models; leave it "
                "out, or take --model baseline-hf and its siblings."
            )


def engine_arguments(
    given: Mapping[str, Any], plan: Plan, folder: Path, *, soft_prompt: bool
) -> dict[str, Any]:
    """What lm-eval's VLLM is started with.

    Args:
        given: what the user gave.
        plan: what is to be done in vLLM's workers.
        folder: where the plan is saved.
        soft_prompt: whether vectors are put into prompts.

    Raises:
        NotInVllm: an argument would bypass the intervention, or cannot be used beside it.
    """
    arguments = dict(given)
    if plan.direction is not None or soft_prompt:
        if given.get("worker_extension_cls"):
            raise _bypassed(given, "worker_extension_cls", "takes the place of ours in vLLM")
        if given.get("kv_transfer_config"):
            raise _bypassed(
                given,
                "kv_transfer_config",
                "brings keys and values that were computed without the intervention; leave it out",
            )
        arguments["worker_extension_cls"] = EXTENSION
    if plan.writes:
        arguments |= _loading(given, plan, folder)
    if plan.hooks:
        arguments |= _hooking(given)
    if soft_prompt:
        if given.get("enable_prompt_embeds") is False:
            raise _bypassed(given, "enable_prompt_embeds", "keeps a soft prompt's vectors out")
        _refuse_data_parallel(given, "a soft prompt's vectors")
        arguments["enable_prompt_embeds"] = True
    return arguments


def _loading(given: Mapping[str, Any], plan: Plan, folder: Path) -> dict[str, Any]:
    """The loader, and the checkpoint's own format in its hands."""
    format_of_files = given.get("load_format") or "auto"
    if format_of_files not in STREAMED:
        raise _bypassed(
            given,
            "load_format",
            "loads weights without the ablation (method=weights); use one of "
            f"{', '.join(STREAMED)}, or method=hooks",
        )
    for name in ("speculative_config", "spec_model", "spec_method"):
        if given.get(name):
            raise _bypassed(
                given, name, "loads a second model by the ablating loader; leave it out"
            )
    extra = given.get("model_loader_extra_config") or {}
    if not isinstance(extra, dict):
        raise _bypassed(
            given, "model_loader_extra_config", "is no dictionary, which the plan is added to"
        )
    arguments: dict[str, Any] = {
        "load_format": LOAD_FORMAT,
        "model_loader_extra_config": {
            **extra,
            FOLDER: str(folder),
            FORMAT: format_of_files,
        },
    }
    if plan.tied is not None:
        overrides = given.get("hf_overrides") or {}
        if not isinstance(overrides, dict):
            raise _bypassed(given, "hf_overrides", "is no dictionary, which untying is added to")
        text = overrides.get("text_config") or {}
        arguments["hf_overrides"] = {
            **overrides,
            "tie_word_embeddings": False,
            **({"text_config": {**text, "tie_word_embeddings": False}} if text else {}),
        }
    return arguments


def _hooking(given: Mapping[str, Any]) -> dict[str, Any]:
    """Eager execution: compiled or captured code calls no hooks, and says nothing."""
    if given.get("enforce_eager") is False:
        raise _bypassed(
            given,
            "enforce_eager",
            "has vLLM compile the model, which then calls no hooks; leave it out",
        )
    _refuse_data_parallel(given, "hooks")
    return {"enforce_eager": True}


def _refuse_data_parallel(given: Mapping[str, Any], what: str) -> None:
    if int(given.get("data_parallel_size") or 1) > 1:
        raise _bypassed(
            given,
            "data_parallel_size",
            f"has lm-eval start engines of its own, which {what} do not reach; use "
            "tensor_parallel_size, or ablation with method=weights",
        )


def _bypassed(given: Mapping[str, Any], name: str, reason: str) -> NotInVllm:
    return NotInVllm(f"{name}={given[name]} {reason}.")
