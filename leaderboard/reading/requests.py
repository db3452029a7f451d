"""Compare the request of a sample with the settings that the results claim.

lm-eval's `--cache_requests` stores requests with their generation settings, under a key that does
not depend on these settings. A later `--gen_kwargs` therefore changes the results file and not the
requests.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any

from polyrefuse_tasks.saved_results.documents import printable

TOKENS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""The names of the same setting. The first of them that is given holds (lm-eval's
`models.utils.normalize_gen_kwargs`)."""

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "typical_p")
"""The settings that do not change a greedy answer."""

UNSET = "not set"


def effective(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Normalise generation settings so that settings with the same effect compare as equal.

    Args:
        settings: a task's `generation_kwargs`, or the second argument of a request.
    """
    plain = {name: _plain(value) for name, value in settings.items() if value is not None}
    until = plain.pop("until", None) or []
    plain["until"] = sorted(map(str, until if isinstance(until, list) else [until]))
    tokens = [plain.pop(name) for name in TOKENS if name in plain]
    if tokens:
        plain[TOKENS[0]] = tokens[0]
    if not plain.setdefault("do_sample", bool(plain.get("temperature"))):
        plain = {name: value for name, value in plain.items() if name not in SAMPLING}
    return plain


def difference(sample: Mapping[str, Any], claimed: Mapping[str, Any]) -> str | None:
    """Describe the first setting that differs between a sample's request and the results.

    Args:
        sample: a line of samples_*.jsonl.
        claimed: the `effective` settings of the task in the results.

    Returns:
        The name of the setting with both values. None if no setting differs, and if the sample
        records no settings, as those of programs other than lm-eval 0.4 may not.
    """
    recorded = _argument(sample, 1)
    if not isinstance(recorded, dict) or not recorded:
        return None
    asked = effective(recorded)
    for name in sorted(asked.keys() | claimed.keys()):
        used, claim = asked.get(name, UNSET), claimed.get(name, UNSET)
        if used != claim:
            named = printable(name)
            return (
                f"{named} is {_printed(used)} in the request and {_printed(claim)} in the results"
            )
    return None


def lacks_prompt(sample: Mapping[str, Any], prompt: Any) -> bool:
    """Return whether the prompt is missing from the text that the model of a sample received.

    A model of this package receives the prompt and renders it itself. Any other model receives the
    text that lm-eval rendered with the chat template, which may have lost the prompt. White space
    is ignored, because templates strip it.
    """
    given = _argument(sample, 0)
    if not given or not isinstance(prompt, str):
        return False
    # A chat API receives JSON, in which letters that are not ASCII may be escaped.
    wanted = {json.dumps(prompt)[1:-1], json.dumps(prompt, ensure_ascii=False)[1:-1], prompt}
    text = _packed(" ".join(_texts(given)))
    return not any(_packed(each) in text for each in wanted)


def _argument(sample: Mapping[str, Any], place: int) -> Any:
    requests = sample.get("arguments")
    first = requests.get("gen_args_0") if isinstance(requests, dict) else None
    return first.get(f"arg_{place}") if isinstance(first, dict) else None


def _texts(given: Any) -> Iterator[str]:
    """Yield every text in a prompt, which is a text or a list of chat messages."""
    if isinstance(given, str):
        yield given
    elif isinstance(given, (list, dict)):
        for part in given.values() if isinstance(given, dict) else given:
            yield from _texts(part)


def _plain(value: Any) -> Any:
    """Convert a text that is a number to that number. Other values stay as they are."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _printed(value: Any) -> str:
    return value if value is UNSET else reprlib.repr(value)


def _packed(text: str) -> str:
    return "".join(text.split())
