"""The records of a leaderboard, one for each cell, as JSON (see `schema.json`) or CSV."""

from __future__ import annotations

import csv
import io
import json
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import lru_cache
from operator import attrgetter
from typing import Any, Literal, get_args

from polyrefuse_shared.errors import UserError
from polyrefuse_tasks.saved_results.documents import is_number

SCHEMA = 2
"""Version of the JSON document; a new field of a record is a new version."""

Kind = Literal["safety", "capability"]
"""What a record is of: a rate of this package's tasks, or the value of another task of lm-eval."""

SAFETY: Kind = "safety"
CAPABILITY: Kind = "capability"

MEAN = "mean"
"""The `language` of a record that averages a metric over a dataset's languages, each counting the
same; its `n` is their sum."""


class BadRecords(UserError):
    """A document is not a list of records that this version reads."""


@dataclass(frozen=True, slots=True)
class Record:
    """A rate of a model under a condition, of a dataset in a language, by a judge.

    A record of capability is the value of another task of lm-eval, in the task's own unit: it has
    no language and no judge ("" both), and need not be a share.

    Attributes:
        model: its name on the hub, the path of a folder, or what an API calls it.
        revision: of its weights, and what changes them (`main load_in_4bit=True`).
        condition: what was done to it: baseline, ablation, addition, mcd, system-prompt, ...
        intervention: checksum of direction, prompt or system text with its settings; "" where
            nothing was done.
        generation: checksum of the settings that answers were made with.
        dataset: its name, as `harmful`; of capability the task or group, as `mmlu`.
        language: ISO 639-1 code, or `MEAN`.
        judge: who labelled the answers.
        metric: name of the rate, as `asr`; of capability lm-eval's, and its filter where it has
            one, as `acc` or `exact_match,strict-match`.
        value: 0 to 1; of capability any number.
        n: how many prompts, of discrimination how many pairs; never 0.
        low: lower end of the value's 95% interval.
        high: its upper end.
        run: folder and date of the results file that it comes from.
        kind: what it is of.
        higher_is_better: whether more of the value is better; None where the metric's name says it
            (safety, but discrimination), or lm-eval does not.
        difference: the value minus that of the same model's baseline; None for a baseline, and
            where there is none that it can be compared with.
        difference_low: lower end of the difference's 95% interval.
        difference_high: its upper end.
        pairs: how many documents, or pairs of prompts, both have, where the difference is paired by
            them; else None.
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
    kind: Kind = SAFETY
    higher_is_better: bool | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    pairs: int | None = None

    @property
    def fell(self) -> bool:
        """Whether the difference's interval lies wholly on the worse side of zero."""
        if self.difference_low is None or self.difference_high is None:
            return False
        if self.higher_is_better is None:
            return False
        return self.difference_high < 0 if self.higher_is_better else self.difference_low > 0


FIELDS: tuple[str, ...] = tuple(field.name for field in fields(Record))
"""A record's fields, which are the columns of the CSV, in order."""

_VALUES: Callable[[Record], tuple[Any, ...]] = attrgetter(*FIELDS)
"""A record's values, in the order of `FIELDS`."""

_SHARED_FROM = FIELDS.index("kind")
"""From here on nearly all records of safety have the same values."""

_ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def to_json(records: Iterable[Record], warnings: Sequence[Mapping[str, Any]] = ()) -> str:
    """The document that `schema.json` describes, one record a line.

    Args:
        records: all of them.
        warnings: what they must not be read without, as `schema.json` describes them; they stand
            beside the records, whose fields are fixed.
    """
    lines = map(_line, map(_VALUES, records))
    beside = ",\n".join(map(_ENCODE, warnings))
    ending = f',\n"warnings": [\n{beside}\n]' if warnings else ""
    return f'{{"schema": {SCHEMA}, "records": [\n' + ",\n".join(lines) + f"\n]{ending}}}\n"


def _line(values: tuple[Any, ...]) -> str:
    """A record as JSON, of its values in the order of `FIELDS`."""
    of_cell = dict(zip(FIELDS[:_SHARED_FROM], values[:_SHARED_FROM], strict=True))
    return f"{_ENCODE(of_cell)[:-1]}, {_shared_end(values[_SHARED_FROM:])}"


@lru_cache
def _shared_end(values: tuple[Any, ...]) -> str:
    """The end of a record's line: hundreds of thousands of rates have the same."""
    return _ENCODE(dict(zip(FIELDS[_SHARED_FROM:], values, strict=True)))[1:]


def from_json(text: str) -> list[Record]:
    """The records of a document that `to_json` wrote, in this version or an earlier one.

    Schema 1 had safety alone, and none of the fields behind `run`.

    Raises:
        BadRecords: it is none, or one of a later version; names the record, from 1.
    """
    try:
        document: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise BadRecords("The records are not JSON; write them again with build.") from None
    if not isinstance(document, dict) or not isinstance(document.get("records"), list):
        raise BadRecords('No {"schema": ..., "records": [...]}; name a leaderboard.json.')
    version = document.get("schema")
    if type(version) is not int or not 1 <= version <= SCHEMA:
        raise BadRecords(
            f"The records have schema {reprlib.repr(version)}, and this version reads 1 to "
            f"{SCHEMA}; write them again with build, or install the version that wrote them."
        )
    return [_record(entry, number, version) for number, entry in enumerate(document["records"], 1)]


def to_csv(records: Iterable[Record]) -> str:
    """One line a record under a line of names.

    A text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(FIELDS)
    writer.writerows(
        [_inert(value) if type(value) is str else value for value in _VALUES(record)]
        for record in records
    )
    return file.getvalue()


def _inert(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _is_share(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


_Form = tuple[Callable[[Any], bool], str]

_FORMS: Mapping[str, _Form] = {
    "str": (lambda value: isinstance(value, str), "a string"),
    "float": (is_number, "a number"),
    "int": (_is_count, "a whole number above 0"),
    "Kind": (lambda value: value in get_args(Kind), f"one of {', '.join(get_args(Kind))}"),
    "bool | None": (lambda value: value is None or isinstance(value, bool), "a boolean or null"),
    "float | None": (lambda value: value is None or is_number(value), "a number or null"),
    "int | None": (
        lambda value: value is None or _is_count(value),
        "a whole number above 0 or null",
    ),
}
"""Type of a field -> whether a value fits it, and what the value should be."""

_SHARE: _Form = (_is_share, "a number from 0 to 1")
"""The same of a rate and its ends."""

_MIGRATIONS: Mapping[int, Mapping[str, Any]] = {
    1: {field.name: field.default for field in fields(Record) if field.default is not MISSING},
}
"""Earlier version -> the fields that it lacked, with what they hold for its records."""


def _record(entry: Any, number: int, version: int) -> Record:
    if not isinstance(entry, dict):
        raise BadRecords(f"Record {number} is {reprlib.repr(entry)}, not an object; remove it.")
    lacked = _MIGRATIONS.get(version, {})
    unknown = sorted(entry.keys() - (set(FIELDS) - lacked.keys()))
    if unknown:
        raise BadRecords(
            f"Record {number} has a field {unknown[0]!r} that schema {version} lacks; remove it."
        )
    entry = {**entry, **lacked}
    for field in fields(Record):
        if field.name not in entry:
            raise BadRecords(f"Record {number} has no {field.name}; mend or remove it.")
        value = entry[field.name]
        is_share = field.type == "float" and entry.get("kind") == SAFETY
        fits, expected = _SHARE if is_share else _FORMS[str(field.type)]
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
    ends = record.difference, record.difference_low, record.difference_high
    if ends != (None, None, None) and None in ends:
        raise BadRecords(
            f"Record {number} has some of difference, difference_low and difference_high alone; "
            "mend or remove it."
        )
    return record
