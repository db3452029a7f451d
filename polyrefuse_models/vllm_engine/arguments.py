"""Make the arguments that vLLM starts with, and refuse those that would bypass an intervention."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyrefuse_models.vllm_engine.plan import NotInVllm, Plan

EXTENSION = "polyrefuse_models.vllm_engine.worker.Worker"
"""The class that vLLM mixes into its workers."""

LOAD_FORMAT = "polyrefuse"
"""The load format under which vLLM knows `loader`."""

FOLDER, FORMAT = "polyrefuse_plan", "polyrefuse_load_format"
"""Keys of `model_loader_extra_config`: the plan's folder, and the format of the checkpoint."""

STREAMED = ("auto", "hf", "safetensors", "fastsafetensors", "instanttensor", "pt", "npcache")
"""The load formats whose tensors stream in under the checkpoint's names."""


def refuse_unusable(arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that the vLLM models cannot use.

    Raises:
        NotInVllm: an argument belongs to the Hugging Face models alone, or contradicts lm-eval's
            own argument for the model or its length.
    """
    for name in ("model", "model_weights", "hf_config_path", "config_format"):
        if arguments.get(name):
            raise NotInVllm(
                f"{name}={arguments[name]} would make vLLM run another model than the results "
                "name; give only pretrained=."
            )
    if arguments.get("max_length") and arguments.get("max_model_len"):
        raise NotInVllm("max_length= and max_model_len= are the same setting; give one of them.")
    for name in ("gguf_file", "peft", "delta", "parallelize", "truncation", "batching"):
        if arguments.get(name):
            raise NotInVllm(
                f"{name}={arguments[name]} is an argument of the Hugging Face models; leave it "
                "out, or use one of them, such as --model baseline-hf."
            )


def engine_arguments(
    given: Mapping[str, Any], plan: Plan, folder: Path, *, soft_prompt: bool
) -> dict[str, Any]:
    """Make the arguments that lm-eval's VLLM is started with.

    Args:
        given: the user's arguments.
        plan: what vLLM's workers are to do.
        folder: the folder that the plan is saved in.
        soft_prompt: whether a soft prompt's vectors are put into prompts.

    Raises:
        NotInVllm: an argument would bypass the intervention, or cannot be combined with it.
    """
    arguments = dict(given)
    if plan.direction is not None or soft_prompt:
        if given.get("worker_extension_cls"):
            raise _bypassed(
                given,
                "worker_extension_cls",
                "would replace the extension that does the intervention; leave it out",
            )
        if given.get("kv_transfer_config"):
            raise _bypassed(
                given,
                "kv_transfer_config",
                "would bring keys and values that were computed without the intervention; leave it "
                "out",
            )
        arguments["worker_extension_cls"] = EXTENSION
    if plan.writes:
        arguments |= _loading(given, plan, folder)
    if plan.hooks:
        arguments |= _hooking(given)
    if soft_prompt:
        if given.get("enable_prompt_embeds") is False:
            raise _bypassed(
                given, "enable_prompt_embeds", "would keep the soft prompt out; leave it out"
            )
        _refuse_data_parallel(given, "a soft prompt's vectors")
        arguments["enable_prompt_embeds"] = True
    return arguments


def _loading(given: Mapping[str, Any], plan: Plan, folder: Path) -> dict[str, Any]:
    """Make the arguments of our loader, which loads the checkpoint in its own format."""
    format_of_files = given.get("load_format") or "auto"
    if format_of_files not in STREAMED:
        raise _bypassed(
            given,
            "load_format",
            "would load weights without the ablation (method=weights); use one of "
            f"{', '.join(STREAMED)}, or method=hooks",
        )
    for name in ("speculative_config", "spec_model", "spec_method"):
        if given.get(name):
            raise _bypassed(
                given, name, "would load a second model with the ablating loader; leave it out"
            )
    extra = given.get("model_loader_extra_config") or {}
    if not isinstance(extra, dict):
        raise _bypassed(
            given,
            "model_loader_extra_config",
            "is not a dictionary, but the plan has to be added to it; give a dictionary",
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
            raise _bypassed(
                given,
                "hf_overrides",
                "is not a dictionary, but tie_word_embeddings has to be added to it; give a "
                "dictionary",
            )
        text = overrides.get("text_config") or {}
        arguments["hf_overrides"] = {
            **overrides,
            "tie_word_embeddings": False,
            **({"text_config": {**text, "tie_word_embeddings": False}} if text else {}),
        }
    return arguments


def _hooking(given: Mapping[str, Any]) -> dict[str, Any]:
    """Ask for eager execution, because compiled or captured code skips hooks without an error."""
    if given.get("enforce_eager") is False:
        raise _bypassed(
            given,
            "enforce_eager",
            "would make vLLM compile the model, which then calls no hooks; leave it out",
        )
    _refuse_data_parallel(given, "hooks")
    return {"enforce_eager": True}


def _refuse_data_parallel(given: Mapping[str, Any], what: str) -> None:
    if int(given.get("data_parallel_size") or 1) > 1:
        raise _bypassed(
            given,
            "data_parallel_size",
            f"would make lm-eval start more engines, which {what} do not reach; use "
            "tensor_parallel_size, or ablation with method=weights",
        )


def _bypassed(given: Mapping[str, Any], name: str, reason: str) -> NotInVllm:
    return NotInVllm(f"{name}={given[name]} {reason}.")
