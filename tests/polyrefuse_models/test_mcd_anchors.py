"""Which queries a soft prompt is trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polyrefuse_models.mcd.anchors import NotParallel, load_anchors
from polyrefuse_shared.errors import UserError
from polyrefuse_tasks import data
from polyrefuse_tasks.languages import POLYREFUSE


def same_english(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())


def test_polyrefuse_has_what_the_protocol_does_not_test(mirror: Path) -> None:
    anchors = load_anchors("polyrefuse", POLYREFUSE)
    asked = {
        same_english(row.prompt)
        for name in ("advbench", "malicious_instruct")
        for row in data.load(name)
    }
    assert not asked & {same_english(prompt) for prompt in anchors.prompts("en")}
    assert {len(anchors.harmful[lang]) for lang in POLYREFUSE} == {94}
    assert {len(anchors.harmless[lang]) for lang in POLYREFUSE} == {94}
    assert anchors.labels == [0] * 94 + [1] * 94


def test_rows_are_parallel(mirror: Path) -> None:
    anchors = load_anchors("polyrefuse", ("de", "yo"))
    english = {
        row.id: row for split in ("train", "val") for row in data.load("harmful", "yo", split)
    }
    english |= {row.id: row for row in data.load("harmless", "yo", "train")}
    assert anchors.prompts("yo") == [english[id_].prompt for id_ in anchors.ids]


def test_overlap_names_the_test_rows(mirror: Path) -> None:
    overlap = load_anchors("polyrefuse", ("en",)).overlap
    assert overlap["advbench"] == overlap["malicious_instruct"] == overlap["multijail"] == []
    assert [id_.split("/")[0] for id_ in overlap["jailbreakbench"]] == ["jailbreakbench"]
    (row,) = [row for row in data.load("jailbreakbench") if row.id in overlap["jailbreakbench"]]
    mine = {same_english(prompt) for prompt in load_anchors("polyrefuse", ("en",)).prompts("en")}
    assert same_english(row.prompt) in mine


def test_the_papers_queries(mirror: Path) -> None:
    anchors = load_anchors("custom", ("en",))
    for kind, name in ((anchors.harmful, "harmful"), (anchors.harmless, "harmless")):
        lines = (mirror / f"mcd/{name}_custom.txt").read_text(encoding="utf-8").splitlines()
        assert kind["en"] == lines
    assert set(anchors.sha256) == {"mcd/harmful_custom.txt", "mcd/harmless_custom.txt"}


def test_toyrefuse_is_compared_with_its_own_test_rows() -> None:
    anchors = load_anchors("toyrefuse", ("en", "ja"))
    assert len(anchors.prompts("ja")) == len(anchors.prompts("en")) == len(anchors.ids) == 320
    assert anchors.overlap == {"toyrefuse_harmful": [], "toyrefuse_harmless": []}


def test_a_translation_that_lacks_rows(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mcd").symlink_to(shared / "data/mcd")
    monkeypatch.setenv("POLYREFUSE_DATA_DIR", str(tmp_path))
    for name in ("mcd_harmful", "mcd_harmless"):
        rows = data.load(name, "en", "train")
        lines = [json.dumps({"id": row.id, "prompt": f"glorbon {row.id}"}) for row in rows]
        file = tmp_path / "translated" / name / "da.jsonl"
        file.parent.mkdir(parents=True)
        file.write_text("\n".join(lines[: 100 if name == "mcd_harmful" else 97]))
    with pytest.raises(NotParallel, match="mcd_harmless has 100 anchors in en and 97 in da"):
        load_anchors("custom", ("en", "da"))
    file.write_text("\n".join(lines))
    anchors = load_anchors("custom", ("en", "da"))
    assert anchors.harmful["da"][7] == f"glorbon {anchors.ids[7]}"
    assert anchors.overlap["advbench"] is None  # not in this mirror


def test_unknown_names() -> None:
    with pytest.raises(UserError, match="dataset=advbench is not known; use one of polyrefuse"):
        load_anchors("advbench", ("en",))
    with pytest.raises(UserError, match="no language 'xx'"):
        load_anchors("toyrefuse", ("en", "xx"))
