"""Translations of one's own: `translated/<dataset>/<lang>.jsonl` adds a language to a data set.

Each line is a JSON object with an `id` of the English rows and its `prompt`; other fields are the
translator's own. A file may hold fewer rows than English has, never others.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from polyrefuse_tasks.data import cache
from polyrefuse_tasks.data.errors import BrokenData

FOLDER = "translated"


def relative(dataset: str, language: str) -> str:
    """The path of a translation, relative to the mirror or the cache."""
    return f"{FOLDER}/{dataset}/{language}.jsonl"


def path(dataset: str, language: str) -> Path:
    """Where a translation is looked for, whether it is there or not."""
    return cache.home() / relative(dataset, language)


def languages(dataset: str) -> tuple[str, ...]:
    """The languages that translations of one's own give a data set, sorted."""
    return tuple(sorted(file.stem for file in path(dataset, "*").parent.glob("*.jsonl")))


def read(file: Path, ids: Collection[str]) -> dict[str, str]:
    """The prompts of a translation by id, in the file's order.

    Args:
        ids: the ids of the English rows, which a line has to be one of.

    Raises:
        BrokenData: naming the file and the line that is not UTF-8, not a JSON object with an `id`
            and a `prompt` that is not empty, of an unknown id, or of an id that came before.
    """
    prompts: dict[str, str] = {}
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            row = json.loads(line.decode("utf-8"))
            id_, prompt = row["id"], row["prompt"]
        except UnicodeDecodeError as error:
            raise BrokenData(f"{where} is not UTF-8 text: mend or remove the line.") from error
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise BrokenData(
                f"{where} is not a JSON object with `id` and `prompt`: mend or remove the line."
            ) from error
        if not isinstance(id_, str) or id_ not in ids:
            raise BrokenData(
                f"{where} has the id {id_!r}, which no English row has: mend or remove the line."
            )
        if id_ in prompts:
            raise BrokenData(f"{where} has the id {id_!r} a second time: remove one of the lines.")
        if not isinstance(prompt, str) or not prompt.strip():
            raise BrokenData(f"{where} has an empty prompt: translate or remove the line.")
        prompts[id_] = prompt
    return prompts
