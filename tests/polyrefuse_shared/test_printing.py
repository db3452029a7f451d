"""What is printed of names that others chose."""

from __future__ import annotations

import json

import pytest

from polyrefuse_shared.printing import clean, clean_json


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("::error::x", ": :error: :x"),
        (":::error::x", ": : :error: :x"),
        ("##[group]x", "# #[group]x"),
        ("a ###[error] b", "a ## #[error] b"),
        ("##vso[task.complete]", "# #vso[task.complete]"),
        ("##teamcity[x]", "# #teamcity[x]"),
        ("a\x1b[31m\x00b", "a\ufffd[31m\ufffdb"),
        ("a\r\nb\x85\u2028\u2029c\x9b2J\x7f", "a\ufffd\ufffdb\ufffd\ufffd\ufffdc\ufffd2J\ufffd"),
        ("gnp.\u202eexe\ud800\ufffe\uffff", "gnp.\ufffdexe\ufffd\ufffd\ufffd"),
        ("## heading: fine, 10:30, \u0645\u06cc\u200c\u0631\u0648\u0645", None),
    ],
)
def test_what_steers_is_taken_out(text: str, cleaned: str | None) -> None:
    assert clean(text) == (text if cleaned is None else cleaned)


def test_json_holds_the_same_and_steers_nothing() -> None:
    document = {"##[error]a": ["\x9b\x85\u2028\x7f", "\\\\##vso[x]", "## fine"]}
    text = clean_json(json.dumps(document, ensure_ascii=False))
    assert json.loads(text) == document
    assert "## fine" in text
    assert not {"##[", "##vso[", "\x9b", "\x85", "\u2028", "\x7f"} & {
        text[start : start + length] for start in range(len(text)) for length in (1, 3, 6)
    }
