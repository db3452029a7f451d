"""YAML as a study's file has it: what is read, and what is said of what cannot be."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from polyrefuse_studies.yaml_text import BadYaml, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[no, off, on, y, NO]", ["no", "off", "on", "y", "NO"]),
        ("[true, False, TRUE, null, ~, Null]", [True, False, True, None, None, None]),
        ("[1, -2, +3, 007, 12345678901234567890]", [1, -2, 3, 7, 12345678901234567890]),
        ("[1e-4, 1.5, .5, 3., -2E3]", [1e-4, 1.5, 0.5, 3.0, -2000.0]),
        ("[2024-01-05, 12:30, 0x1F, 1_000]", ["2024-01-05", "12:30", "0x1F", "1_000"]),
        ("['1', \"true\", '2024-01-05']", ["1", "true", "2024-01-05"]),
        ("{1: a, 2.5: b}", {"1": "a", "2.5": "b"}),
        ("a: &a {x: 1}\nb: *a", {"a": {"x": 1}, "b": {"x": 1}}),
        ("", None),
    ],
)
def test_plain_words_are_read_as_yaml_1_2_reads_them(text: str, value: Any) -> None:
    assert parse(text) == value


def test_merge_keys() -> None:
    text = """
base: &base {like: ablation, coefficient: 0.5, layers: 1-2}
more: &more {layers: 3-4, method: hooks}
own: {<<: *base, coefficient: 1}
both: {<<: [*more, *base], system: none}
deep: {<<: {<<: *base}}
"""
    # PyYAML's own merging is the reference.
    assert parse(text) == yaml.safe_load(text)
    assert parse(text)["both"]["layers"] == "3-4"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", r"'c' occurs twice \(line 5\)"),
        ("x: 1\n\n\nx: 2", r"'x' occurs twice \(line 4\)"),
        ("1: a\n'1': b", r"'1' occurs twice \(line 2\)"),
        ("a: {<<: 3}", "<< takes only mappings"),
        ("? [a]\n: b", "a key is not text"),
        ("a: !!int abc", r"'abc' is not a usable whole number \(line 1\)"),
        ("a: !!float x", "'x' is not a finite number"),
        ("a: !!bool maybe", "'maybe' is neither true nor false"),
        ("a: 1e999", "'1e999' is not a finite number; put text in quotes"),
        (f"a: {'9' * 5000}", "is not a usable whole number"),
        ("a: !!timestamp 2024-13-45", "the tag !!timestamp has no meaning here"),
        ("a: !!binary x", "the tag !!binary has no meaning here"),
        ("a: !!set {x}", "the tag !!set has no meaning here"),
        ("a: !!python/object:os.system x", "the tag .* has no meaning here"),
        ("a: !mine x", "the tag !mine has no meaning here"),
        ("a: &a [*a]", "recursive"),
        ("a: *b", "undefined alias"),
        ("a: [", r"\(line 1\)"),
        ('a: "x\\0y"', "holds a NUL character"),
        ('"x\\0y": a', "holds a NUL character"),
        ('a: "\\ud800"', "half of a surrogate pair"),
        ("a: \x01", "special characters are not allowed"),
        ("a: " + "[" * 5000, "nested more than 50 levels deep"),
        ("a: " + "[" * 60 + "]" * 60, "nested more than 50 levels deep"),
    ],
    ids=lambda one: one[:30],
)
def test_what_cannot_be_read_is_said_in_few_words(text: str, said: str) -> None:
    with pytest.raises(BadYaml, match=said) as raised:
        parse(text)
    assert len(str(raised.value)) < 200 and "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", ["lists", "mappings", "merges"])
def test_nested_aliases_take_no_time_and_no_room(kind: str) -> None:
    lines = ["a0: &a0 {x: 1, y: 2}" if kind != "lists" else "a0: &a0 [x, y]"]
    for i in range(1, 25):
        ten = ", ".join([f"*a{i - 1}"] * 10)
        of = {
            "lists": f"[{ten}]",
            "mappings": "{" + ", ".join(f"k{j}: *a{i - 1}" for j in range(10)) + "}",
            "merges": f"{{<<: [{ten}], z{i}: 1}}",
        }
        lines.append(f"a{i}: &a{i} {of[kind]}")
    # Whoever followed every alias would have 10**24 values to read, and never end.
    if kind == "merges":
        assert len(parse("\n".join(lines))["a24"]) == 26
    else:
        with pytest.raises(BadYaml, match="with its aliases it has more than 100000 values"):
            parse("\n".join(lines))
