"""What an answer depends on beside its request, to tell one model's answers from another's.

lm-eval's response cache is keyed by the request alone, so that whatever is left out here is served
to a model that would have answered otherwise. What cannot change an answer beyond the rounding of
another kernel is left out: device, batch size, how a model is spread over devices.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from polyrefuse_models.neutral_generation import settings_of
from polyrefuse_models.weights import weights_identity
from polyrefuse_shared.errors import UserError

if TYPE_CHECKING:
    from polyrefuse_models.wrappers.hf import BaselineHF

PROBES = (
    "What is a glimmerfish? ",
    "  1. Nenne drei Flüsse in Quend:\n\n2. Тихий садовая скамья! <b>",
    "花园里的长椅在哪里？\t東の庭 ¿Dónde está? สวน 정원 حديقة 🌱",
)
"""What the fixed conversations ask: scripts, digits, marks, and white space that may be trimmed."""

_WITHOUT_EFFECT = {
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
}
"""Arguments that change no answer, or whose effect is told otherwise (the tokenizer's)."""

_TOLD_OTHERWISE = {
    *("revision", "peft", "delta", "dtype", "max_length", "truncation"),
    *("think_end_token", "chat_template_args", "enable_thinking", "quantization_config"),
}
"""Arguments that `identity` names one by one, as they took effect."""


def model_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """The other arguments that a model was loaded with, as JSON has them.

    Those without a known effect are kept: most go to `from_pretrained`, which has many.
    """
    left_out = _WITHOUT_EFFECT | _TOLD_OTHERWISE
    return {
        name: _plain(value)
        for name, value in sorted(given.items())
        if name not in left_out and value is not None
    }


def loaded(lm: BaselineHF) -> dict[str, Any]:
    """What tells the loaded model and its tokenizer from others.

    Checksums of weights are taken when they are first asked for: see `BaselineHF.weights`.
    """
    config = lm.model.config
    return {
        "weights": lm.weights,
        "model_config": _checksum(_told(config.to_dict())),
        "dtype": str(lm.model.dtype).removeprefix("torch."),
        "quantization": _plain(getattr(config, "quantization_config", None)),
        "attn_implementation": getattr(config, "_attn_implementation", None),
        "max_length": lm.max_length,
        "truncation": bool(lm.truncation),
        "delta": lm.delta,
        "tokenizer_sha256": tokenizer_checksum(lm.tokenizer),
        "rendered_sha256": _rendered(lm),
        "generation_settings": settings_of(lm.model),
    }


def weights_of(lm: BaselineHF) -> str:
    """`weights_identity` of a wrapper's model."""
    named = isinstance(lm.pretrained, str) and not os.path.isdir(lm.pretrained)
    return weights_identity(lm.model, of_the_hub=named and not (lm.peft or lm.delta))


def tokenizer_checksum(tokenizer: Any) -> str:
    """sha256 of how a tokenizer splits text: vocabulary, merges, normalising, added tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return _checksum([type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())])
    told = json.loads(backend.to_str())
    # Both are left over from the last call.
    return _checksum({**told, "padding": None, "truncation": None})


def _rendered(lm: BaselineHF) -> str | None:
    """sha256 of the token ids of the fixed conversations, as `generate_until` would have them."""
    try:
        rendered = [lm.render(text) if lm.chat else lm.plain(text) for text in PROBES]
    except UserError:  # No template: the first request will say so.
        return None
    return _checksum([lm.tok_batch_encode([text])[0].tolist() for text in rendered])


def _told(config: dict[str, Any]) -> dict[str, Any]:
    """A model's config without where it lies, who wrote it, and what is told apart."""
    left_out = {"_name_or_path", "transformers_version", "quantization_config", "dtype"}
    return {name: value for name, value in config.items() if name not in left_out}


def _plain(value: Any) -> Any:
    """A value as JSON has it; objects by what they say of themselves."""
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    return json.loads(json.dumps(value, default=str, sort_keys=True))


def _checksum(value: Any) -> str:
    written = json.dumps(value, default=str, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(written.encode()).hexdigest()
