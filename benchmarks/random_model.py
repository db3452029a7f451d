"""Models with random weights in the shape of a published model.

They are made on the device where they are measured. Nothing is downloaded, and the values of the
weights do not affect the times.
"""

from __future__ import annotations

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

SHAPES = {
    # The numbers are those of Qwen2.5-7B's config.json.
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
    """Make a model with random weights.

    Args:
        shape: a value of `SHAPES`, or other arguments of `Qwen2Config`.
        device: the device on which the model is made.
        dtype: the type of the weights.
        spread: the standard deviation of the weights.
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
    """Wait until a device has finished its work."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
