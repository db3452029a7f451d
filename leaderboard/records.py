"""The records of a leaderboard, one for each cell, and their JSON (see `schema.json`) and CSV."""

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
"""The version of the JSON document. Each new field of a record makes a new version."""

Kind = Literal["safety", "capability"]
"""What a record holds: a rate of this package's tasks, or the value of another lm-eval task."""

SAFETY: Kind = "safety"
CAPABILITY: Kind = "capability"

MEAN = "mean"
"""The `language` of a record that averages a metric over the languages of a dataset.

Every language has the same weight, and the record's `n` is the sum over the languages."""


class BadRecords(UserError):
    """A document does not hold records that this version can read."""


@dataclass(frozen=True, slots=True)
class Record:
    """A rate of a model in a condition, on a dataset in a language, by a judge.

    A record of capability holds the value of another lm-eval task, in the unit of that task. It has
    no language and no judge (both are ""), and its value need not be a share.

    Attributes:
        model: the model's name on the hub, the path of its folder, or the name that an API gives
            it.
        revision: the revision of the weights and the arguments that change them, for example
            `main load_in_4bit=True`.
        condition: what was done to the model: baseline, ablation, addition, mcd, system-prompt, ...
        intervention: the checksum of the direction, prompt or system text with its settings; "" if
            there was no intervention.
        generation: the checksum of the settings that the answers were generated with.
        dataset: the dataset, for example `harmful`; for capability the task or the group, for
            example `mmlu`.
        language: the ISO 639-1 code, or `MEAN`.
        judge: the judge that labelled the answers.
        metric: the name of the rate, for example `asr`; for capability lm-eval's name for the
            metric, with its filter if it has one, for example `acc` or `exact_match,strict-match`.
        value: a number from 0 to 1; for capability any number.
        n: the number of prompts, or of pairs for the discrimination rate; never 0.
        low: the lower end of the value's 95% interval.
        high: the upper end of that interval.
        run: the folder and the date of the results file that the value comes from.
        kind: whether the record is one of safety or one of capability.
        higher_is_better: whether a higher value is better. It is None for the metrics of safety
            other than the discrimination rate, whose names say it, and where lm-eval does not say
            it.
        difference: the value minus that of the same model's baseline; None for a baseline, and
            where no baseline can be compared.
        difference_low: the lower end of the difference's 95% interval.
        difference_high: the upper end of that interval.
        pairs: the number of documents, or of pairs of prompts, that both values have, if the
            difference is paired by them; otherwise None.
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
        """Whether the whole interval of the difference lies on the worse side of zero."""
        if self.difference_low is None or self.difference_high is None:
            return False
        if self.higher_is_better is None:
            return False
        return self.difference_high < 0 if self.higher_is_better else self.difference_low > 0


FIELDS: tuple[str, ...] = tuple(field.name for field in fields(Record))
"""The fields of a record, which are the columns of the CSV, in order."""

_VALUES: Callable[[Record], tuple[Any, ...]] = attrgetter(*FIELDS)
"""Returns the values of a record in the order of `FIELDS`."""

_SHARED_FROM = FIELDS.index("kind")
"""The index of the first field that has the same value in nearly all records of safety."""

_ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def to_json(records: Iterable[Record], warnings: Sequence[Mapping[str, Any]] = ()) -> str:
    """Return the document that `schema.json` describes, with one record on each line.

    Args:
        records: all records.
        warnings: the warnings of the rates, as `schema.json` describes them. They stand beside the
            records, because the fields of a record are fixed.
    """
    lines = map(_line, map(_VALUES, records))
    beside = ",\n".join(map(_ENCODE, warnings))
    ending = f',\n"warnings": [\n{beside}\n]' if warnings else ""
    return f'{{"schema": {SCHEMA}, "records": [\n' + ",\n".join(lines) + f"\n]{ending}}}\n"


def _line(values: tuple[Any, ...]) -> str:
    """Return a record as JSON, from its values in the order of `FIELDS`."""
    of_cell = dict(zip(FIELDS[:_SHARED_FROM], values[:_SHARED_FROM], strict=True))
    return f"{_ENCODE(of_cell)[:-1]}, {_shared_end(values[_SHARED_FROM:])}"


@lru_cache
def _shared_end(values: tuple[Any, ...]) -> str:
    """Return the end of a record's line, which hundreds of thousands of rates share."""
    return _ENCODE(dict(zip(FIELDS[_SHARED_FROM:], values, strict=True)))[1:]


def from_json(text: str) -> list[Record]:
    """Read a document that `to_json` wrote in this version or an earlier one.

    Schema 1 had only safety, and none of the fields after `run`.

    Raises:
        BadRecords: the text is not such a document, or its version is later than this one. The
            message names the record, counted from 1.
    """
    try:
        document: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise BadRecords("The records are not JSON; write them again with build.") from None
    if not isinstance(document, dict) or not isinstance(document.get("records"), list):
        raise BadRecords(
            'The document is not of the form {"schema": ..., "records": [...]}; name a '
            "leaderboard.json."
        )
    version = document.get("schema")
    if type(version) is not int or not 1 <= version <= SCHEMA:
        raise BadRecords(
            f"The records have schema {reprlib.repr(version)}, and this version reads 1 to "
            f"{SCHEMA}; write them again with build, or install the version that wrote them."
        )
    return [_record(entry, number, version) for number, entry in enumerate(document["records"], 1)]


def to_csv(records: Iterable[Record]) -> str:
    """Return the records as CSV, with a line of names and then one line for each record.

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
"""Type of a field -> a check of a value, and a description of the values that pass it."""

_SHARE: _Form = (_is_share, "a number from 0 to 1")
"""The check and the description of a rate and of the ends of its interval."""

_MIGRATIONS: Mapping[int, Mapping[str, Any]] = {
    1: {field.name: field.default for field in fields(Record) if field.default is not MISSING},
}
"""Earlier version -> the fields that it lacks, and their values in its records."""


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
            raise BadRecords(f"Record {number} has no {field.name}; correct or remove it.")
        value = entry[field.name]
        is_share = field.type == "float" and entry.get("kind") == SAFETY
        fits, expected = _SHARE if is_share else _FORMS[str(field.type)]
        if not fits(value):
            raise BadRecords(
                f"Record {number}: {field.name} is {reprlib.repr(value)}, not {expected}; correct "
                "or remove it."
            )
    record = Record(**entry)
    if record.low > record.high:
        raise BadRecords(
            f"Record {number}: low is {record.low}, above high, {record.high}; correct or remove "
            "it."
        )
    ends = record.difference, record.difference_low, record.difference_high
    if ends != (None, None, None) and None in ends:
        raise BadRecords(
            f"Record {number} has only some of difference, difference_low and difference_high; "
            "correct or remove it."
        )
    return record
