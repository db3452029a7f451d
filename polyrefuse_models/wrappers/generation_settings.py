"""Find out which generation settings a run's answers were made with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polyrefuse_shared.lm_eval_internals import asked_of_lm_eval
from polyrefuse_tasks.generation_settings import SAMPLING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lm_eval.api.instance import Instance


def requested(settings: Mapping[str, Any], max_gen_toks: int) -> dict[str, Any]:
    """Return a request's settings as lm-eval's models read them.

    Args:
        settings: the second argument of a `generate_until` request.
        max_gen_toks: the largest number of tokens in an answer if the request names none.
    """
    from lm_eval.models.utils import normalize_gen_kwargs

    return dict(normalize_gen_kwargs(settings, max_gen_toks))


def effective(start: Mapping[str, Any], requests: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the settings that every answer of a run was made with.

    Args:
        start: the settings if a request names nothing (`neutral_generation.settings_of`).
        requests: the different settings of the requests. If all answers came from a cache, there
            are none, and the settings of `--gen_kwargs` are used.

    Returns:
        One value for each setting. A setting in which the tasks differ is left out, because the
        `generation_kwargs` of each task have its value. If nothing is sampled, the settings of
        sampling are left out too.
    """
    named = asked_of_lm_eval("gen_kwargs")
    every = [
        {**start, **request} for request in requests or [named if isinstance(named, dict) else {}]
    ]
    shared = {
        name: value
        for name, value in every[0].items()
        if all(name in other and other[name] == value for other in every)
    }
    sampled = any(settings["do_sample"] for settings in every)
    return {name: value for name, value in shared.items() if sampled or name not in SAMPLING}


def kept_otherwise(requests: Sequence[Instance]) -> Iterator[str]:
    """Yield a sentence for each task whose requests have other settings than the run states.

    lm-eval's `--cache_requests` keeps requests with their settings, and finds them again by their
    task alone. A later `--gen_kwargs` is then in the results, although the answers ignored it.
    """
    tasks = asked_of_lm_eval("eval_tasks") or {}
    warned = set[str]()
    for request in requests:
        name, made = request.task_name, request.args[1]
        if name in warned or name not in tasks:
            continue
        claimed = tasks[name].config.generation_kwargs or {}
        differing = [
            key for key in made.keys() | claimed.keys() if made.get(key) != claimed.get(key)
        ]
        if differing:
            warned.add(name)
            settings = ", ".join(
                f"{key}={made.get(key)} (the run states {claimed.get(key)})"
                for key in sorted(differing)
            )
            yield (
                f"The answers of {name} were made with {settings}, because --cache_requests kept "
                "its requests and their settings from an earlier run; run it again with "
                "--cache_requests refresh."
            )
