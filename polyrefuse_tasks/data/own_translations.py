"""Translations of one's own: `translated/<dataset>/<lang>.jsonl` adds a language to a data set.

Each line is a JSON object with an `id` of the English rows and its `prompt`; other fields are the
translator's own. A file may hold fewer rows than English has, never others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

from polyrefuse_shared.log import warn_once
from polyrefuse_shared.reading import parse_json, read_bytes
from polyrefuse_tasks.data import cache
from polyrefuse_tasks.data.errors import BrokenData

FOLDER = "translated"

AT_MOST = 2**28
"""Bytes of a translation, at most."""

CODE = re.compile(r"[a-z]{2,3}([_-][A-Za-z0-9]{2,8})*")
"""A language's code."""


def relative(dataset: str, language: str) -> str:
    """The path of a translation, relative to the mirror or the cache."""
    return f"{FOLDER}/{dataset}/{language}.jsonl"


def path(dataset: str, language: str) -> Path:
    """Where a translation is looked for, whether it is there or not."""
    return cache.home() / relative(dataset, language)


def languages(dataset: str) -> tuple[str, ...]:
    """The languages that translations of one's own give a data set, sorted.

    What is no file, or has no language's code for a name, is left out with a warning.
    """
    found = []
    for file in path(dataset, "xx").parent.glob("*.jsonl"):
        if CODE.fullmatch(file.stem) and os.path.isfile(file):
            found.append(file.stem)
        else:
            warn_once(
                f"{str(file)!a} is no translation of one's own: name a file by its language's "
                "code, such as da.jsonl, or move it away."
            )
    return tuple(sorted(found))


def read(file: Path, ids: Collection[str] | None = None) -> dict[str, str]:
    """The prompts of a translation by id, in the file's order.

    Args:
        ids: the ids of the English rows, which a line has to be one of; any where None.

    Raises:
        BrokenData: naming the file that cannot be read, or the line that is not UTF-8, not a JSON
            object with an `id` and a `prompt` that is not empty, of an unknown id, or of an id that
            came before.
    """
    prompts: dict[str, str] = {}
    try:
        content = read_bytes(file, AT_MOST)
    except OSError as error:
        raise BrokenData(f"{file} cannot be read ({error.strerror}): mend or remove it.") from None
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            row = parse_json(line.decode("utf-8"))
            id_, prompt = row["id"], row["prompt"]
        except UnicodeDecodeError as error:
            raise BrokenData(f"{where} is not UTF-8 text: mend or remove the line.") from error
        except (ValueError, KeyError, TypeError) as error:
            raise BrokenData(
                f"{where} is not a JSON object with `id` and `prompt`: mend or remove the line."
            ) from error
        if not isinstance(id_, str) or (ids is not None and id_ not in ids):
            raise BrokenData(
                f"{where} has the id {id_!r}, which no English row has: mend or remove the line."
            )
        if id_ in prompts:
            raise BrokenData(f"{where} has the id {id_!r} a second time: remove one of the lines.")
        if not isinstance(prompt, str) or not prompt.strip():
            raise BrokenData(f"{where} has an empty prompt: translate or remove the line.")
        prompts[id_] = prompt
    return prompts
