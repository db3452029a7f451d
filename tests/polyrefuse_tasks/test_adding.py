"""Files of prompts of one's own: what is accepted and refused, and that no message quotes one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polyrefuse_tasks.adding import MOST_CHARACTERS, BadPrompts, read_prompts, require_free
from polyrefuse_tasks.data.own_datasets import OwnRow, write_set
from tests.own_prompts import rows, write_csv, write_jsonl

SECRET = "glimmer"
"""In every harmful prompt: no message may hold it."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLYREFUSE_DATA_DIR", str(tmp_path))
    return tmp_path


def test_csv_and_jsonl_are_read_alike(tmp_path: Path) -> None:
    given = rows("de", "en")
    of_json = read_prompts(write_jsonl(tmp_path / "a.jsonl", given))
    of_csv = read_prompts(write_csv(tmp_path / "a.csv", given))
    assert of_json == of_csv
    assert (len(of_json.rows), of_json.pairs, of_json.notes) == (16, 8, ())
    assert of_json.rows[0] == OwnRow(**given[0])
    lengths = sorted(len(row["prompt"]) for row in given)
    assert of_json.lengths[0] == lengths[0] and of_json.lengths[2] == lengths[-1]


def test_only_prompts(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [{"prompt": row["prompt"]} for row in rows("de")])
    report = read_prompts(path, languages=["de"], harmful=True)
    assert [row.id for row in report.rows[:2]] == ["0000", "0001"]
    assert {(row.language, row.harmful, row.split) for row in report.rows} == {("de", True, "test")}
    with pytest.raises(BadPrompts, match="row 1 does not say whether it is harmful"):
        read_prompts(path, languages=["de"])
    with pytest.raises(BadPrompts, match=r"8 of 8 prompts claimed to be in en .*row 1: de"):
        read_prompts(path, harmful=True)
    trusted = read_prompts(path, harmful=True, trust_languages=True)
    assert trusted.rows[0].language == "en" and "8 of 8" in trusted.notes[0]


def changed(place: int, **fields: Any) -> list[dict[str, Any]]:
    given = rows("de", "en")
    given[place] = {
        name: value for name, value in (given[place] | fields).items() if value is not None
    }
    return given


REFUSED = {
    "empty": (changed(2, prompt=" "), "line 3 has no prompt"),
    "missing": (changed(2, prompt=None), "line 3 has no prompt"),
    "no text": (changed(2, prompt=7), "line 3 has no prompt"),
    "long": (changed(2, prompt=SECRET * MOST_CHARACTERS), "line 3 has a prompt of 229,376"),
    "nothing to see": (changed(2, prompt="\u200b \ufeff"), "line 3 has no prompt"),
    "control": (changed(2, prompt="glimmer\x1b[31m"), "line 3 has a control character"),
    "duplicate": (
        changed(2, prompt=f"  {rows('de')[0]['prompt'].upper()} "),
        r"same prompt more than once \(line 3 as line 1\)",
    ),
    "duplicate with a soft hyphen": (
        changed(2, prompt="\u00ad\u200b".join(rows("de")[0]["prompt"])),
        r"same prompt more than once \(line 3 as line 1\)",
    ),
    "id twice in two forms of Unicode": (
        [rows("de")[0] | {"id": "\u00e9"}, rows("de")[2] | {"id": "e\u0301"}],
        "line 2 has the id '.xe9' in de a second time",
    ),
    "id twice": (changed(2, id="h0"), r"line 3 has the id 'h0' in de a second time \(line 1"),
    "id missing": (changed(2, id=None), "line 3 has no id, but other rows have one"),
    "id of two lines": (
        changed(2, id="a\nb"),
        "line 3: its id must be a whole number, or text on",
    ),
    "id that is true": (changed(2, id=True), "line 3: its id must be a whole number, or text"),
    "id that is no whole number": (changed(2, id=1.5), "line 3: its id must be a whole number"),
    "id that is a list": (changed(2, id=["h2"]), "line 3: its id must be a whole number"),
    "category that is false": (changed(2, category=False), "line 3: its category must be a wh"),
    "harmful": (changed(2, harmful="perhaps"), "line 3 has a `harmful` that is neither"),
    "kinds differ": (changed(8, harmful=False), "line 9 has another `harmful` than line 1"),
    "pairs differ": (changed(2, pair="other"), "line 11 has another `pair` than line 3"),
    "half a pair": (
        [row for row in rows("de") if row["id"] != "h1"],
        "line 3: the pair 'thing 1' in de has 0 harmful and 1 harmless rows",
    ),
    "code": (changed(2, language="German"), "line 3 has the language 'German', which is not a"),
    "split": (changed(2, split="dev"), "line 3 has the split 'dev': choose from train, val"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named_by_its_place(tmp_path: Path, name: str) -> None:
    given, sentence = REFUSED[name]
    with pytest.raises(BadPrompts, match=sentence) as caught:
        read_prompts(write_jsonl(tmp_path / "a.jsonl", given))
    assert SECRET not in str(caught.value).lower()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.txt", b"prompt\n", "neither a .jsonl nor a .csv file"),
        ("a.csv", b"", "no column named prompt"),
        ("a.csv", b"prompt\n", "holds no rows"),
        ("a.csv", b"prompt,prompt\na,b\n", "the column 'prompt' twice"),
        ("a.csv", b"text\nglimmer\n", "no column named prompt"),
        ("a.csv", b"prompt,id\nglimmer, glimmer, glimmer,1\n", "row 1 has 4 columns"),
        ("a.csv", b'prompt\n"glimmer\n', "row 1 cannot be read as CSV"),
        ("a.csv", b"prompt\na\n" + b"glimmer " * 20_000, "row 2 cannot be .*131,072 characters"),
        ("a.csv", b"prompt;harmful\nglimmer;true\n", "put commas between columns"),
        ("a.csv", b"prompt\n\xff\xfe\n", "not UTF-8"),
        ("a.jsonl", b"glimmer\n", "line 1 is not JSON"),
        (
            "a.jsonl",
            b'{"prompt": "a", "id": 1}\n{"prompt": "b", "id": 2, "prompt": "c"}\n',
            r"line 2 cannot be used \(it has the key 'prompt' twice\): remove one",
        ),
        ("a.jsonl", b'\n["glimmer"]\n', "line 2 is not a JSON object"),
        ("a.jsonl", b'{"prompt": "glimmer\\ud800"}\n', "line 1 is not JSON"),
    ],
)
def test_files_that_are_none(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadPrompts, match=sentence) as caught:
        read_prompts(tmp_path / name, harmful=True)
    assert SECRET not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadPrompts, match="cannot be read"):
        read_prompts(tmp_path / "none.csv")
    with pytest.raises(BadPrompts, match="cannot be read"):
        (tmp_path / "folder.csv").mkdir()
        read_prompts(tmp_path / "folder.csv")


def test_flags_and_columns_must_agree(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", rows("de"))
    with pytest.raises(BadPrompts, match="line 2 is harmless by its column, and --harmful says"):
        read_prompts(path, harmful=True)
    with pytest.raises(BadPrompts, match="line 1 is in 'de', which --langs fr does not name"):
        read_prompts(path, languages=["fr"])
    unnamed = write_jsonl(tmp_path / "b.jsonl", changed(0, language=None))
    with pytest.raises(BadPrompts, match="line 1 names no language, and --langs has de, en"):
        read_prompts(unnamed, languages=["de", "en"])


def test_a_few_in_another_language_are_worth_a_sentence(tmp_path: Path) -> None:
    given = rows("de", "en")
    swapped = changed(0, prompt=given[8]["prompt"] + " I wonder about it.")
    report = read_prompts(write_jsonl(tmp_path / "a.jsonl", swapped))
    assert report.notes == (
        "1 of 8 prompts claimed to be in de are identified as another language (line 1: en): "
        "check them.",
    )


def test_what_is_not_read_is_said(tmp_path: Path) -> None:
    given = [row | {"langauge": "de", "language": "nb"} for row in rows("de", kinds=[True])]
    report = read_prompts(write_jsonl(tmp_path / "a.jsonl", given))
    assert report.notes == (
        "Columns that are not read: 'langauge'.",
        "The language nb cannot be identified, so it was not checked.",
    )


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        *((name, "cannot be a dataset's name") for name in ("", "A", "a b", "../a", "a__b", "1a")),
        *((name, "built in") for name in ("harmful", "oktest", "toyrefuse", "polyrefuse", "mcd")),
        *((name, "built in") for name in ("overrefusal", "xstest", "xstest_safe", "advbench")),
        *((name, "ends in the code of a language") for name in ("stones_de", "my_harmful_en")),
        ("a" * 41, "at most 40 characters"),
        ("stones_harmful", "confused with your dataset stones"),
        ("pebbles", "confused with your dataset pebbles_harmless"),
    ],
)
def test_names_that_would_be_mixed_up(name: str, sentence: str) -> None:
    write_set("stones", [OwnRow("a", "Wie?", "de", False)])
    write_set("pebbles_harmless", [OwnRow("a", "Wie?", "de", False)])
    with pytest.raises(BadPrompts, match=sentence):
        require_free(name)


@pytest.mark.parametrize("name", ["stones", "stones_set", "stone", "stones2", "harmful_stones"])
def test_names_that_are_free(name: str) -> None:
    write_set("stones", [OwnRow("a", "Wie?", "de", False)])
    require_free(name)


def test_a_truth_may_be_written_in_many_ways(tmp_path: Path) -> None:
    ways: list[Any] = ["TRUE", "yes", 1, "unsafe", False, "No", "0", "Harmless"]
    given = [
        row | {"harmful": way, "pair": None} for row, way in zip(rows("de"), ways, strict=True)
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in given))
    assert [row.harmful for row in read_prompts(path).rows] == [True] * 4 + [False] * 4
