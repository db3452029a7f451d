"""GGUF files of small chat models, written here as llama.cpp's converter writes them."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tests.models import SPECIAL, TEMPLATE, make_llama, make_tokenizer

NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
"""The name of a tensor in transformers -> in GGUF; `IN_BLOCK` has those of a block."""

IN_BLOCK = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}

MERGE = ("a", "b")
"""A byte-level BPE needs one merge at least."""


def gguf_tokenizer() -> PreTrainedTokenizerBase:
    """The tokenizer of the files: one token a byte, a merge, and the template's roles."""
    tokenizer = make_tokenizer()
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = backend["model"]["vocab"]
    vocabulary["".join(MERGE)] = len(vocabulary)
    backend["model"]["merges"] = [list(MERGE)]
    return type(tokenizer)(
        tokenizer_object=type(tokenizer.backend_tokenizer).from_str(json.dumps(backend)),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        chat_template=TEMPLATE,
    )


def gguf_llama(seed: int = 0, layers: int = 4, width: int = 32) -> PreTrainedModel:
    """A random Llama for that tokenizer."""
    model = make_llama(seed, layers, width)
    model.resize_token_embeddings(len(gguf_tokenizer()))
    return model


def write_gguf(
    path: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
) -> None:
    """Write a Llama and its tokenizer.

    Args:
        kind: of every matrix; norms are float32. Q8_0 and Q4_1 want widths that 32 divides.
    """
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, tokenizer)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        matrix = tensor.float().numpy()
        for projection, n_heads in heads.items():
            if projection in name:
                matrix = _interleaved(matrix, n_heads)
        stored = gguf.GGMLQuantizationType.F32 if matrix.ndim == 1 else kind
        writer.add_tensor(
            _named(name), np.ascontiguousarray(gguf.quantize(matrix, stored)), raw_dtype=stored
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def save_gguf_chat_model(
    folder: Path,
    name: str = "tiny.gguf",
    *,
    seed: int = 0,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
) -> PreTrainedModel:
    """Write a random chat model into a folder that may have others.

    Returns:
        the model that was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = gguf_llama(seed)
    write_gguf(folder / name, model, gguf_tokenizer(), kind)
    return model


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerBase) -> None:
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([control if token in SPECIAL else normal for token in tokens])
    writer.add_token_merges([" ".join(MERGE)])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer.chat_template)


def _named(name: str) -> str:
    if name in NAMES:
        return NAMES[name]
    _, _, block, rest = name.split(".", 3)
    module, kind = rest.rsplit(".", 1)
    return f"blk.{block}.{IN_BLOCK[module]}.{kind}"


def _interleaved(matrix: np.ndarray, heads: int) -> np.ndarray:
    """Rows of rotary halves in pairs, as llama.cpp wants queries and keys."""
    rows, columns = matrix.shape
    return (
        matrix.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
    )
