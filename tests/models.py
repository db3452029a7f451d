"""Small chat models, made here: what a test needs where a real one would be downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
SPECIAL = ("<s>", "</s>", "<pad>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "</think>")


def make_tokenizer(template: str | dict[str, str] | None = TEMPLATE) -> PreTrainedTokenizerBase:
    """One token a byte, and special tokens for the template's roles."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=list(SPECIAL[3:7]),
        chat_template=template,
    )


def make_llama(seed: int = 0, layers: int = 4, width: int = 32) -> PreTrainedModel:
    """A random Llama in float32 whose window holds a long prompt and 512 new tokens."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(SPECIAL) + 256,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        tie_word_embeddings=False,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config).eval()


def save_chat_model(
    folder: Path, template: str | dict[str, str] | None = TEMPLATE, **model: int
) -> None:
    """Write model and tokenizer as `from_pretrained` reads them."""
    make_llama(**model).save_pretrained(folder)
    make_tokenizer(template).save_pretrained(folder)


FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


@contextmanager
def memory_for(rows: int, model: PreTrainedModel, error: Exception = FULL) -> Iterator[None]:
    """A device whose memory holds so many rows of a forward pass."""

    def check(_embedding: object, given: tuple[torch.Tensor, ...]) -> None:
        if len(given[0]) > rows:
            raise error

    handle = model.get_input_embeddings().register_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()


WIDTH, LAYERS = 32, 3
COMMON: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 1,
}
"""What the configurations of `tiny` have in common."""

_LINEAR: dict[str, Any] = {
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_CONVOLUTION: dict[str, Any] = {
    "layer_types": ["conv", "full_attention", "conv"],
    "block_auto_adjust_ff_dim": False,
}
_MAMBA2: dict[str, Any] = {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_expand": 2,
    "mamba_chunk_size": 4,
}
_EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
}
_LATENT: dict[str, Any] = {
    "num_key_value_heads": 4,
    "head_dim": None,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
}
_ZAMBA: dict[str, Any] = {
    "attention_hidden_size": 2 * WIDTH,
    "attention_head_dim": 16,
    "layers_block_type": ["mamba", "hybrid", "hybrid"],
}

OWN: dict[str, dict[str, Any]] = {
    "qwen2_moe": {"num_experts": 4, "moe_intermediate_size": 16},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": WIDTH},
    "mixtral": {"num_local_experts": 4},
    # As in the published models, experts as wide as the residual stream.
    "gpt_oss": {"num_local_experts": 4, "intermediate_size": WIDTH},
    "granite": {"residual_multiplier": 0.3, "embedding_multiplier": 5.0},
    "llama4_text": {"num_local_experts": 4, "intermediate_size_mlp": 48},
    "gpt_neo": {"attention_types": [[["global"], LAYERS]], "num_layers": LAYERS, "num_heads": 4},
    "gemma3n_text": {
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "intermediate_size": [48] * LAYERS,
        "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 64,
        "laurel_rank": 4,
        "activation_sparsity_pattern": None,
    },
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": WIDTH, "max_position_embeddings": 2048},
    # --- what mixes tokens by more than attention
    "qwen3_next": _LINEAR
    | _EXPERTS
    | {"mlp_only_layers": [0], "shared_expert_intermediate_size": 16},
    "qwen3_5_text": _LINEAR,
    "qwen3_5_moe_text": _LINEAR | _EXPERTS | {"shared_expert_intermediate_size": 16},
    "olmo_hybrid": _LINEAR,
    "kimi_linear": _LINEAR | _EXPERTS | _LATENT | {"n_group": 1, "topk_group": 1},
    "minimax": {
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
        "num_local_experts": 4,
        "block_size": 4,
    },
    "lfm2": _CONVOLUTION,
    "lfm3": _CONVOLUTION,
    "lfm2_moe": _CONVOLUTION | _EXPERTS | {"num_dense_layers": 1},
    "granitemoehybrid": _MAMBA2
    | {
        "layer_types": ["mamba", "attention", "mamba"],
        "num_local_experts": 0,
        "shared_intermediate_size": 16,
        "residual_multiplier": 0.3,
        "embedding_multiplier": 5.0,
    },
    "bamba": _MAMBA2 | {"attn_layer_indices": [1]},
    "falcon_h1": _MAMBA2
    | {
        "mamba_d_ssm": 64,
        "ssm_out_multiplier": 0.4,
        "attention_in_multiplier": 0.7,
        "attention_out_multiplier": 0.6,
        "mlp_multipliers": [0.9, 0.3],
        "embedding_multiplier": 5.0,
    },
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "num_experts": 4,
        "mamba_d_state": 4,
        "mamba_dt_rank": 4,
    },
    "nemotron_h": {
        "layers_block_type": ["mamba", "attention", "mlp"],
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "ssm_state_size": 8,
        "n_groups": 1,
        "chunk_size": 4,
        "n_routed_experts": 4,
        "moe_intermediate_size": 16,
        "moe_shared_expert_intermediate_size": 16,
        "n_group": 1,
        "topk_group": 1,
    },
    "recurrent_gemma": {
        "lru_width": WIDTH,
        "block_types": ["recurrent", "recurrent", "attention"],
        "attention_window_size": 64,
    },
    "zamba": _ZAMBA | {"mamba_d_state": 4, "n_mamba_heads": 2},
    "zamba2": _ZAMBA
    | {
        "mamba_d_state": 8,
        "n_mamba_heads": 4,
        "mamba_headdim": 16,
        "mamba_ngroups": 1,
        "num_mem_blocks": 1,
        "chunk_size": 4,
        "use_mem_rope": True,
        "head_dim": 16,
    },
    "rwkv": {"attention_hidden_size": WIDTH},
    "mamba": {"state_size": 4, "time_step_rank": 4},
    "falcon_mamba": {"state_size": 4, "time_step_rank": 4},
    "mamba2": {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1, "chunk_size": 4},
    "xlstm": {"embedding_dim": WIDTH, "num_heads": 4, "num_blocks": LAYERS, "chunk_size": 4},
}
"""What each architecture's configuration in `tiny` has of its own."""


def tiny(model_type: str, dtype: torch.dtype = torch.float32, **more: Any) -> PreTrainedModel:
    """A random model of an architecture that transformers knows, with `more` settings."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **COMMON | OWN.get(model_type, {}) | more)
    if dtype == torch.float64:
        config._experts_implementation = "eager"  # grouped products know no float64
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    for parameter in model.parameters():  # biases and norms too: they start as 0 and 1
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def multimodal_gemma() -> PreTrainedModel:
    """A random Gemma 3 that reads pictures, too: its text part has a configuration of its own."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    torch.manual_seed(0)
    text = {name: value for name, value in COMMON.items() if not name.endswith("token_id")}
    vision = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    return Gemma3ForConditionalGeneration(config).eval()
