"""Results at an address of fsspec: whole or not at all, once, and with no secret in a message."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from polyrefuse_studies import upload
from polyrefuse_studies.executors.local import Local
from polyrefuse_studies.folder import FINISHED, OtherStudy, StudyFolder
from polyrefuse_studies.jobs import OWN, folder_of, place
from polyrefuse_studies.runner import run
from polyrefuse_studies.upload import CannotUpload, Upload, Uploaded

from tests.commands import assert_one_sentence, run_in_process
from tests.small_study import write
from tests.studies.test_runner import job


class Failing(MemoryFileSystem):
    """A store that refuses some names, is slow, and remembers in which order files came."""

    protocol = "failing"
    cachable = False
    refused: str = "nothing"
    seconds: float = 0.0
    came: list[str] = []

    def put_file(self, lpath: str, rpath: str, **kwargs: object) -> None:  # type: ignore[override]
        time.sleep(self.seconds)
        if self.refused in rpath:
            raise OSError(f"the store is full, says failing://user:pass-word@store to {rpath}")
        super().put_file(lpath, rpath, **kwargs)
        self.came.append(rpath)

    def pipe_file(self, path: str, value: bytes, **kwargs: object) -> None:  # type: ignore[override]
        if self.refused in path:
            raise PermissionError(path)
        super().pipe_file(path, value, **kwargs)
        self.came.append(path)


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryFileSystem]:
    fsspec.register_implementation("failing", Failing, clobber=True)
    monkeypatch.setattr(Failing, "refused", "nothing")
    monkeypatch.setattr(Failing, "came", [])
    memory: MemoryFileSystem = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    yield memory
    memory.store.clear()


def answers(text: str) -> str:
    results = f"{OWN}/results/m"
    return f"mkdir -p {results}; echo {text} > {results}/samples; echo c > {OWN}/cache_1.db"


JOBS = [
    job("m/base", answers("yes")),
    job("m/other", f"sleep 0.5; {answers('no')}"),
    job("m/base-judged", f"cp {folder_of('m/base')}/results/m/samples {OWN}/labels", "m/base"),
    job("m/broken", "exit 3"),
]


def run_and_send(path: Path, url: str) -> Uploaded:
    folder, placed = StudyFolder(path), place(JOBS)
    sent = Upload(url, "study", folder)
    with folder.taken("study"), Local([], 2) as where:
        for one in placed:
            if folder.is_finished(one):
                sent.send(one)
        run(placed, folder, where, lambda what, one: sent.send(one) if what == "finished" else None)
    return sent.wait()


def tree(folder: Path) -> dict[str, bytes]:
    """The files of a folder, but for what is not sent."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("cache_")
    }


def finished(path: Path) -> dict[str, bytes]:
    """The files of finished jobs, by their place in the study's folder."""
    return {
        f"jobs/{mark.parent.name}/{name}": content
        for mark in path.glob(f"jobs/*/{FINISHED}")
        for name, content in tree(mark.parent).items()
    }


def test_finished_jobs_are_there_whole_and_nothing_else(tmp_path: Path) -> None:
    there = tmp_path / "there/deep"
    uploaded = run_and_send(tmp_path / "study", f"file://{there}")
    assert (uploaded.there, uploaded.failed) == (3, [])
    sent = tree(there)
    assert json.loads(sent.pop("study.json")) == {"study": "study"}
    assert sent == finished(tmp_path / "study")
    assert {Path(name).name for name in sent} == {
        *("job.json", "log.txt", FINISHED, "samples", "labels")
    }
    # Nothing is sent twice.
    times = {path: path.stat().st_mtime_ns for path in there.glob("jobs/**/*")}
    assert run_and_send(tmp_path / "study", f"file://{there}").there == 3
    assert {path: path.stat().st_mtime_ns for path in there.glob("jobs/**/*")} == times


def test_a_folder_says_last_that_it_is_finished(tmp_path: Path) -> None:
    run_and_send(tmp_path / "study", "failing://store/of")
    came = [name.partition("store/of/")[2] for name in Failing.came]
    assert came[0] == "study.json"
    folders = {name.split("/")[1] for name in came if name.startswith("jobs/")}
    assert len(folders) == 3
    for folder in folders:
        own = [name for name in came if name.startswith(f"jobs/{folder}/")]
        assert len(own) == 4
        assert own[-1] == f"jobs/{folder}/{FINISHED}"


def test_what_fails_stops_no_job_is_told_and_is_sent_by_the_next_run(
    tmp_path: Path, store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "failing://user:pass-word@store/of"
    monkeypatch.setattr(Failing, "refused", "results/m/samples")
    uploaded = run_and_send(tmp_path / "study", url)
    local = finished(tmp_path / "study")
    assert len([name for name in local if name.endswith(FINISHED)]) == 3
    assert uploaded.there == 1  # the judge's, which has no samples
    assert sorted(name for name, _ in uploaded.failed) == ["m/base", "m/other"]
    for _, said in uploaded.failed:
        assert "the store is full" in said and "pass-word" not in said and "user" not in said
    root = next(name for name in store.store if name.endswith("/study.json"))[: -len("study.json")]
    there = {name.removeprefix(root) for name in store.store}
    assert not [name for name in there if "base." in name and name.endswith(FINISHED)]
    monkeypatch.setattr(Failing, "refused", "nothing")
    uploaded = run_and_send(tmp_path / "study", url)
    assert (uploaded.there, uploaded.failed) == (3, [])
    sent = {name.removeprefix(root): file.getvalue() for name, file in store.store.items()}
    assert {k: v for k, v in sent.items() if k != "study.json"} == local


def test_what_another_run_of_a_job_has_sent_is_replaced(
    tmp_path: Path, store: MemoryFileSystem
) -> None:
    """Its results have the time in their names, and would stand beside these."""
    run_and_send(tmp_path / "first", "memory://of")
    (folder,) = {name.split("/")[3] for name in store.store if "/jobs/m-base." in name}
    store.pipe_file(f"/of/jobs/{folder}/results/m/results_of_then", b"then")
    run_and_send(tmp_path / "second", "memory://of")
    sent = {name.removeprefix("/of/"): file.getvalue() for name, file in store.store.items()}
    assert {k: v for k, v in sent.items() if k != "study.json"} == finished(tmp_path / "second")


@pytest.mark.parametrize("left", [b"", b'{"stu'])
def test_a_mark_that_a_killed_run_began_is_written_whole(
    tmp_path: Path, store: MemoryFileSystem, left: bytes
) -> None:
    store.pipe_file("/of/study.json", left)
    assert run_and_send(tmp_path / "study", "memory://of").there == 3
    assert json.loads(store.cat_file("/of/study.json")) == {"study": "study"}


def test_an_address_that_cannot_be_used_is_found_before_anything(
    tmp_path: Path, store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = StudyFolder(tmp_path / "study")

    def refused(url: str, said: str, kind: type[Exception] = CannotUpload) -> None:
        with pytest.raises(kind, match=said) as raised:
            Upload(url, "study", study)
        assert "\n" not in str(raised.value)
        for secret in ("pass-word", "AKIASECRET", "signature"):
            assert secret not in str(raised.value)

    refused("nowhere://a", "--upload nowhere://a cannot be .* run: Protocol not known: nowhere")
    refused("s3://AKIASECRET:pass-word@bucket/x", "--upload s3://bucket/x cannot .*s3fs")
    refused("/plain/path", "--upload /plain/path is not an fsspec address, such as s3://")
    refused("s3:/bucket", "--upload s3:/bucket is not an fsspec address")
    refused("http://127.0.0.1:9/x?signature=pass-word", "--upload http://127.0.0.1:9/x cannot be")
    refused(
        "ftp://user:pass-word@127.0.0.1:9/x", "--upload ftp://127.0.0.1:9/x cannot be .*refused"
    )
    refused(f"file://{tmp_path}", "contains the other; name another")
    refused(f"file://{tmp_path}/study/jobs", "contains the other; name another")
    (tmp_path / "plain").touch()
    refused(f"file://{tmp_path}/plain/x", "Not a directory")
    store.pipe_file("/full/mine.txt", b"mine")
    refused("memory://full", "memory://full holds no study; name a new", OtherStudy)
    store.pipe_file("/two/study.json", b'{"study": "two"}')
    refused("memory://two", "memory://two holds a study other than 'study'", OtherStudy)
    monkeypatch.setattr(Failing, "refused", "study.json")
    refused("failing://store", "failing://store cannot be written to.* no permission: ")
    monkeypatch.setattr(upload, "ANSWER", 0.5)
    monkeypatch.setattr(Failing, "ls", lambda *_, **__: time.sleep(20))
    refused("failing://store", "there is no answer in 0.5 seconds")
    assert set(store.store) == {"/full/mine.txt", "/two/study.json"}
    assert not study.path.exists()


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("s3://KEY:se/cr@et@bucket/a", "s3://bucket/a"),
        ("sftp://me:pw@host:22/a?x=1#y", "sftp://host:22/a"),
        ("simplecache::s3://KEY:secret@bucket/a", "simplecache::s3://bucket/a"),
        ("https://host/a?sig=abc", "https://host/a"),
        ("https://host/a?user=a@b.c", "https://host/a"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, plain: str) -> None:
    assert upload.shown(url) == plain
    assert upload.hidden(f"cannot open {url}, sorry", url) == f"cannot open {plain}, sorry"


def test_secrets_are_hidden_wherever_a_library_says_them() -> None:
    url = "ftp://me:p%40ss@host/a?token=abc%2Fdef"
    said = "login me:p@ss failed (password p@ss, p%40ss; token abc/def) at host"
    hidden = upload.hidden(said, url)
    assert not any(secret in hidden for secret in ("p@ss", "p%40ss", "abc/def"))
    assert hidden.endswith("at host")


# --- as a user drives it


def test_a_study_is_sent_with_its_report(
    tmp_path: Path, store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, output = write(tmp_path), tmp_path / "out"
    run_study = ("study", "run", file, "--output", output)
    monkeypatch.setattr(Failing, "refused", "/site/")
    url = "failing://someone:pass-word@store"
    code, out, err = run_in_process(*run_study, "--upload", url)
    assert code == 1
    assert "at failing://store: 1 job\n" in out
    assert "the report was not sent to failing://store, and the next run tries it again: " in out
    monkeypatch.setattr(Failing, "refused", "nothing")
    (root,) = {name.removesuffix("study.json") for name in store.store if "study.json" in name}
    store.pipe_file(f"{root}site/of_an_older_leaderboard.html", b"")
    code, out, err = run_in_process(*run_study, "--upload", url, "--json")
    assert code == 0, out
    assert json.loads(out)["upload"] == {"url": "failing://store", "jobs": 1, "failed": []}
    assert "[1/1]" not in err
    sent = {name.removeprefix(root): file.getvalue() for name, file in store.store.items()}
    names = {"study.json", "summary.json", *finished(output)}
    names |= {f"site/{name}" for name in tree(output / "site")}
    assert set(sent) == names
    assert sent["summary.json"] == (output / "summary.json").read_bytes()
    # No secret has been kept anywhere.
    kept = b"".join(path.read_bytes() for path in output.rglob("*") if path.is_file())
    assert b"pass-word" not in kept and "pass-word" not in out + err
    assert_one_sentence(
        run_in_process("study", "run", file, "--output", tmp_path / "x", "--upload", "nowhere://x"),
        "--upload nowhere://x cannot be written to, and nothing was run",
    )
    assert not os.path.exists(tmp_path / "x")
    # A folder of another study leaves no mark of this one at an address.
    store.store.clear()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "study.json").write_text('{"study": "another"}')
    assert_one_sentence(
        run_in_process("study", "run", file, "--output", tmp_path / "other", "--upload", url),
        "other holds the study 'another' and not 'small'; name another folder",
    )
    assert not store.store
