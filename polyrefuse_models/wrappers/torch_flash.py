"""Attention over a paged cache by torch's own flash kernel, which needs no other package.

The keys and values of all answers are gathered from the cache and laid end to end. The
variable-length kernel compares each token only with tokens of its own answer. It therefore needs no
mask, and its work does not grow with the square of the number of answers.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from functools import cache as once
from typing import TYPE_CHECKING, Any

import torch
from transformers import AttentionInterface
from transformers.generation.continuous_batching import PagedAttentionCache

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

NAME = "torch_flash"
"""The name of the attention implementation. transformers makes no mask if it contains "flash"."""

_INDEXED = "read_index" in inspect.signature(PagedAttentionCache.update).parameters
"""Whether the cache takes indices and returns keys by token, as it does up to transformers 5.18."""

REGISTERED = f"paged|{NAME}" if _INDEXED else NAME
"""The name under which transformers finds the attention implementation."""

_UNKNOWN = ("softcap", "s_aux", "sinks", "position_bias", "indices", "block_indices")
"""The arguments by which a layer changes its scores or chooses the tokens to compare. The kernel
supports none of them."""


@once
def register() -> bool:
    """Make `attend` known to transformers.

    Returns:
        Whether torch has the kernel and the kernel supports windows, as it does from torch 2.11 on.
    """
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return False
    if "window_size" not in _taken(_varlen().varlen_attn):
        return False
    AttentionInterface.register(REGISTERED, attend)
    return True


def attend(
    module: torch.nn.Module,
    query: Float[Tensor, "1 head query_token channel"],
    key: Float[Tensor, "1 key_head token channel"],
    value: Float[Tensor, "1 key_head token channel"],
    attention_mask: Tensor | None,
    *,
    cache: PagedAttentionCache | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **given: Any,
) -> tuple[Float[Tensor, "1 query_token head channel"], None]:
    """Compute the attention of a layer. transformers calls this function.

    Args:
        module: the layer's attention.
        query: the queries of the new tokens of all answers, end to end.
        key: the keys of these tokens. From transformers 5.24 on, keys and values are those of all
            tokens, because the layer itself puts the new ones into the cache.
        value: the values of these tokens.
        attention_mask: None, because no mask is made.
        cache: the cache of keys and values, up to transformers 5.23.
        scaling: the factor of the scores; None means the number of channels to the power of -1/2.
        sliding_window: the number of tokens that a token is compared with, including itself.
        given: where each answer's tokens begin, and whatever else transformers passes.

    Returns:
        The output of attention for the new tokens; and None in place of attention weights.

    Raises:
        ValueError: the layer changes its scores in a way that the kernel does not support.
    """
    for name in _UNKNOWN:
        if given.get(name) is not None:
            raise ValueError(f"torch's flash kernel does not support the layer's {name}")
    if attention_mask is not None:
        raise ValueError("torch's flash kernel takes no mask")
    if _INDEXED:
        assert cache is not None
        kind = "full_attention" if sliding_window is None else "sliding_attention"
        lengths, longest = given["cu_seq_lens_k"], given["max_seqlen_k"]
        if isinstance(lengths, dict):
            lengths, longest = lengths[kind], longest[kind]
        keys, values = cache.update(
            key, value, module.layer_idx, given["read_index"], given["write_index"]
        )
        longest_query = given["max_seqlen_q"]
    else:
        if cache is not None:
            key, value = cache.update(key, value, module.layer_idx, given)
        keys, values = (states.squeeze(0).transpose(0, 1) for states in (key, value))
        lengths, longest = given["cu_seq_lens_k"], given["max_length_k"]
        longest_query = given["max_length_q"]
    answer = kernel(
        query.squeeze(0).transpose(0, 1).contiguous(),
        keys.contiguous(),
        values.contiguous(),
        given["cu_seq_lens_q"].to(torch.int32),
        lengths.to(torch.int32),
        longest_query,
        longest,
        scale=scaling,
        window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
    )
    return answer.unsqueeze(0), None


def kernel(
    query: Float[Tensor, "query_token head channel"],
    key: Float[Tensor, "token key_head channel"],
    value: Float[Tensor, "token key_head channel"],
    begins: Int[Tensor, "answer_and_end"],
    key_begins: Int[Tensor, "answer_and_end"],
    longest: int,
    longest_key: int,
    **settings: Any,
) -> Float[Tensor, "query_token head channel"]:
    """Call `torch.nn.attention.varlen.varlen_attn`. Keys may have fewer heads than queries.

    From torch 2.12 on, the function needs `enable_gqa` for such keys.
    """
    attention = _varlen().varlen_attn
    grouped = {"enable_gqa": True} if "enable_gqa" in _taken(attention) else {}
    return attention(
        query, key, value, begins, key_begins, longest, longest_key, **settings, **grouped
    )


def _varlen() -> Any:
    return importlib.import_module("torch.nn.attention.varlen")


@once
def _taken(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)
