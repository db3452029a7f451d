"""Broken published files: one sentence each, with the file's name in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyrefuse_tasks.data import BrokenData, files


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cut.json", b'[{"instruction": "made up', "not complete JSON"),
        ("latin.json", '[{"instruction": "é"}]'.encode("latin-1"), "not UTF-8"),
        ("latin.txt", "é".encode("latin-1"), "not UTF-8"),
        ("object.json", b'{"instruction": "made up"}', "does not have the fields"),
        ("number.json", b"3", "does not have the fields"),
        ("field.json", b'[{"prompt": "made up"}]', "does not have the fields"),
        ("none.json", b"[]", "holds no prompts"),
        ("empty.json", b'[{"instruction": " ", "category": null}]', "no prompt in its row 1"),
        ("empty.txt", b"", "no prompt in its row 1"),
        ("gap.txt", b"one\n\nthree", "no prompt in its row 2"),
        ("cut.csv", b"id,tags,en,de\n0,t,one", "no prompt in its row 1"),
        ("column.csv", b"id,tags,en\n0,t,one", "does not have the fields of a prompt file in 'de'"),
    ],
)
def test_broken_file(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BrokenData, match=said) as caught:
        files.read(path, "de")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_line_may_hold_any_character_but_a_line_break(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("one\u2028still one\ntwo\n", encoding="utf-8")
    assert [entry.prompt for entry in files.read(path, "en")] == ["one\u2028still one", "two"]
