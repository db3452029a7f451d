"""Models of random weights in a published model's shape, made where they are measured: nothing is
downloaded, and a time does not depend on what a weight is."""

from __future__ import annotations

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

SHAPES = {
    # Of Qwen2.5-7B's config.json.
    "7b": {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
    },
    "tiny": {
        "vocab_size": 2048,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}


def make_model(
    shape: dict[str, int], device: str, dtype: torch.dtype, spread: float = 0.02
) -> Qwen2ForCausalLM:
    """A random model.

    Args:
        shape: of `SHAPES`, or what else a `Qwen2Config` takes.
        spread: standard deviation of the weights.
    """
    torch.manual_seed(0)
    config = Qwen2Config(
        **shape,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        initializer_range=spread,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return Qwen2ForCausalLM(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)


def finish(device: str | torch.device) -> None:
    """Wait until a device has done what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
