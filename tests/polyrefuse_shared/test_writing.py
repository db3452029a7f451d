"""Files and folders appear whole or not at all, whoever writes and whatever fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from polyrefuse_shared.writing import (
    CannotWrite,
    append,
    require_new,
    whole_folder,
    write_whole,
)
from tests.conftest import ROOT
from tests.kill_points import kill_points, tree


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


def test_a_file_is_replaced_and_parents_are_made(tmp_path: Path) -> None:
    target = tmp_path / "new/deep/file.txt"
    write_whole(target, "é\n")
    write_whole(target, b"\xff")
    assert target.read_bytes() == b"\xff"
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]


def test_the_longest_name_and_the_umask(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 255)
    before = os.umask(0o027)
    try:
        write_whole(target, "text")
    finally:
        os.umask(before)
    assert target.stat().st_mode & 0o777 == 0o640
    with whole_folder(tmp_path / ("f" * 255)) as draft:
        (draft / "a").write_text("b")
    assert (tmp_path / ("f" * 255) / "a").read_text() == "b"


def test_threads_write_the_same_file_at_once(tmp_path: Path) -> None:
    target, texts = tmp_path / "file.txt", [str(number) * 100_000 for number in range(10)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda text: write_whole(target, text), texts * 20))
    assert target.read_text() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_a_draft_is_in_nobody_s_way(tmp_path: Path) -> None:
    """Neither in another draft's of the same thread, nor in the process's of the same number."""
    for name in (".one.2.partial", f".one.{os.getpid()}.partial", f".four.{os.getpid()}.partial"):
        (tmp_path / name).mkdir()
    with whole_folder(tmp_path / "one") as one:
        with whole_folder(tmp_path / "two") as two:
            write_whole(tmp_path / "four", "text")
            (two / "a").write_text("b")
        (one / "a").write_text("b")
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["four", "one", "two"]


def test_links_mode_and_owner_stay(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/file").write_text("before")
    (tmp_path / "real/file").chmod(0o604)
    (tmp_path / "link").symlink_to("real/file")
    (tmp_path / "dangling").symlink_to("real/new")
    if os.getuid() == 0:
        os.chown(tmp_path / "real/file", 1234, 5678)
    before = (tmp_path / "real/file").stat()
    write_whole(tmp_path / "link", "after")
    write_whole(tmp_path / "dangling", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "dangling").is_symlink()
    assert (tmp_path / "real/file").read_text() == "after"
    assert (tmp_path / "real/new").read_text() == "new"
    after = (tmp_path / "real/file").stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode, before.st_uid, before.st_gid,
    )  # fmt: skip


FULL = """
import resource, sys
from pathlib import Path
from polyrefuse_shared.writing import CannotWrite, whole_folder, write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
folder = Path(sys.argv[1])
for write in (
    lambda: write_whole(folder / "file.txt", "x" * 1000),
    lambda: fill(whole_folder(folder / "new")),
):
    try:
        write()
    except CannotWrite as error:
        print(error)
"""
FILL = """
def fill(drafted):
    with drafted as draft:
        (draft / "a").write_text("x" * 1000)
"""


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("before")
    done = run(FILL + FULL, tmp_path)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert [line.partition(" cannot be written (File too large)")[0] for line in said] == [
        str(tmp_path / name) for name in ("file.txt", "new")
    ]
    assert (tmp_path / "file.txt").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_a_killed_writer_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    target = tmp_path / "deep/file.txt"
    seen = set()
    for _ in kill_points(lambda: write_whole(target, "after")):
        seen.add(target.read_text() if target.exists() else None)
        write_whole(target, "after")
        # What the killed one left was removed with this.
        assert tree(tmp_path) == {"deep": "folder", "deep/file.txt": b"after"}
        target.write_text("before")
    assert seen == {None, "before", "after"} or seen == {None, "before"}


def test_a_killed_writer_leaves_no_folder_or_a_whole_one(tmp_path: Path) -> None:
    def write() -> None:
        with whole_folder(tmp_path / "new") as draft:
            for name in "abc":
                (draft / name).write_text(name)

    whole = {"new": "folder", "new/a": b"a", "new/b": b"b", "new/c": b"c"}
    for _ in kill_points(write):
        if not (tmp_path / "new").exists():
            write()
        else:
            require_new(tmp_path / "other")
        assert tree(tmp_path) == whole
        shutil.rmtree(tmp_path / "new")
    assert tree(tmp_path) == whole


def test_a_failing_block_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "new"):
        1 / 0  # noqa: B018
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(CannotWrite, match="exists already; name a new folder"):
            require_new(tmp_path / name)
    with pytest.raises(CannotWrite, match="cannot be written"):
        require_new(tmp_path / "file/below")
    require_new(tmp_path / "new/one")
    assert not (tmp_path / "new/one").exists()


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_a_place_without_a_name_is_one_sentence(name: str) -> None:
    with pytest.raises(CannotWrite, match="cannot be written"):
        write_whole(Path(name), "text")


def test_append_makes_the_file_and_keeps_what_others_wrote(tmp_path: Path) -> None:
    target = tmp_path / "summary.md"
    append(target, "one\n")
    with target.open("a") as other:
        other.write("two\n")
    append(target, "drei ß\n")
    assert target.read_text(encoding="utf-8") == "one\ntwo\ndrei ß\n"
    with pytest.raises(CannotWrite, match="Is a directory"):
        append(tmp_path, "text")


def test_pipes_and_devices_stay_what_they_are(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    for name in ("pipe", "link", "null"):
        with pytest.raises(CannotWrite, match="it is not a regular file"):
            write_whole(tmp_path / name, "text")
    assert Path("/dev/null").is_char_device()
    assert (tmp_path / "pipe").is_fifo()
    with pytest.raises(CannotWrite, match="No such device or address"):
        append(tmp_path / "pipe", "text")
    append(tmp_path / "null", "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "null", "pipe"]
