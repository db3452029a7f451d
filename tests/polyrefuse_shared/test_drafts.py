"""Drafts of living processes stay, those of dead ones go, and locks keep others out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from polyrefuse_shared import drafts
from polyrefuse_shared.drafts import Busy, alone, discard, draft, locked, make_folder
from tests.conftest import ROOT
from tests.kill_points import kill_points, tree

HOLDS = """
import sys, time
from pathlib import Path
from polyrefuse_shared.drafts import draft, locked
where = Path(sys.argv[2])
holding = locked(where, patience=0) if sys.argv[1] == "lock" else draft(where, Path.mkdir)
with holding as path:
    if sys.argv[1] == "draft":
        (path / "file").write_text("text")
    print("ready", flush=True)
    time.sleep(100)
"""


def holder(what: str, where: Path) -> subprocess.Popen[str]:
    """A process that has a lock or a draft, until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, what, str(where)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()


def test_a_draft_stays_while_its_process_lives_and_goes_when_it_is_dead(tmp_path: Path) -> None:
    living = holder("draft", tmp_path)
    try:
        (theirs,) = tmp_path.iterdir()
        with draft(tmp_path, Path.mkdir) as mine:
            assert set(tmp_path.iterdir()) == {theirs, mine}
        assert (theirs / "file").read_text() == "text"
    finally:
        kill(living)
    assert theirs.exists()
    with draft(tmp_path, Path.touch):
        assert not theirs.exists()
    assert not list(tmp_path.iterdir())


def test_a_stopped_process_has_its_draft_still(tmp_path: Path) -> None:
    stopped = holder("draft", tmp_path)
    try:
        stopped.send_signal(signal.SIGSTOP)
        with draft(tmp_path, Path.mkdir):
            pass
        assert len(list(tmp_path.iterdir())) == 1
    finally:
        kill(stopped)


def test_what_only_has_such_a_name_is_no_trouble(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".polyrefuse-pipe.partial")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("text")
    (tmp_path / ".polyrefuse-link.partial").symlink_to("kept")
    with draft(tmp_path, Path.touch):
        pass
    assert (tmp_path / "kept/file").read_text() == "text"


def test_many_at_once_each_keep_their_own(tmp_path: Path) -> None:
    """A draft is never taken for a stale one in the moment before it is locked."""
    lost = []

    def write() -> None:
        for _ in range(50):
            with draft(tmp_path, Path.mkdir) as mine:
                (mine / "file").write_text("text")
                if not (mine / "file").exists():
                    lost.append(mine)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not lost
    assert not list(tmp_path.iterdir())


def test_a_locked_folder_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a/b"
    other = holder("lock", folder)
    try:
        said = r"Another process is writing to .*a/b; wait until it ends"
        with pytest.raises(Busy, match=said), locked(folder, patience=0.1):
            pass
        begun_to_wait, wait = threading.Event(), time.sleep
        with monkeypatch.context() as patched:
            patched.setattr(time, "sleep", lambda seconds: begun_to_wait.set() or wait(seconds))
            ended = threading.Thread(target=lambda: begun_to_wait.wait(600) and kill(other))
            ended.start()
            with locked(folder, patience=600):
                assert begun_to_wait.is_set()
            ended.join()
        assert other.returncode is not None
    finally:
        kill(other)


def test_a_name_is_one_process_s_and_leaves_nothing(tmp_path: Path) -> None:
    """Each waits for the one before, which removes what the others wait for."""
    at_once, most, total = 0, 0, 0

    def work() -> None:
        nonlocal at_once, most, total
        with alone(tmp_path / ".name", patience=600):
            at_once += 1
            most = max(most, at_once)
            time.sleep(0.01)
            total += 1
            at_once -= 1

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, total) == (1, 12)
    assert not list(tmp_path.iterdir())
    one, other = (alone(tmp_path / name, patience=0) for name in (".name", ".other"))
    with one, other, pytest.raises(Busy), alone(tmp_path / ".name", patience=0):
        pass


def test_a_folder_that_goes_while_it_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Path.mkdir` finds the folder, and its owner removes it before `mkdir` looks what it is."""
    wanted = tmp_path / "parent" / ".name"
    wanted.mkdir(parents=True)
    is_dir = Path.is_dir

    def removed_first(path: Path) -> bool:
        monkeypatch.setattr(Path, "is_dir", is_dir)
        wanted.rmdir()
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", removed_first)
    make_folder(wanted)
    assert wanted.is_dir()


def test_a_folder_whose_parent_goes_while_it_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Path.mkdir` makes the parent, and another process removes it before the folder is made."""
    wanted = tmp_path / "parent" / "folder"
    mkdir = Path.mkdir

    def parent_removed_first(path: Path, mode: int = 0o777, *flags: bool, **named: bool) -> None:
        if path == wanted and not named.get("parents"):
            monkeypatch.setattr(Path, "mkdir", mkdir)
            wanted.parent.rmdir()
        mkdir(path, mode, *flags, **named)

    monkeypatch.setattr(Path, "mkdir", parent_removed_first)
    make_folder(wanted)
    assert wanted.is_dir()
    assert Path.mkdir is mkdir  # The parent was removed.


def test_a_folder_that_goes_before_its_draft_is_made_is_made_again(tmp_path: Path) -> None:
    """Another process may have made the folder, failed, and removed it because it was empty."""
    folder, made = tmp_path / "new" / "folder", []

    def removed_first(path: Path) -> None:
        if not made:
            folder.rmdir()
        made.append(path)
        path.mkdir()

    with draft(folder, removed_first) as mine:
        assert mine.is_dir() and mine.parent == folder
    assert len(made) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_folder_that_can_never_be_made_is_not_tried_for_ever() -> None:
    for make in (make_folder, lambda folder: draft(folder, Path.mkdir).__enter__()):
        with pytest.raises(FileNotFoundError):
            make(Path("/proc/nowhere/at all"))
    with pytest.raises(FileNotFoundError):
        draft(Path("/proc"), Path.mkdir).__enter__()


@pytest.mark.parametrize("inside", [(), ("folder",), ("folder", "in it")])
def test_a_folder_is_not_made_where_something_else_is(
    tmp_path: Path, inside: tuple[str, ...]
) -> None:
    file, dangling = tmp_path / "file", tmp_path / "dangling"
    file.touch()
    dangling.symlink_to(tmp_path / "nowhere")
    for taken in (file, dangling):
        with pytest.raises((FileExistsError, NotADirectoryError)):
            make_folder(taken.joinpath(*inside))
    linked = tmp_path / "linked"
    linked.symlink_to(tmp_path, target_is_directory=True)
    make_folder(linked.joinpath(*inside))
    assert tmp_path.joinpath(*inside).is_dir()


def test_a_folder_that_was_exchanged_is_locked_anew(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with locked(folder, patience=0):
        folder.rename(tmp_path / "away")
        with locked(folder, patience=0), pytest.raises(Busy), locked(folder, patience=0):
            pass


def test_where_the_system_knows_no_locks_all_drafts_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".polyrefuse-1.partial").mkdir()

    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    for name, value in (("fcntl", None), ("fcntl.flock", unsupported)):
        with monkeypatch.context() as patched:
            if name == "fcntl":
                patched.setattr(drafts, name, value)
            else:
                patched.setattr(drafts.fcntl, "flock", value)
            with draft(tmp_path, Path.mkdir) as mine, locked(tmp_path / "x", patience=0):
                assert mine.is_dir()
        assert [path.name for path in tmp_path.glob(".*")] == [".polyrefuse-1.partial"]


def test_a_folder_is_discarded_whole(tmp_path: Path) -> None:
    folder = tmp_path / "folder"

    def fill() -> None:
        folder.mkdir()
        for name in "abc":
            (folder / name).write_text(name)

    discard(folder)
    fill()
    for number in kill_points(lambda: discard(folder)):
        assert folder.exists() == (number == 0)
        if folder.exists():
            assert len(list(folder.iterdir())) == 3
        else:
            fill()
        with draft(tmp_path, Path.mkdir):
            pass
        assert set(tree(tmp_path)) == {"folder", "folder/a", "folder/b", "folder/c"}
    assert not list(tmp_path.iterdir())


def test_who_inherits_a_lock_holds_it_too(tmp_path: Path) -> None:
    with locked(tmp_path, patience=0) as lock:
        assert lock is not None
        heir = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[lock])
    with heir:
        with pytest.raises(Busy), locked(tmp_path, patience=0):
            pass
        assert heir.stdin is not None
        heir.stdin.close()
        with locked(tmp_path, patience=60):
            assert heir.wait(60) == 0
