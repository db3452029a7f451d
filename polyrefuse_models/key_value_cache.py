"""A model's key-value cache, under both of the names that transformers has for it.

transformers calls the cache `past_key_values` up to 5.23 and `cache` from 5.24 on. The cache is an
argument of forward passes and of `generate`, and an entry in what they return. 5.24 still accepts
the old name with a warning; forward passes lose it in 5.40 and `generate` in 6.0.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import Cache
    from transformers.utils import ModelOutput

NEW, OLD = "cache", "past_key_values"


def shared_cache(output: ModelOutput) -> Cache | None:
    """Return the cache of a forward pass if several rows can continue from it, else None.

    Rows can continue from keys and values. A recurrent mixer keeps only its state after the last
    token. transformers cannot repeat or select the rows of such a state, and Bamba, Jamba, Zamba
    and MiniMax continue from it correctly only with one token at a time (5.23).
    """
    from transformers import DynamicCache

    cache = next((output[name] for name in (NEW, OLD) if name in output), None)
    if type(cache) is not DynamicCache:
        return None
    recurrent = any(hasattr(layer, "recurrent_states") for layer in cache.layers)
    return None if recurrent else cache


def lent(cache: Cache, times: int = 1) -> Cache:
    """Make a cache that a forward pass may append to, while `cache` stays as it is.

    The keys and values are shared and not copied, because appending makes new ones.

    Args:
        cache: a `shared_cache`.
        times: how often each of its rows is repeated. The copies of a row follow each other.
    """
    layers: list[Any] = cache.layers
    shared = (part for layer in layers for part in (layer.keys, layer.values))
    copied = copy.deepcopy(cache, {id(part): part for part in shared})
    if times > 1:
        copied.batch_repeat_interleave(times)
    return copied


def with_cache(call: Callable[..., Any], cache: Cache | None) -> dict[str, Cache | None]:
    """Make the keyword argument that gives a cache to a forward pass or to `generate`.

    Args:
        call: a model, or its `generate`.
        cache: the cache; None begins a new one.
    """
    takes = inspect.signature(getattr(call, "forward", call)).parameters
    return {next((name for name in (NEW, OLD) if name in takes), _usual()): cache}


def _usual() -> str:
    """Return the installed transformers' name for the cache, if a signature does not show it.

    The signatures of `generate` and of adapters do not show it.
    """
    from transformers import GenerationMixin

    takes = inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters
    return NEW if NEW in takes else OLD
