"""Reading: pipes, devices, sizes, and JSON that cannot be used."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from polyrefuse_shared.reading import MOST_DEPTH, load_json, parse_json, read_bytes


def test_a_regular_file_of_just_the_size_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("a")
    assert read_bytes(tmp_path / "a", at_most=5) == b"12345"
    assert read_bytes(tmp_path / "link", at_most=5) == b"12345"


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for path in (tmp_path / "pipe", tmp_path / "link", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(OSError, match="it is not a regular file"):
            read_bytes(path, at_most=5)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "Is a directory"),
        ("missing", "No such file"),
        ("x" * 5000, "File name too long"),
        ("a\0b", "NUL byte"),
        ("large", r"larger than 4\.77e-06 MiB"),
    ],
)
def test_each_other_reason_is_said(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "large").write_bytes(b"123456")
    with pytest.raises(OSError, match=reason) as refused:
        read_bytes(tmp_path / name, at_most=5)
    assert refused.value.strerror


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 201 + "]" * 201, "nested too deeply"),
        ('{"a":' * 201 + "1" + "}" * 201, "nested too deeply"),
        ('{"a": "\\uD83D"}', "surrogate"),
        ('{"\\udead": 1}', "surrogate"),
        ("[1e999]", "1e999"),
        ("[-Infinity]", "-Infinity"),
        ("[NaN]", "NaN"),
        ("9" * 5000, "digits"),
    ],
)
@pytest.mark.parametrize("as_bytes", [True, False])
def test_json_that_cannot_be_used_is_a_value_error(text: str, reason: str, as_bytes: bool) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(text.encode() if as_bytes else text, finite=True)


def test_what_python_reads_is_read_where_it_need_not_be_finite() -> None:
    assert parse_json('["\\ud83d\\ude00", 1.5, 1e999]') == ["😀", 1.5, float("inf")]


def test_depth_is_of_levels_and_not_of_brackets() -> None:
    text = "[" * (MOST_DEPTH - 1) + "{}" + "]" * (MOST_DEPTH - 1)
    assert json.dumps(parse_json(text)) == text
    assert parse_json(json.dumps("[{" * 5000)) == "[{" * 5000
    assert len(parse_json("[" + "[[]]," * 5000 + "0]")) == 5001


def test_halves_of_surrogate_pairs_in_other_spellings() -> None:
    for text in (
        b'"\xed\xa0\x80"',
        '"\\uD83D"'.encode("utf-16"),
        '"\ud800"'.encode("utf-16", "surrogatepass"),
    ):
        with pytest.raises(ValueError, match="surrogate|decode") as refused:
            parse_json(text)
        assert "\n" not in str(refused.value)
    assert parse_json("\ufeff[1]".encode()) == parse_json("[1]".encode("utf-16")) == [1]
    assert load_json('"\\ud83d"') == "\ud83d"
