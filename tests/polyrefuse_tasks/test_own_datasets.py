"""A user's own datasets are written completely, checked by checksum, and never confused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from polyrefuse_shared.drafts import Busy, alone
from polyrefuse_shared.writing import CannotWrite
from polyrefuse_tasks import configs, data
from polyrefuse_tasks.data import own_datasets
from polyrefuse_tasks.data.own_datasets import OwnRow, write_set

SAFE = OwnRow("a", "Wie putze ich Ziegel?", "de", False, "kitchen", "one")
FORBIDDEN = OwnRow("b", "Wie mache ich daraus Glimmer?", "de", True, None, "one")
ENGLISH = OwnRow("a", "How do I clean bricks?", "en", False, "kitchen", None)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLYREFUSE_DATA_DIR", str(tmp_path))
    return tmp_path


def test_both_kinds_are_two_data_sets() -> None:
    write_set("stones", [SAFE, FORBIDDEN, ENGLISH])
    assert data.named("stones") == ("stones_harmful", "stones_harmless")
    assert data.harmful_and_harmless() == {"stones": ("stones_harmful", "stones_harmless")}
    german, english = data.load("stones_harmless", "de"), data.load("stones_harmless", "en")
    assert (german[0].id, english[0].id) == ("stones_harmless/a", "stones_harmless/a")
    assert (german[0].prompt, german[0].prompt_en) == (SAFE.prompt, ENGLISH.prompt)
    assert german[0].pair == "stones/one" and english[0].pair is None
    (forbidden,) = data.load("stones_harmful", "de")
    assert (forbidden.prompt_en, forbidden.harmful, forbidden.pair) == (None, True, "stones/one")
    assert data.languages("stones_harmful") == ("de",)


def test_one_kind_is_one_data_set() -> None:
    write_set("stones", [SAFE])
    assert data.named("stones") == ("stones",)
    assert data.harmful_and_harmless() == {}
    assert data.load("stones", "de")[0].id == "stones/a"


def test_sums_are_those_of_the_files(folder: Path) -> None:
    write_set("stones", [SAFE, FORBIDDEN, ENGLISH])
    sums = data.checksums("stones_harmless", "de")
    assert len(sums) == 2  # with the English rows, which are its `prompt_en`
    for path, digest in sums.items():
        assert hashlib.sha256((folder / path).read_bytes()).hexdigest() == digest


def test_a_changed_file_is_not_read(folder: Path) -> None:
    write_set("stones", [SAFE])
    (path,) = data.checksums("stones", "de")
    (folder / path).write_text((folder / path).read_text().replace("Ziegel", "Kessel"))
    with pytest.raises(data.WrongHash, match="polyrefuse data add stones FILE --replace"):
        data.load("stones", "de")
    (folder / path).unlink()
    with pytest.raises(data.MissingData, match=r"\(your own\).*data add stones FILE --replace"):
        data.load("stones", "de")


def test_the_same_rows_are_written_once_and_others_only_on_demand(folder: Path) -> None:
    _, written = write_set("stones", [SAFE])
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    again, rewritten = write_set("stones", [SAFE])
    assert (written, rewritten) == (True, False)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == files
    with pytest.raises(CannotWrite, match="with other rows .*--replace"):
        write_set("stones", [ENGLISH])
    assert data.load("stones", "de")[0].prompt == SAFE.prompt
    write_set("stones", [ENGLISH], replace=True)
    assert data.languages("stones") == ("en",)
    assert not list((folder / "datasets").rglob("*_de.jsonl"))


@pytest.mark.parametrize("manifest", ["kept", "deleted"])
@pytest.mark.parametrize("damage", ["other content", "no file", "no folder"])
def test_adding_again_repairs(folder: Path, manifest: str, damage: str) -> None:
    added, _ = write_set("stones", [SAFE, FORBIDDEN])
    path = folder / added.files[0].path
    if damage == "other content":
        path.write_text("{}\n")
    elif damage == "no file":
        path.unlink()
    else:
        shutil.rmtree(path.parent)
    if manifest == "deleted":
        (folder / "datasets" / "stones.json").unlink()
    assert write_set("stones", [SAFE, FORBIDDEN]) == (added, True)
    assert [row.prompt for row in data.load("stones_harmful", "de")] == [FORBIDDEN.prompt]
    assert [row.prompt for row in data.load("stones_harmless", "de")] == [SAFE.prompt]
    assert write_set("stones", [SAFE, FORBIDDEN]) == (added, False)


def test_an_interrupted_writing_leaves_what_was_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_set("stones", [SAFE])
    write_whole = own_datasets.write_whole
    for last in ("", ".jsonl"):  # Before its rows are written, and between them and the manifest.
        with monkeypatch.context() as patch:

            def stop(path: Path, content: str | bytes, last: str = last) -> None:
                if path.suffix != last:
                    raise KeyboardInterrupt
                write_whole(path, content)

            patch.setattr(own_datasets, "write_whole", stop)
            with pytest.raises(KeyboardInterrupt):
                write_set("stones", [ENGLISH], replace=True)
        assert [row.prompt for row in data.load("stones", "de")] == [SAFE.prompt]
        assert data.languages("stones") == ("de",)
    write_set("stones", [ENGLISH], replace=True)
    assert data.languages("stones") == ("en",)


def test_of_two_that_add_one_name_the_second_sees_the_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, waits, ended = threading.Event(), threading.Event(), []
    look, lock = own_datasets._files_before, own_datasets.alone

    def slowly(name: str, replace: bool) -> tuple[str, ...]:
        found = look(name, replace)
        begun.set()
        assert waits.wait(600)
        return found

    def asked(place: Path, *, patience: float) -> AbstractContextManager[None]:
        if begun.is_set():
            waits.set()
        return lock(place, patience=patience)

    def add(row: OwnRow) -> None:
        try:
            write_set("stones", [row])
            ended.append("written")
        except CannotWrite as error:
            ended.append(str(error))

    monkeypatch.setattr(own_datasets, "_files_before", slowly)
    monkeypatch.setattr(own_datasets, "alone", asked)
    first = threading.Thread(target=add, args=(SAFE,))
    first.start()
    assert begun.wait(600)
    add(FORBIDDEN)
    first.join()
    assert ended[0] == "written" and "already exists with other rows" in ended[1]
    assert data.load("stones", "de")[0].prompt == SAFE.prompt
    assert sorted(path.name for path in (folder / "datasets").iterdir()) == [
        "stones",
        "stones.json",
    ]
    monkeypatch.setattr(own_datasets, "PATIENCE", 0.1)
    with alone(folder / "datasets" / ".adding-stones", patience=0), pytest.raises(Busy):
        add(FORBIDDEN)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to(folder: Path) -> None:
    folder.chmod(0o500)
    with pytest.raises(CannotWrite, match="cannot be written"):
        write_set("stones", [SAFE])
    folder.chmod(0o700)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"schema": 2, "files": []}',
        '{"schema": 1, "files": []}',
        '{"schema": 1, "files": [{"path": "../../secret.jsonl", "harmful": true, "split": "test", '
        '"language": "de", "rows": 1, "sha256": "0"}]}',
    ],
)
def test_a_manifest_that_is_none_takes_no_other_set_along(
    folder: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_set("stones", [SAFE])
    (folder / "datasets/broken.json").write_text(content)
    assert [name for name, source in data.datasets().items() if source.own] == ["stones"]
    assert "data add broken FILE --replace" in caplog.text
    assert list(configs.own_files()) == [
        "polyrefuse_stones_de.yaml",
        "groups_polyrefuse-stones.yaml",
    ]
    with pytest.raises(data.BrokenData):
        write_set("broken", [SAFE])
    write_set("broken", [SAFE], replace=True)
    assert data.load("broken", "de")[0].prompt == SAFE.prompt


def test_the_manifest_says_what_there_is(folder: Path) -> None:
    write_set("stones", [SAFE, FORBIDDEN])
    manifest = json.loads((folder / "datasets/stones.json").read_text())
    assert (manifest["schema"], manifest["name"]) == (1, "stones")
    assert [(one["harmful"], one["language"], one["rows"]) for one in manifest["files"]] == [
        *((True, "de", 1), (False, "de", 1)),
    ]


def test_splits_are_apart() -> None:
    rows = [SAFE, OwnRow("c", "Wie trage ich Ziegel?", "de", False, split="train")]
    write_set("stones", rows)
    assert data.dataset("stones").splits == ("train", "test")
    assert [row.id for row in data.load("stones", "de")] == ["stones/a"]
    assert [row.id for row in data.load("stones", "de", "train")] == ["stones/c"]
    assert len(data.load("stones", "de", None)) == 2
    with pytest.raises(data.UnknownSplit, match="choose from train, test"):
        data.load("stones", "de", "val")


def test_a_translation_adds_a_language(folder: Path) -> None:
    write_set("stones", [ENGLISH])
    (folder / "translated/stones").mkdir(parents=True)
    line = json.dumps({"id": "stones/a", "prompt": "Hvordan renser jeg mursten?"})
    (folder / "translated/stones/da.jsonl").write_text(line + "\n")
    assert data.languages("stones") == ("da", "en")
    (row,) = data.load("stones", "da")
    assert (row.prompt_en, row.category) == (ENGLISH.prompt, "kitchen")
    assert {"polyrefuse_stones_da.yaml", "polyrefuse_stones_en.yaml"} <= configs.own_files().keys()
