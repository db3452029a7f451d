"""`leaderboard/records.py`: what is written can be read, by a schema, and nothing else is taken."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from polyrefuse_leaderboard.records import (
    FIELDS,
    MEAN,
    BadRecords,
    Record,
    from_json,
    to_csv,
    to_json,
)

from polyrefuse_tasks import metrics

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "leaderboard" / "schema.json").read_text(encoding="utf-8")
)

RECORD = Record(
    model="invented/model",
    revision="main",
    condition="ablation",
    intervention="0123456789abcdef",
    generation="fedcba9876543210",
    dataset="harmful",
    language="de",
    judge="native",
    metric="asr",
    value=0.25,
    n=4,
    low=0.0456,
    high=0.6994,
    run="invented__model/2026-01-01T00-00-00.000001",
)


CAPABILITY = replace(
    RECORD,
    dataset="wikitext",
    language="",
    judge="",
    metric="word_perplexity",
    value=12.5,
    n=62,
    low=11.25,
    high=14.0,
    kind="capability",
    higher_is_better=False,
    difference=1.5,
    difference_low=0.5,
    difference_high=2.75,
    pairs=62,
)

LATER = ("kind", "higher_is_better", "difference", "difference_low", "difference_high", "pairs")
"""The fields that schema 2 added, in its order."""


def test_json_is_read_back_as_it_was_written() -> None:
    records = [
        RECORD,
        CAPABILITY,
        replace(RECORD, language=MEAN, value=1 / 3, model='"; <b>ｍ</b>\\n'),
    ]
    assert from_json(to_json(records)) == records
    assert from_json(to_json([])) == []


def test_json_follows_the_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(json.loads(to_json([RECORD, CAPABILITY])), SCHEMA)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(RECORD, value=1.5, high=2.0),
        replace(RECORD, metric="acc"),
        replace(RECORD, judge=""),
        replace(CAPABILITY, language="de"),
        replace(CAPABILITY, pairs=0),
        replace(CAPABILITY, kind="other"),  # type: ignore[arg-type]
    ],
)
def test_the_schema_holds_safety_and_capability_apart(wrong: Record) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(to_json([wrong])), SCHEMA)


def test_records_of_schema_1_are_migrated() -> None:
    """As the version before wrote them: the first 14 fields, and `"schema": 1`."""
    entry = {name: getattr(RECORD, name) for name in FIELDS if name not in LATER}
    assert len(entry) == 14
    read = from_json(json.dumps({"schema": 1, "records": [entry], "warnings": []}))
    assert read == [RECORD]
    assert (read[0].kind, read[0].difference, read[0].pairs) == ("safety", None, None)
    # Written again it is of schema 2.
    assert json.loads(to_json(read))["schema"] == 2
    with pytest.raises(BadRecords, match="a field 'kind' that schema 1 lacks"):
        from_json(json.dumps({"schema": 1, "records": [entry | {"kind": "safety"}]}))


@pytest.mark.parametrize(
    ("higher_is_better", "low", "high", "fell"),
    [
        (True, -0.3, -0.1, True),
        (True, -0.3, 0.0, False),
        (True, 0.1, 0.3, False),
        (False, 0.1, 0.3, True),
        (False, 0.0, 0.3, False),
        (False, -0.3, -0.1, False),
        (None, -0.3, -0.1, False),
        (True, None, None, False),
    ],
)
def test_it_fell_where_the_interval_is_on_the_worse_side(
    higher_is_better: bool | None, low: float | None, high: float | None, fell: bool
) -> None:
    record = replace(
        CAPABILITY, higher_is_better=higher_is_better, difference_low=low, difference_high=high
    )
    assert record.fell is fell


def test_the_schema_describes_every_field_and_metric() -> None:
    described = SCHEMA["$defs"]["record"]["properties"]
    names = [field.name for field in fields(Record)]
    assert list(described) == SCHEMA["$defs"]["record"]["required"] == names
    assert all(entry["description"] for entry in described.values())
    of_tasks = {
        rate
        for harmful in (True, False)
        for rate in (*metrics.rates(harmful), *metrics.sampled_rates(harmful))
    }
    capability = SCHEMA["$defs"]["capability"]
    assert list(capability["properties"]) == capability["required"] == names
    assert set(described["metric"]["enum"]) == of_tasks | {
        *("asr_harmful", "asr_harmful_any", "loophole_rate", "discrimination_rate"),
    }


def test_csv_has_a_column_a_field() -> None:
    text = to_csv([replace(RECORD, model='a "quoted", name')])
    (row,) = csv.DictReader(io.StringIO(text))
    assert list(row) == list(FIELDS)
    assert row["model"] == 'a "quoted", name'
    assert (float(row["value"]), int(row["n"])) == (0.25, 4)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@f()", "\tx", "\rx"])
def test_csv_holds_no_formula(name: str) -> None:
    (row,) = csv.DictReader(io.StringIO(to_csv([replace(RECORD, model=name)]), newline=""))
    assert row["model"] == f"'{name}"


def _document(of: Record = RECORD, **changed: Any) -> str:
    entry = {name: getattr(of, name) for name in FIELDS} | changed
    return json.dumps({"schema": 2, "records": [entry]})


def _without(name: str) -> str:
    document = json.loads(_document())
    del document["records"][0][name]
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        (to_json([RECORD])[:-20], "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not of the form"),
        ('{"schema": 1}', "not of the form"),
        ('{"schema": 1, "records": {}}', "not of the form"),
        ('{"records": []}', "schema None"),
        ('{"schema": 3, "records": []}', "schema 3, and this version reads 1 to 2"),
        ('{"schema": 0, "records": []}', "schema 0"),
        ('{"schema": 2.0, "records": []}', "schema 2.0"),
        ('{"schema": "2", "records": []}', "schema '2'"),
        ('{"schema": true, "records": []}', "schema True"),
        ('{"schema": 1, "records": [7]}', "Record 1 is 7, not an object"),
        (_document(value=float("nan")), "value is nan, not a number from 0 to 1"),
        (_document(value=float("inf")), "value is inf"),
        (_document(value=-0.1), "value is -0.1"),
        (_document(value="0.5"), "value is '0.5'"),
        (_document(value=True), "value is True"),
        (_document(n=0), "n is 0, not a whole number above 0"),
        (_document(n=2.5), "n is 2.5"),
        (_document(model=None), "model is None, not a string"),
        (_document(low=0.9, high=0.1), "low is 0.9, above high"),
        (_document(colour="red"), "a field 'colour' that schema 2 lacks"),
        (_document(kind="other"), "kind is 'other', not one of safety, capability"),
        (_document(kind=["safety"]), "kind is ['safety'], not one of"),
        (_document(CAPABILITY, value=float("inf")), "value is inf, not a number;"),
        (_document(CAPABILITY, difference=None), "some of difference, difference_low"),
        (_document(CAPABILITY, difference="1"), "difference is '1', not a number or null"),
        (_document(CAPABILITY, pairs=0), "pairs is 0, not a whole number above 0 or null"),
        (_document(CAPABILITY, higher_is_better=1), "higher_is_better is 1, not a boolean or null"),
        (_document(CAPABILITY, low=13.0, high=12.0), "low is 13.0, above high"),
        *((_without(name), f"Record 1 has no {name}") for name in FIELDS),
    ],
)
def test_another_document_is_one_clear_sentence(text: str, said: str) -> None:
    with pytest.raises(BadRecords) as error:
        from_json(text)
    message = str(error.value)
    assert said in message
    assert message.endswith(".")
    assert "\n" not in message and len(message) < 200
