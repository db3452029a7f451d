"""Read the published files (JSON, text and CSV) into entries of one form.

A test file has the English text beside each translation, and its prompts are paired with the
English ones by that text. Train and validation files and plain lists do not have it, so their
prompts are paired by position.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from polyrefuse_tasks.data.errors import BrokenData


@dataclass(frozen=True)
class Entry:
    """One prompt of a published file.

    Attributes:
        prompt: the text of the prompt.
        english: the English text; None if the file does not have it.
        category: the category that the source gives; None without one.
        harmful: which of two datasets in one file the prompt belongs to; None for a file with one.
    """

    prompt: str
    english: str | None
    category: str | None
    harmful: bool | None = None


def read(path: Path, language: str) -> list[Entry]:
    """Read the prompts of a published file, in its order.

    Args:
        path: a `.json`, `.txt` or `.csv` file.
        language: the column to read in a file with one column for each language.

    Raises:
        BrokenData: the file is not UTF-8, is cut short, lacks a field or has an empty prompt.
    """
    try:
        # utf-8-sig: MultiJail.csv starts with a byte-order mark.
        entries = _READERS[path.suffix](path.read_bytes().decode("utf-8-sig"), language)
    except UnicodeDecodeError as error:
        raise BrokenData(f"{path} is not UTF-8 text (byte {error.start}): {_MEND}.") from error
    except json.JSONDecodeError as error:
        raise BrokenData(
            f"{path} is not complete JSON (line {error.lineno}: {error.msg}): {_MEND}."
        ) from error
    except (KeyError, TypeError, AttributeError, csv.Error) as error:
        raise BrokenData(
            f"{path} does not have the fields of a prompt file in {language!r}: {_MEND}."
        ) from error
    if not entries:
        raise BrokenData(f"{path} holds no prompts: {_MEND}.")
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry.prompt, str) or not entry.prompt.strip():
            raise BrokenData(f"{path} has no prompt in its row {number}: {_MEND}.")
    return entries


_MEND = "delete it and fetch it again with `polyrefuse data fetch`"


def _json(text: str, language: str) -> list[Entry]:
    return [
        Entry(row["instruction_translated"], row["instruction"], row["category"])
        if "instruction_translated" in row
        else Entry(row["instruction"], None, row["category"])
        for row in json.loads(text)
    ]


def _lines(text: str, language: str) -> list[Entry]:
    # splitlines() would also split at characters that may occur inside a prompt.
    return [Entry(line, None, None) for line in text.removesuffix("\n").split("\n")]


def _table(text: str, language: str) -> list[Entry]:
    table = csv.DictReader(io.StringIO(text))
    read = _labelled if "label" in (table.fieldnames or ()) else _multilingual
    return read(list(table), language)


def _multilingual(rows: list[dict[str, str]], language: str) -> list[Entry]:
    """Read MultiJail's table, which has one column for each language."""
    return [Entry(row[language], row["en"], row["tags"]) for row in rows]


_LABELS = {"safe": False, "unsafe": True}


def _labelled(rows: list[dict[str, str]], language: str) -> list[Entry]:
    """Read XSTest's table, which has harmless and harmful prompts with a label."""
    return [Entry(row["prompt"], None, row["type"], _LABELS[row["label"]]) for row in rows]


_READERS: dict[str, Callable[[str, str], list[Entry]]] = {
    ".json": _json,
    ".txt": _lines,
    ".csv": _table,
}
