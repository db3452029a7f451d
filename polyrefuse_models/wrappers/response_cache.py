"""Make lm-eval's response cache safe for models that differ by an intervention.

lm-eval finds an answer by its request alone, so it would serve a baseline's answers to the ablated
model. The wrappers write into the cache what an answer depends on, and refuse a cache that another
model or condition wrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.lm_eval_internals import CacheHook

CONDITION_KEY = "polyrefuse_condition"


class WrongCache(UserError):
    """A response cache that another model or condition wrote."""


def claim_cache(cache: Any, identity: dict[str, Any]) -> None:
    """Record in a response cache which model and condition write it.

    Args:
        cache: lm-eval's cache, a dictionary on disk.
        identity: what the answers of this model depend on.

    Raises:
        WrongCache: the cache has answers that were written with another identity, or with none.
    """
    mine = json.dumps(identity, sort_keys=True)
    recorded = cache.get(CONDITION_KEY)
    if recorded == mine:
        return
    if recorded is not None or next(iter(cache.keys()), None) is not None:
        theirs = "no recorded condition" if recorded is None else _difference(recorded, identity)
        raise WrongCache(
            f"The response cache {getattr(cache, 'filename', '')} was written with {theirs}; give "
            "each model and condition its own --use_cache path."
        )
    cache[CONDITION_KEY] = mine
    cache.commit()


class AnswersByRequest:
    """A cache hook that stores an answer under lm-eval's request, and not under the rendered one.

    Attributes:
        settings: the settings of the requests. None if the engine passes them on unchanged, which
            lm-eval's VLLM does not.
    """

    def __init__(
        self, hook: CacheHook, original: dict[str, str], finish: Callable[[str, str], str]
    ) -> None:
        self._hook, self._original, self._finish = hook, original, finish
        self.dbdict = hook.dbdict
        self.settings: dict[str, Any] | None = None

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        context, settings = req
        if self.settings is not None:
            settings = self.settings
        answer = self._finish(context, res)
        self._hook.add_partial(attr, (self._original[context], settings), answer)


def _difference(recorded: str, identity: dict[str, Any]) -> str:
    """Describe in words how the recorded identity differs."""
    theirs, mine = flat(json.loads(recorded)), flat(json.loads(json.dumps(identity)))
    keys = [key for key in sorted(theirs.keys() | mine.keys()) if theirs.get(key) != mine.get(key)]
    return ", ".join(f"{key}={short(theirs.get(key))} (now {short(mine.get(key))})" for key in keys)


def flat(identity: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Flatten an identity, so that each key has one value: `generation_settings.num_beams`."""
    one: dict[str, Any] = {}
    for key, value in identity.items():
        one |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return one


def short(value: Any) -> str:
    """Write a value for a sentence. A checksum is cut to its first 12 digits."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b", r"\1…", str(value))
