"""Describe what an answer depends on besides its request, to distinguish different models' answers.

lm-eval's response cache finds answers by the request alone. If something were missing from the
identity, the cache would serve an answer to a model that answers differently. Whatever changes an
answer by no more than the rounding of another kernel is left out: device, batch size, `batching`,
and the way a model is spread over devices.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from polyrefuse_models.interventions import condition_of, identity_of
from polyrefuse_models.neutral_generation import settings_of
from polyrefuse_models.weights import weights_identity
from polyrefuse_shared.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polyrefuse_models.interventions import Intervention
    from polyrefuse_models.wrappers.prompting import Prompting

PROBES = (
    "What is a glimmerfish? ",
    "  1. Nenne drei Flüsse in Quend:\n\n2. Тихий садовая скамья! <b>",
    "花园里的长椅在哪里？\t東の庭 ¿Dónde está? สวน 정원 حديقة 🌱",
)
"""The prompts of fixed conversations. They have many scripts, digits, marks and spare spaces."""

WITHOUT_EFFECT = {
    *("device", "batch_size", "max_batch_size", "logits_cache"),
    *("parallelize", "max_memory_per_gpu", "max_cpu_memory", "offload_folder", "tp_plan"),
    *(
        "device_map",
        "low_cpu_mem_usage",
        "cache_dir",
        "token",
        "use_auth_token",
        "local_files_only",
    ),
    *("trust_remote_code", "use_fast_tokenizer", "use_safetensors", "tokenizer"),
    *("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "max_num_seqs"),
    *("max_num_batched_tokens", "gpu_memory_utilization", "kv_cache_memory_bytes"),
    *("enforce_eager", "enable_prefix_caching", "distributed_executor_backend"),
    *("cpu_offload_gb", "download_dir", "max_loras", "max_lora_rank"),
}
"""The arguments that change no answer, or whose effect is recorded elsewhere, as the tokenizer's
is."""

_NAMED_APART = {
    *("revision", "peft", "delta", "dtype", "max_length", "truncation"),
    *("think_end_token", "chat_template_args", "enable_thinking", "quantization_config"),
    *("max_model_len", "lora_local_path"),
}
"""The arguments that `identity` records separately, in the form in which they took effect."""


def model_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the other arguments that a model was loaded with, in values that JSON can hold.

    Unknown arguments are kept, because most of them go to `from_pretrained`, which takes many.
    """
    left_out = WITHOUT_EFFECT | _NAMED_APART
    return {
        name: _plain(value)
        for name, value in sorted(given.items())
        if name not in left_out and value is not None
    }


class Loaded(Protocol):
    """What an engine has loaded.

    Attributes:
        model: the model as loaded.
        tokenizer: the tokenizer as loaded.
        pretrained: the model that was asked for: a name, a folder, or a model made by the caller.
        revision: the revision that was asked for.
        peft: the adapter that was asked for.
        delta: the delta that was asked for.
        max_length: the largest number of tokens of a prompt and its answer together.
        truncation: whether longer prompts are cut.
        chat_template_args: the arguments of the chat template.
        model_arguments: `model_arguments` of what the model was loaded with.
        model_name: the model's name in results.
        weights: the identity of the weights (`weights_of`).
        prompt_ids: returns the token ids that the model reads for a rendered prompt.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    pretrained: Any
    revision: str
    peft: str | None
    delta: str | None
    truncation: bool
    chat_template_args: dict[str, Any]
    model_arguments: dict[str, Any]

    @property
    def max_length(self) -> int: ...

    @property
    def model_name(self) -> str: ...

    @property
    def weights(self) -> str: ...

    def prompt_ids(self, text: str) -> list[int]: ...


def identity(
    engine: Loaded,
    prompting: Prompting,
    interventions: Sequence[Intervention],
    reasoning_end: str | int | None,
) -> dict[str, Any]:
    """Return what an answer depends on besides the request: model, condition, settings.

    Args:
        engine: the engine with its model.
        prompting: how prompts reach the model.
        interventions: all interventions that are installed.
        reasoning_end: the token that ends reasoning; None if there is none.
    """
    return {
        "condition": condition_of(interventions),
        "model_name": engine.model_name,
        "revision": engine.revision,
        "peft": engine.peft,
        "chat": "on" if prompting.chat else "off",
        "chat_template_args": engine.chat_template_args,
        "think_end_token": reasoning_end,
        "model_arguments": engine.model_arguments,
        **_loaded(engine, prompting),
        **prompting.system_identity(),
        **identity_of(interventions),
    }


def _loaded(engine: Loaded, prompting: Prompting) -> dict[str, Any]:
    """Return what distinguishes the loaded model and its tokenizer from others."""
    config = engine.model.config
    return {
        "weights": engine.weights,
        "model_config": _checksum(_described(config.to_dict())),
        "dtype": str(engine.model.dtype).removeprefix("torch."),
        "quantization": _plain(getattr(config, "quantization_config", None)),
        "attn_implementation": getattr(config, "_attn_implementation", None),
        "max_length": engine.max_length,
        "truncation": bool(engine.truncation),
        "delta": engine.delta,
        "tokenizer_sha256": tokenizer_checksum(engine.tokenizer),
        "rendered_sha256": _rendered(engine, prompting),
        "generation_settings": settings_of(engine.model),
    }


def weights_of(engine: Loaded) -> str:
    """Return `weights_identity` of an engine's model. Call it before anything edits the weights."""
    named = isinstance(engine.pretrained, str) and not os.path.isdir(engine.pretrained)
    # A commit may hold many GGUF files, so it does not identify one.
    other = engine.peft or engine.delta or engine.model_arguments.get("gguf_file")
    return weights_identity(engine.model, of_the_hub=named and not other)


def tokenizer_checksum(tokenizer: Any) -> str:
    """Compute a sha256 of everything that decides how a tokenizer splits text.

    It covers the vocabulary, the merges, the normaliser and the added tokens.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return _checksum([type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())])
    state = json.loads(backend.to_str())
    # These two entries depend on the last call of the tokenizer.
    return _checksum({**state, "padding": None, "truncation": None})


def _rendered(engine: Loaded, prompting: Prompting) -> str | None:
    """Compute the sha256 of the fixed conversations' token ids, as `generate_until` reads them."""
    try:
        rendered = [prompting.probe(text) for text in PROBES]
    except UserError:  # There is no template, and the first request will say so.
        return None
    return _checksum([[engine.prompt_ids(text)] for text in rendered])


def _described(config: dict[str, Any]) -> dict[str, Any]:
    """Return a model's config without path, version, and what `_loaded` names separately."""
    left_out = {"_name_or_path", "transformers_version", "quantization_config", "dtype"}
    return {name: value for name, value in config.items() if name not in left_out}


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold. An object becomes its `to_dict` or its text."""
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    return json.loads(json.dumps(value, default=str, sort_keys=True))


def _checksum(value: Any) -> str:
    written = json.dumps(value, default=str, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(written.encode()).hexdigest()
