"""The records of a leaderboard, one a cell, written as JSON (see `schema.json`) or CSV."""

from __future__ import annotations

import csv
import io
import json
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from polyrefuse_shared.errors import UserError

SCHEMA = 1
"""Version of the JSON document; a new field of a record is a new version."""

MEAN = "mean"
"""The `language` of a record that averages a metric over a data set's languages, each counting the
same; its `n` is their sum."""


class BadRecords(UserError):
    """A document that is no list of records of this version."""


@dataclass(frozen=True, slots=True)
class Record:
    """A rate of a model under a condition, of a data set in a language, by a judge.

    Attributes:
        model: its name on the hub, the path of a folder, or what an API calls it.
        revision: of its weights, and what changes them (`main load_in_4bit=True`).
        condition: what was done to it: baseline, ablation, addition, mcd, system-prompt, ...
        intervention: checksum of direction, prompt or system text with its settings; "" where
            nothing was done.
        generation: checksum of the settings that answers were made with.
        dataset: its name, as `harmful`.
        language: ISO 639-1 code, or `MEAN`.
        judge: who labelled the answers.
        metric: name of the rate, as `asr`.
        value: 0 to 1.
        n: how many prompts; never 0.
        low: lower end of the value's 95% interval.
        high: its upper end.
        run: folder and date of the results file that it comes from.
    """

    model: str
    revision: str
    condition: str
    intervention: str
    generation: str
    dataset: str
    language: str
    judge: str
    metric: str
    value: float
    n: int
    low: float
    high: float
    run: str


FIELDS: tuple[str, ...] = tuple(field.name for field in fields(Record))
"""A record's fields, which are the columns of the CSV, in order."""


def to_json(records: Iterable[Record], warnings: Sequence[Mapping[str, Any]] = ()) -> str:
    """The document that `schema.json` describes, one record a line.

    Args:
        records: all of them.
        warnings: what they must not be read without, as `schema.json` describes them; they stand
            beside the records, whose fields are fixed.
    """
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    lines = (encode({name: getattr(record, name) for name in FIELDS}) for record in records)
    beside = ",\n".join(map(encode, warnings))
    ending = f',\n"warnings": [\n{beside}\n]' if warnings else ""
    return f'{{"schema": {SCHEMA}, "records": [\n' + ",\n".join(lines) + f"\n]{ending}}}\n"


def from_json(text: str) -> list[Record]:
    """The records of a document that `to_json` wrote.

    Raises:
        BadRecords: it is none, or one of another version; names the record, from 1.
    """
    try:
        document: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise BadRecords("The records are not JSON; write them again with build.") from None
    if not isinstance(document, dict) or not isinstance(document.get("records"), list):
        raise BadRecords('No {"schema": ..., "records": [...]}; name a leaderboard.json.')
    version = document.get("schema")
    if version != SCHEMA or isinstance(version, bool):
        raise BadRecords(
            f"The records have schema {reprlib.repr(version)}, and this version reads {SCHEMA}; "
            "write them again with build, or install the version that wrote them."
        )
    return [_record(entry, number) for number, entry in enumerate(document["records"], 1)]


def to_csv(records: Iterable[Record]) -> str:
    """One line a record under a line of names.

    A text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(FIELDS)
    writer.writerows([_inert(getattr(record, name)) for name in FIELDS] for record in records)
    return file.getvalue()


def _inert(value: Any) -> Any:
    formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if formula else value


def _is_share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "str": (_is_text, "a string"),
    "float": (_is_share, "a number from 0 to 1"),
    "int": (_is_count, "a whole number above 0"),
}
"""Type of a field -> whether a value fits it, and what the value should be."""


def _record(entry: Any, number: int) -> Record:
    if not isinstance(entry, dict):
        raise BadRecords(f"Record {number} is {reprlib.repr(entry)}, not an object; remove it.")
    unknown = sorted(entry.keys() - set(FIELDS))
    if unknown:
        raise BadRecords(
            f"Record {number} has a field {unknown[0]!r} that schema {SCHEMA} lacks; remove it."
        )
    for field in fields(Record):
        fits, expected = _KINDS[str(field.type)]
        if field.name not in entry:
            raise BadRecords(f"Record {number} has no {field.name}; mend or remove it.")
        value = entry[field.name]
        if not fits(value):
            raise BadRecords(
                f"Record {number}: {field.name} is {reprlib.repr(value)}, not {expected}; mend or "
                "remove it."
            )
    record = Record(**entry)
    if record.low > record.high:
        raise BadRecords(
            f"Record {number}: low is {record.low}, above high, {record.high}; mend or remove it."
        )
    return record
