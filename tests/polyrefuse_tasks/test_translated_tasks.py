"""Tasks of translations of one's own: no process loses those that it reads."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from polyrefuse_shared.log import warn_once
from polyrefuse_shared.writing import CannotWrite
from polyrefuse_tasks import translated_tasks
from polyrefuse_tasks.translated_tasks import write_translated
from tests.conftest import ROOT


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLYREFUSE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def data_folder(folder: Path, shared: Path, language: str, prompt: str) -> Path:
    """The reference data with a translation of one row."""
    folder.mkdir()
    for published in (shared / "data").iterdir():
        (folder / published.name).symlink_to(published)
    (folder / "translated/oktest").mkdir(parents=True)
    row = {"id": "oktest/0003", "prompt": prompt}
    (folder / f"translated/oktest/{language}.jsonl").write_text(json.dumps(row) + "\n")
    return folder


PROGRAM = """
import sys
from lm_eval.tasks import TaskManager
from polyrefuse_models.registration import translated_folders
manager = TaskManager(include_path=translated_folders(), include_defaults=False)
print(*manager.all_tasks, flush=True)
sys.stdin.readline()  # while the other process starts, and is done
(name,) = manager.match_tasks(["polyrefuse_oktest_*"])
print([doc["prompt"] for doc in manager.load([name])["tasks"][name].test_docs()])
"""


def start(data: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"POLYREFUSE_DATA_DIR": str(data)},
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_data_folders_share_a_cache(cache: Path, tmp_path: Path, shared: Path) -> None:
    first = start(data_folder(tmp_path / "one", shared, "da", "Hvad er en glimmerfisk?"))
    assert first.stdout is not None
    assert first.stdout.readline().split() == ["polyrefuse_oktest_da"]
    second = start(data_folder(tmp_path / "two", shared, "ga", "Cad is glimmerfish ann?"))
    assert second.communicate("\n")[0].splitlines() == [
        "polyrefuse_oktest_ga",
        "['Cad is glimmerfish ann?']",
    ]
    assert first.communicate("\n")[0].splitlines() == ["['Hvad er en glimmerfisk?']"]
    assert (first.returncode, second.returncode) == (0, 0)


def test_what_is_there_is_not_written_again(
    cache: Path, tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = data_folder(tmp_path / "data", shared, "da", "Hvad?")
    monkeypatch.setenv("POLYREFUSE_DATA_DIR", str(data))
    folder = write_translated()
    assert folder is not None
    (file,) = folder.iterdir()
    before = file.stat()
    assert write_translated() == folder
    after = file.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)

    translation = data / "translated/oktest/da.jsonl"
    translation.write_text(translation.read_text().replace("Hvad?", "Hvorfor?"))
    other = write_translated()
    assert other not in (None, folder) and file.is_file()
    checksums = [
        yaml.load(next(one.iterdir()).read_text(), yaml.BaseLoader)["metadata"]["sha256"]
        for one in (folder, other)
        if one is not None
    ]
    assert checksums[0] != checksums[1]


def _write(files: dict[str, str]) -> str:
    translated_tasks.translated_files = lambda: files
    return str(write_translated())


def test_many_processes_and_threads_write_at_once(cache: Path) -> None:
    files = {f"invented_{number}.yaml": "a: b\n" * 2000 for number in range(20)}
    with multiprocessing.get_context("fork").Pool(8) as pool:
        folders = set(pool.map(_write, [files] * 32))
    assert len(folders) == 1
    assert {path.name: path.read_text() for path in Path(folders.pop()).iterdir()} == files
    others = {name: text + "c: d\n" for name, text in files.items()}
    with ThreadPoolExecutor(8) as threads, pytest.MonkeyPatch.context() as patch:
        patch.setattr(translated_tasks, "translated_files", lambda: others)
        (folder,) = set(threads.map(lambda _: write_translated(), range(32)))
    assert folder is not None
    assert {path.name: path.read_text() for path in folder.iterdir()} == others
    assert len(list((cache / "tasks").iterdir())) == 2  # and no draft is left


def test_a_failure_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translated_tasks, "translated_files", lambda: {"no/such/folder": "a: b"})
    with pytest.raises(CannotWrite, match="cannot be written"):
        write_translated()
    assert not list((cache / "tasks").iterdir())


def test_nothing_is_written_where_there_are_none(
    cache: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYREFUSE_DATA_DIR", str(shared / "data"))
    assert write_translated() is None and not cache.exists()


BAD = {
    "el.jsonl": b'{"id": "oktest/0003"}',
    "ga.jsonl": b"\xff\xfe",
    "fi.jsonl": b'{"id": "oktest/0003", "prompt": "\\ud800"}',
    "en copy.jsonl": b"{}",
    ".jsonl": b"{}",
    "a:b.jsonl": b"{}",
}


def test_bad_files_take_no_good_one_along(
    cache: Path,
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = data_folder(tmp_path / "data", shared, "da", "et")
    monkeypatch.setenv("POLYREFUSE_DATA_DIR", str(folder))
    place = folder / "translated/oktest"
    for name, content in BAD.items():
        (place / name).write_bytes(content)
    os.mkfifo(place / "sw.jsonl")
    (place / "vi.jsonl").mkdir()
    (place / "bn.jsonl").symlink_to("nowhere")
    (place / os.fsdecode(b"\xff.jsonl")).write_bytes(b"{}")
    warn_once.cache_clear()
    written = write_translated()
    assert written is not None
    assert [file.name for file in written.iterdir()] == ["polyrefuse_oktest_da.yaml"]
    for name in [*BAD, "sw.jsonl", "vi.jsonl", "bn.jsonl", "udcff.jsonl"]:
        (one,) = {record.message for record in caplog.records if f"/{name}" in record.message
                  or f"\\{name}" in record.message}  # fmt: skip
        assert "\n" not in one
