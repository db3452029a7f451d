"""The user's own translations: `translated/<dataset>/<lang>.jsonl` adds a language to a dataset.

Each line is a JSON object with the `id` of an English row and its `prompt`. `english_sha256` may
say which English prompt that is the translation of, since another one may have taken its id
(`data add --replace`). Other fields are not read. A file may have fewer rows than English has, but
no others.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyrefuse_shared.log import warn_once
from polyrefuse_shared.reading import parse_json, read_bytes
from polyrefuse_tasks.data import cache
from polyrefuse_tasks.data.errors import BrokenData

FOLDER = "translated"

AT_MOST = 2**28
"""The largest size of a translation, in bytes."""

CODE = re.compile(r"[a-z]{2,3}([_-][A-Za-z0-9]{2,8})*")
"""The form of a language code."""


def relative(dataset: str, language: str) -> str:
    """Return the path of a translation, relative to the mirror or the cache."""
    return f"{FOLDER}/{dataset}/{language}.jsonl"


def path(dataset: str, language: str) -> Path:
    """Return the path at which a translation is expected, whether or not it exists."""
    return cache.home() / relative(dataset, language)


def languages(dataset: str) -> tuple[str, ...]:
    """List the languages that the user's own translations add to a dataset, sorted.

    A path that is not a file, or is not named by a language code, is left out with a warning.
    """
    found = []
    for file in path(dataset, "xx").parent.glob("*.jsonl"):
        if CODE.fullmatch(file.stem) and os.path.isfile(file):
            found.append(file.stem)
        else:
            warn_once(
                f"{str(file)!a} is not a translation that can be used: name the file by the code "
                "of its language, such as da.jsonl, or move it away."
            )
    return tuple(sorted(found))


def checksum(prompt: str) -> str:
    """Return what `english_sha256` is for an English prompt."""
    return hashlib.sha256(prompt.encode()).hexdigest()


def is_of(row: Mapping[str, Any], prompt: str) -> bool:
    """Whether a row may translate this English prompt; one that does not say of which may."""
    return row.get("english_sha256") in (None, checksum(prompt))


def read(file: Path, english: Mapping[str, str] | None = None) -> dict[str, str]:
    """Read the prompts of a translation by id, in the file's order.

    Args:
        file: the translation.
        english: id -> prompt of the English rows, which are the only ones allowed; None allows any.

    Raises:
        BrokenData: the file cannot be read, or a line is not UTF-8, is not a JSON object with an
            `id` and a non-empty `prompt`, has an id that is unknown or occurred before, or
            translates another English prompt than the one that has this id now. The message names
            the file or the line.
    """
    prompts: dict[str, str] = {}
    try:
        content = read_bytes(file, AT_MOST)
    except OSError as error:
        raise BrokenData(
            f"{file} cannot be read ({error.strerror}): correct or remove it."
        ) from None
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            row = parse_json(line.decode("utf-8"))
            id_, prompt = row["id"], row["prompt"]
        except UnicodeDecodeError as error:
            raise BrokenData(f"{where} is not UTF-8 text: correct or remove the line.") from error
        except (ValueError, KeyError, TypeError) as error:
            raise BrokenData(
                f"{where} is not a JSON object with `id` and `prompt`: correct or remove the line."
            ) from error
        if not isinstance(id_, str) or (english is not None and id_ not in english):
            raise BrokenData(
                f"{where} has the id {id_!r}, which no English row has: correct or remove the line."
            )
        if id_ in prompts:
            raise BrokenData(f"{where} has the id {id_!r} a second time: remove one of the lines.")
        if not isinstance(prompt, str) or not prompt.strip():
            raise BrokenData(f"{where} has an empty prompt: translate or remove the line.")
        if english is not None and not is_of(row, english[id_]):
            raise BrokenData(
                f"{where} translates another English prompt than {id_} is now, since the dataset "
                "was replaced: remove the file, and translate the dataset again."
            )
        prompts[id_] = prompt
    return prompts
