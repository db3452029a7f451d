"""A model's key-value cache, under both of the names that transformers has for it.

transformers calls it `past_key_values` up to 5.23 and `cache` from 5.24 on, as an argument of
forward passes and of `generate` and as an entry of what they return. 5.24 still takes the old name,
with a warning; forward passes lose it in 5.40 and `generate` in 6.0.
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
    """The cache that a forward pass returned, if several rows can go on from it; else None.

    They can from keys and values. What a recurrent mixer keeps is its state behind the last token:
    transformers has nothing to repeat or to choose the rows of that, and Bamba, Jamba, Zamba and
    MiniMax go on from it rightly with one token at a time only (5.23).
    """
    from transformers import DynamicCache

    cache = next((output[name] for name in (NEW, OLD) if name in output), None)
    if type(cache) is not DynamicCache:
        return None
    recurrent = any(hasattr(layer, "recurrent_states") for layer in cache.layers)
    return None if recurrent else cache


def lent(cache: Cache, times: int = 1) -> Cache:
    """A cache that a forward pass may append to while `cache` stays what it is.

    The keys and values themselves are shared, not copied: appending makes new ones.

    Args:
        cache: a `shared_cache`.
        times: how often each of its rows is there, one behind the other.
    """
    layers: list[Any] = cache.layers
    shared = (part for layer in layers for part in (layer.keys, layer.values))
    copied = copy.deepcopy(cache, {id(part): part for part in shared})
    if times > 1:
        copied.batch_repeat_interleave(times)
    return copied


def with_cache(call: Callable[..., Any], cache: Cache | None) -> dict[str, Cache | None]:
    """The keyword argument with which a forward pass or `generate` is given a cache.

    Args:
        call: a model, or its `generate`.
        cache: None begins a new one.
    """
    takes = inspect.signature(getattr(call, "forward", call)).parameters
    return {next((name for name in (NEW, OLD) if name in takes), _usual()): cache}


def _usual() -> str:
    """What the installed transformers calls it; `generate` and adapters do not name it."""
    from transformers import GenerationMixin

    takes = inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters
    return NEW if NEW in takes else OLD
