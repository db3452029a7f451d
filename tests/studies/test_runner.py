"""Jobs are run in order, once, and go on after whatever happened: here as commands of a shell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from polyrefuse_studies.environment import of_a_job
from polyrefuse_studies.executors.executor import Executor, TooLarge
from polyrefuse_studies.executors.local import Local, NoDevice, find_devices
from polyrefuse_studies.folder import FINISHED, OtherStudy, StudyFolder, read
from polyrefuse_studies.jobs import OWN, Job, Placed, folder_of, place
from polyrefuse_studies.runner import Outcome, run

from polyrefuse_shared.drafts import Busy, locked
from polyrefuse_shared.writing import CannotWrite
from tests.commands import usual_signals
from tests.conftest import ROOT
from tests.kill_points import kill_points
from tests.waiting import PATIENCE, wait_until


def job(name: str, script: str, *needs: str, **more: object) -> Job:
    """A job that a shell does."""
    command = ("sh", "-c", script)
    return Job(name, "answers", "m", command, needs, more)  # type: ignore[arg-type]


def until(condition: str) -> str:
    """A shell's command that waits for a condition, but not for ever."""
    return f"n=0; until {condition} || [ $((n += 1)) -gt 6000 ]; do sleep 0.1; done"


CHAIN = [
    job("m/a", f"echo a > {OWN}/out"),
    job("m/b", f"cat {folder_of('m/a')}/out > {OWN}/out; echo b >> {OWN}/out", "m/a"),
    job("m/c", f"echo c > {OWN}/out"),
    job("m/d", f"cat {folder_of('m/b')}/out {folder_of('m/c')}/out > {OWN}/out", "m/b", "m/c"),
]


def run_all(
    path: Path, jobs: Sequence[Job], executor: Executor | None = None
) -> tuple[Outcome, dict[str, Placed], list[str]]:
    folder, placed, told = StudyFolder(path), place(jobs), []
    with folder.taken("study"), executor or Local([], 2) as where:
        outcome = run(
            placed, folder, where, lambda what, one: told.append(f"{what} {one.job.name}")
        )
    return outcome, {one.job.name: one for one in placed}, told


def names(placed: Sequence[Placed]) -> set[str]:
    return {one.job.name for one in placed}


def test_each_job_waits_for_what_it_needs_and_is_run_once(tmp_path: Path) -> None:
    outcome, placed, told = run_all(tmp_path, CHAIN)
    assert names(outcome.finished) == {"m/a", "m/b", "m/c", "m/d"}
    assert (tmp_path / placed["m/d"].folder / "out").read_text() == "a\nb\nc\n"
    assert told.index("finished m/a") < told.index("starts m/b")
    assert max(told.index("finished m/b"), told.index("finished m/c")) < told.index("starts m/d")
    again, _, told = run_all(tmp_path, CHAIN)
    assert names(again.finished_before) == names(outcome.finished) and not told


def test_slots_are_all_taken_and_not_more(tmp_path: Path) -> None:
    # The first waits for the second, however slow the machine is.
    second = until("[ $(ls begun.* | wc -l) -gt 1 ]")
    count = f"sleep 0.5; ls now.* | wc -l > {OWN}/at-once"
    script = f"touch now.$$ begun.$$; {second}; {count}; rm now.$$"
    jobs = [job(f"m/{i}", script, number=i) for i in range(4)]
    _, placed, _ = run_all(tmp_path, jobs)
    at_once = [int((tmp_path / one.folder / "at-once").read_text()) for one in placed.values()]
    assert max(at_once) == 2


def test_a_changed_setting_reruns_what_depends_on_it_and_nothing_else(tmp_path: Path) -> None:
    _, before, _ = run_all(tmp_path, CHAIN)
    changed = [CHAIN[0], CHAIN[1], job("m/c", f"echo C > {OWN}/out"), CHAIN[3]]
    outcome, after, _ = run_all(tmp_path, changed)
    assert names(outcome.finished_before) == {"m/a", "m/b"}
    assert names(outcome.finished) == {"m/c", "m/d"}
    assert (tmp_path / after["m/d"].folder / "out").read_text() == "a\nb\nC\n"
    assert (tmp_path / before["m/d"].folder / "out").read_text() == "a\nb\nc\n"
    # What a job rests on beside its command changes it, too.
    other = job("m/a", f"echo a > {OWN}/out", versions="2")
    assert place([other])[0].key != place(CHAIN[:1])[0].key
    assert names(run_all(tmp_path, CHAIN)[0].finished_before) == names(list(before.values()))


def test_a_failed_job_stops_what_depends_on_it_and_nothing_else(tmp_path: Path) -> None:
    flag = tmp_path.parent / f"{tmp_path.name}-mended"
    jobs = [
        job("m/a", f"echo first; [ -e {flag} ] || {{ echo the reason >&2; exit 3; }}"),
        job("m/b", "true", "m/a"),
        job("m/c", "true", "m/b"),
        job("m/d", f"echo d > {OWN}/out"),
    ]
    outcome, placed, _ = run_all(tmp_path, jobs)
    assert names(outcome.finished) == {"m/d"}
    ((failed, ended),) = outcome.failed
    assert failed.job.name == "m/a"
    assert ended["exit"] == 3 and ended["said"] == "first\nthe reason"
    assert [(one.job.name, why) for one, why in outcome.waiting] == [("m/b", "m/a"), ("m/c", "m/a")]
    flag.touch()
    outcome, _, _ = run_all(tmp_path, jobs)
    assert names(outcome.finished) == {"m/a", "m/b", "m/c"}
    assert names(outcome.finished_before) == {"m/d"}
    flag.unlink()


def test_an_attempt_begins_without_what_the_last_one_left_but_with_its_cache(
    tmp_path: Path,
) -> None:
    script = f"ls {OWN} | grep -v -e job.json -e log.txt > seen; mv seen {OWN}/seen"
    one = place([job("m/a", script)])[0]
    folder = tmp_path / one.folder
    (folder / "results").mkdir(parents=True)
    (folder / "results" / "half.json").touch()
    (folder / "failed.json").touch()
    (folder / "cache_rank0.db").touch()
    run_all_in = StudyFolder(tmp_path)
    (tmp_path / "study.json").write_text('{"study": "study"}')
    with run_all_in.taken("study"), Local([]) as where:
        run([one], run_all_in, where, lambda *_: None)
    assert (folder / "seen").read_text() == "cache_rank0.db\n"


# --- killed


def start_runner(path: Path) -> subprocess.Popen[str]:
    """A process that runs a job, which ends when there is a file `go`, and one after it."""
    program = dedent(f"""
        from pathlib import Path
        from tests.studies.test_runner import job, run_all, until
        from polyrefuse_studies.jobs import OWN
        from polyrefuse_studies.signals import ended_by_signals
        jobs = [
            job("m/slow", "echo >> begun; " + until("[ -e go ]") + "; touch " + OWN + "/out"),
            job("m/next", "true", "m/slow"),
        ]
        with ended_by_signals():
            outcome, _, told = run_all(Path({str(path)!r}), jobs)
        print(len(outcome.finished), len(outcome.finished_before))
    """)
    return subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        preexec_fn=usual_signals,
    )  # fmt: skip


def wait_for(path: Path) -> None:
    wait_until(path.exists)


def content(path: Path) -> str:
    """What a line of a file says, once it is written."""
    wait_until(lambda: path.exists() and path.read_text().endswith("\n"))
    return path.read_text().strip()


def is_running(process: Path) -> bool:
    """Whether the process of a file `/proc/NUMBER/stat` is there and is no zombie."""
    try:
        return ") Z " not in process.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def performing(path: Path) -> list[int]:
    """Processes that do a job of a study's folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"polyrefuse_studies.perform" in words and str(path).encode() in b" ".join(words):
            found.append(int(entry.parent.name))
    return found


def test_a_job_that_outlives_a_killed_runner_is_waited_for_and_not_done_twice(
    tmp_path: Path,
) -> None:
    runner = start_runner(tmp_path)
    wait_for(tmp_path / "begun")
    runner.kill()
    runner.wait()
    second = start_runner(tmp_path)
    wait_until(lambda: len(performing(tmp_path)) == 2)
    (tmp_path / "go").touch()
    out, _ = second.communicate(timeout=PATIENCE)
    assert out.split() == ["2", "0"]
    assert len((tmp_path / "begun").read_text().splitlines()) == 1


def test_a_killed_job_is_done_again_and_leaves_no_process_behind(tmp_path: Path) -> None:
    runner = start_runner(tmp_path)
    wait_for(tmp_path / "begun")
    runner.kill()
    (process,) = performing(tmp_path)
    os.kill(process, signal.SIGKILL)
    runner.wait()
    second = start_runner(tmp_path)
    wait_until(lambda: len((tmp_path / "begun").read_text().splitlines()) == 2)
    assert not list(tmp_path.glob(f"jobs/*/{FINISHED}")) and second.poll() is None
    (tmp_path / "go").touch()
    out, _ = second.communicate(timeout=PATIENCE)
    assert out.split() == ["2", "0"]
    assert len((tmp_path / "begun").read_text().splitlines()) == 2


def test_a_job_is_locked_until_its_command_has_ended(tmp_path: Path) -> None:
    """Its guard outlives a killed process by a moment, in which the command may still write."""
    script = f"echo $PPID > {OWN}/guard; echo $$ > {OWN}/command; sleep 600"
    one = place([job("m/a", script)])[0]
    folder = StudyFolder(tmp_path).prepare(one)
    process = subprocess.Popen(
        [sys.executable, "-m", "polyrefuse_studies.perform", str(folder)], cwd=ROOT
    )
    command = Path("/proc", content(folder / "command"), "stat")
    guard = int(content(folder / "guard"))
    try:
        os.kill(guard, signal.SIGSTOP)
        process.kill()
        process.wait()
        assert is_running(command)
        with pytest.raises(Busy), locked(folder, patience=0):
            pass
    finally:
        os.kill(guard, signal.SIGCONT)
    with locked(folder, patience=60):
        assert not is_running(command)


def test_a_guard_that_is_told_to_end_while_it_starts_ends_its_command() -> None:
    program = dedent("""
        import os, signal, subprocess, sys
        from polyrefuse_studies import guard
        start = subprocess.Popen
        def told(*given, **named):
            process = start(*given, **named)
            os.kill(os.getpid(), signal.SIGTERM)
            return process
        guard.subprocess.Popen = told
        print(guard.guard(os.getppid(), ["sleep", "600"]))
    """)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.stdout == f"{-signal.SIGTERM}\n", done.stderr


def test_ctrl_c_while_a_job_starts_ends_the_job_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, start = [], subprocess.Popen

    def interrupted(*given: Any, **named: Any) -> subprocess.Popen[bytes]:
        started.append(start(*given, **named))
        signal.raise_signal(signal.SIGINT)
        return started[0]

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(subprocess, "Popen", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_all(tmp_path, [job("m/a", "sleep 600")])
        assert started[0].returncode is not None
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
        started[0].kill()
        started[0].wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_study_ends_its_jobs_too(
    tmp_path: Path, number: signal.Signals
) -> None:
    runner = start_runner(tmp_path)
    wait_for(tmp_path / "begun")
    runner.send_signal(number)
    code = runner.wait(timeout=PATIENCE)
    # Python itself ends by SIGINT where nobody catches it.
    assert code == (-number if number == signal.SIGINT else 128 + number)
    wait_until(lambda: not performing(tmp_path))
    assert not list(tmp_path.glob(f"jobs/*/{FINISHED}"))


# --- folders and devices


def test_a_folder_is_of_one_study_and_of_one_process(tmp_path: Path) -> None:
    folder, again = StudyFolder(tmp_path / "new"), StudyFolder(tmp_path / "new")
    busy = pytest.raises(Busy, match="Another process is writing")
    with folder.taken("one"), busy, again.taken("one"):
        pass
    other = pytest.raises(OtherStudy, match="holds the study 'one' and not 'two'")
    with other, folder.taken("two"):
        pass
    full = StudyFolder(tmp_path / "full")
    full.path.mkdir()
    (full.path / "mine.txt").touch()
    no_study = pytest.raises(OtherStudy, match="holds no study; name a new or an empty folder")
    with no_study, full.taken("one"):
        pass
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_a_folder_whose_mark_is_being_written_is_no_other_study_s(tmp_path: Path) -> None:
    """Another process writes it at this moment, or was killed when it did."""

    def take() -> None:
        with StudyFolder(tmp_path).taken("one"):
            pass

    kills = 0
    for _ in kill_points(take):
        kills += 1
        take()
        assert [path.name for path in tmp_path.iterdir()] == ["study.json"]
        (tmp_path / "study.json").unlink()
    assert kills > 1


def test_a_job_is_given_as_many_devices_as_it_needs(tmp_path: Path) -> None:
    jobs = [
        Job(f"m/{gpus}", "answers", "m", ("sh", "-c", f"echo $CUDA_VISIBLE_DEVICES > {OWN}/out"),
            rests_on={"gpus": gpus}, gpus=gpus)
        for gpus in (None, 2)
    ]  # fmt: skip
    _, placed, _ = run_all(tmp_path, jobs, Local(["1", "3"]))
    seen = [(tmp_path / one.folder / "out").read_text().strip() for one in placed.values()]
    assert seen[0] in ("1", "3") and sorted(seen[1].split(",")) == ["1", "3"]
    big = Job("m/4", "answers", "m", ("true",), gpus=4)
    small = job("m/small", "true")
    with pytest.raises(TooLarge, match="m/4 needs 4 GPUs, but there are 2"):
        run_all(tmp_path / "big", [small, big], Local(["1", "3"]))
    assert not list(tmp_path.glob("big/jobs/*"))  # nothing was run before that was found
    with pytest.raises(NoDevice, match="There is no GPU '7': torch sees none here"):
        find_devices("cuda:7")
    assert find_devices(None) == []


def test_a_broken_mark_is_a_failure_and_no_crash(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[1]")
    assert read(tmp_path / "x.json") == {} == read(tmp_path / "none.json")
    (tmp_path / "x.json").write_text(json.dumps({"a": 1}))
    assert read(tmp_path / "x.json") == {"a": 1}


def test_a_new_or_an_empty_folder_is_taken_and_nothing_else(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with StudyFolder(empty).taken("one"):
        pass
    assert StudyFolder(empty).is_of_a_study
    (tmp_path / "file").touch()
    for path, said in (
        (tmp_path / "file", "is not a folder; name a new or an empty one"),
        (tmp_path / "file" / "below", "cannot be written"),
        (Path("/proc/nowhere"), "cannot be written"),
        (tmp_path / ("x" * 300), "cannot be written"),
        (tmp_path / "a\0b", "cannot be written"),
    ):
        with pytest.raises(CannotWrite, match=said), StudyFolder(path).taken("one"):
            pass
    if os.getuid():
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o500)
        with pytest.raises(CannotWrite), StudyFolder(closed / "new").taken("one"):
            pass


def test_checksums_are_kept_in_a_study_s_folder_alone(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    folder.keep_checksums({"a": "1"})
    assert not list(tmp_path.iterdir()) and folder.checksums() == {}
    with folder.taken("one"):
        folder.keep_checksums({"a": "1"})
    assert folder.checksums() == {"a": "1"}
    (tmp_path / "checksums.json").write_text('{"a": [1], "b": "2"}')
    assert folder.checksums() == {"b": "2"}


def test_a_job_that_is_called_otherwise_now_is_not_run_again(tmp_path: Path) -> None:
    _, before, _ = run_all(tmp_path, CHAIN)
    renamed = [
        job(one.name.replace("m/", "n/"), one.command[2].replace("m/", "n/"),
            *(need.replace("m/", "n/") for need in one.needs))
        for one in CHAIN
    ]  # fmt: skip
    folder = StudyFolder(tmp_path)
    placed = place(renamed, folder.made())
    assert all(folder.is_finished(one) for one in placed)
    assert {one.folder for one in placed} == {one.folder for one in before.values()}
    # Of two folders of one job, the finished one is it.
    copy = tmp_path / placed[0].folder.replace("m-a", "z-a")
    copy.mkdir()
    assert place(renamed, folder.made())[0].folder == placed[0].folder


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("POLYREFUSE_DATA_DIR", "data", "{here}/data"),
        ("POLYREFUSE_CACHE_DIR", "", ""),
        ("HF_HOME", "/hub/of all", "/hub/of all"),
        ("HF_DATASETS_CACHE", "../sets", "{above}/sets"),
        ("HF_HUB_CACHE", "~/hub", "~/hub"),  # transformers knows whose folder that is
        ("XDG_CACHE_HOME", "$SCRATCH/x", "$SCRATCH/x"),
        ("PYTHONPATH", "own:/lib:", "{here}/own:/lib:{here}"),
    ],
)
def test_a_relative_folder_of_the_environment_is_meant_from_where_the_study_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, value)
    assert of_a_job()[name] == said.format(here=tmp_path, above=tmp_path.parent)


def test_a_job_gets_that_environment_and_none_of_the_modules_where_it_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("POLYREFUSE_DATA_DIR", "data")
    if sys.version_info >= (3, 11):
        Path("threading.py").write_text("raise ImportError('a file of the user')")
    _, placed, _ = run_all(
        tmp_path / "study", [job("m/a", f"echo $POLYREFUSE_DATA_DIR > {OWN}/out")]
    )
    said = (tmp_path / "study" / placed["m/a"].folder / "out").read_text()
    assert said == f"{tmp_path}/here/data\n"


def test_a_job_that_is_killed_says_by_which_signal(tmp_path: Path) -> None:
    jobs = [
        job("m/kill", "echo first; kill -9 $$"),
        job("m/segv", "kill -SEGV $$"),
        job("m/none", "true; exec /nowhere/at-all"),
    ]
    outcome, _, _ = run_all(tmp_path, jobs)
    ended = {one.job.name: how for one, how in outcome.failed}
    assert ended["m/kill"]["said"].splitlines() == [
        "first",
        "its process was ended by SIGKILL, which the system also sends when memory runs out",
    ]
    assert ended["m/kill"]["exit"] == -signal.SIGKILL
    assert ended["m/segv"]["said"] == "its process was ended by SIGSEGV"
    assert ended["m/none"]["exit"] == 127


def test_a_performer_that_is_killed_takes_the_whole_command_with_it_and_is_told(
    tmp_path: Path,
) -> None:
    # Children of the command, one of them of a group of its own; $PPID is the guard.
    script = "sleep 61 & echo $! > child; kill -9 $(cut -d' ' -f4 /proc/$PPID/stat); sleep 62"
    outcome, _, _ = run_all(tmp_path, [job("m/a", script), job("m/b", "true", "m/a")])
    ((failed, how),) = outcome.failed
    assert failed.job.name == "m/a" and how["exit"] is None
    assert how["said"] == (
        "its process was ended by SIGKILL, which the system also sends when memory runs out"
    )
    child = Path("/proc", (tmp_path / "child").read_text().strip(), "stat")
    wait_until(lambda: not is_running(child))
    assert [one.job.name for one, _ in outcome.waiting] == ["m/b"]


def test_what_a_command_leaves_running_ends_with_it(tmp_path: Path) -> None:
    outcome, _, _ = run_all(tmp_path, [job("m/a", "sleep 63 & echo $! > child")])
    assert names(outcome.finished) == {"m/a"}
    child = Path("/proc", (tmp_path / "child").read_text().strip(), "stat")
    wait_until(lambda: not is_running(child))
