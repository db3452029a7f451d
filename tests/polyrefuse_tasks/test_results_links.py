"""`saved_results/links.py`, and `polyrefuse judge run --output`, which labels apart."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from polyrefuse_tasks.saved_results import folders, links
from polyrefuse_tasks.saved_results.folders import find_results
from polyrefuse_tasks.saved_results.links import SamePlace, link_results
from tests.commands import assert_one_sentence, run_in_process
from tests.kill_points import kill_points
from tests.leaderboard.result_files import task, write_run


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    for day, labels in ((1, "rc"), (2, "rr")):
        write_run(folder / f"run-{day}", [task("harmful", "de", labels)], day=day)
    return folder


@pytest.mark.parametrize("linkable", [True, False])
def test_what_is_linked_is_the_same_at_the_same_place(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linkable: bool
) -> None:
    if not linkable:

        def refuse(*_: object) -> None:
            raise OSError("no links here")

        monkeypatch.setattr(links.os, "link", refuse)
    (results / "run-1" / "notes.txt").write_text("mine")
    assert link_results([results], tmp_path / "linked")
    there = files(results)
    del there["run-1/notes.txt"]
    assert files(tmp_path / "linked") == there
    (one,) = (tmp_path / "linked" / "run-1").rglob("samples_*")
    assert (one.stat().st_nlink == 2) == linkable
    # Again changes nothing.
    assert link_results([results], tmp_path / "linked")
    assert files(tmp_path / "linked") == there


def test_two_files_of_one_place_are_refused_and_nothing_is_overwritten(
    results: Path, tmp_path: Path
) -> None:
    # Another run with the same name and date.
    write_run(tmp_path / "other" / "run-1", [task("harmful", "de", "cc")], day=1)
    link_results([results], tmp_path / "linked")
    before = files(tmp_path / "linked")
    with pytest.raises(SamePlace, match="already exists and differs from"):
        link_results([tmp_path / "other"], tmp_path / "linked")
    assert files(tmp_path / "linked") == before


def test_labels_stand_apart_and_the_results_stay_as_they_are(results: Path, tmp_path: Path) -> None:
    before, output = files(results), tmp_path / "labels"
    usual = ("judge", "run", results, "--judge", "substring", "--output", output)
    code, _, err = run_in_process(*usual)
    assert code == 0, err
    assert files(results) == before
    judged = [name for name in files(output) if "judged_" in name]
    assert len(judged) == 2
    # A second call has nothing left to do.
    code, out, err = run_in_process(*usual, "--json")
    assert code == 0, err
    assert [outcome["judged"] for outcome in json.loads(out)] == [0, 0]
    code, out, err = run_in_process(
        "leaderboard", "build", output, "--output", tmp_path / "site", "--json"
    )
    assert code == 0, err
    records = json.loads((tmp_path / "site" / "leaderboard.json").read_text())["records"]
    assert {record["judge"] for record in records} == {"native", "substring"}


def test_what_is_wrong_is_told(results: Path, tmp_path: Path) -> None:
    def run(of: Path, output: Path) -> tuple[int, str, str]:
        return run_in_process("judge", "run", of, "--judge", "native", "--output", output)

    assert_one_sentence(run(tmp_path / "none", tmp_path / "new"), "none does not exist")
    assert not (tmp_path / "new").exists()
    before = files(tmp_path)
    for output in (results / "labels", results / "run-1" / "deep" / "labels", tmp_path):
        assert_one_sentence(run(results, output), "contains the other; name a separate folder")
    (tmp_path / "elsewhere").symlink_to(results)
    assert_one_sentence(run(results, tmp_path / "elsewhere" / "labels"), "contains the other")
    assert files(tmp_path) == before
    (tmp_path / "file").touch()
    assert_one_sentence(run(results, tmp_path / "file"), "file", "cannot be written")
    if os.getuid():
        (tmp_path / "closed").mkdir(mode=0o500)
        assert_one_sentence(run(results, tmp_path / "closed" / "new"), "cannot be written")


def test_of_two_that_link_at_one_place_the_second_sees_the_first(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process links its file at the very moment at which this one does."""
    hard_link = os.link

    def late(file: Path, place: Path) -> None:
        monkeypatch.setattr(links.os, "link", hard_link)
        place.write_text("another's")
        hard_link(file, place)

    monkeypatch.setattr(links.os, "link", late)
    with pytest.raises(SamePlace, match="already exists and differs from"):
        link_results([results], tmp_path / "linked")
    assert list(files(tmp_path / "linked").values()) == [b"another's"]


def test_a_killed_copy_leaves_nothing_that_the_next_call_does_not_mend(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(links.os, "link", refuse)
    linked = tmp_path / "linked"
    kills = 0
    for _ in kill_points(lambda: link_results([results], linked)):
        kills += 1
        link_results([results], linked)
        assert files(linked) == files(results)
        shutil.rmtree(linked)
    assert kills > 4
    assert files(linked) == files(results)


def test_a_folder_that_goes_while_results_are_looked_for_is_no_problem(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A judge that ends removes the folder that locked it, after it was listed."""
    (lock,) = (path / ".judging-native" for path in results.iterdir() if path.name == "run-1")
    lock.mkdir()
    scan = os.scandir

    def late(folder: str) -> Any:
        if folder == str(lock):
            lock.rmdir()
        return scan(folder)

    monkeypatch.setattr(folders.os, "scandir", late)
    problems: list[str] = []
    assert len(list(find_results([results], problems))) == 2
    assert not lock.exists() and not problems


def test_drafts_have_no_results(results: Path) -> None:
    """What a killed process had not finished is not counted."""
    (results / "run-1").rename(results / ".polyrefuse-1.partial")
    problems: list[str] = []
    (only,) = find_results([results], problems)
    assert only.path.parent.parent.name == "run-2" or only.path.parent.name == "run-2"
    assert not problems
