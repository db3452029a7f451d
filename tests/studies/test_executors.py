"""Ray and submitit do jobs as the local executor does: here Ray's local cluster and local jobs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from polyrefuse_studies.executors import ray as ray_executor
from polyrefuse_studies.executors import slurm
from polyrefuse_studies.executors.executor import TooLarge
from polyrefuse_studies.executors.ray import NoCluster, Ray
from polyrefuse_studies.executors.slurm import CannotSubmit, Slurm
from polyrefuse_studies.jobs import OWN, Job

from polyrefuse_shared.errors import UserError
from tests.commands import usual_signals
from tests.conftest import ROOT
from tests.studies.test_runner import CHAIN, job, names, run_all, wait_for

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "PYTHONPATH": str(ROOT),
}

WORKER = 'WORKER=$(cut -d" " -f4 /proc/$PPID/stat)'
"""In a job's script, the process that performs the job: it has started the guard of the shell."""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # Ray sets it, unless it is set.
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def needing(name: str, script: str, **needs: int) -> Job:
    """A job of a shell with what it needs."""
    return Job(name, "answers", "m", ("sh", "-c", script), **needs)  # type: ignore[arg-type]


# --- Ray


def test_ray_does_jobs_in_order_and_a_killed_worker_has_its_job_done_again(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    killed = f"{WORKER}; echo $WORKER >> begun; "
    killed += "[ -e once ] || { touch once; sleep 1; kill -9 $WORKER; sleep 60; }"
    jobs = [
        *CHAIN,
        job("m/killed", f"{killed}; echo s > {OWN}/out"),
        job("m/broken", "echo the reason; exit 4"),
        job("m/always", f"{WORKER}; kill -9 $WORKER; sleep 60"),
    ]
    outcome, placed, _ = run_all(tmp_path, jobs, Ray(slots=2))
    assert names(outcome.finished) == {"m/a", "m/b", "m/c", "m/d", "m/killed"}
    failed = {one.job.name: ended for one, ended in outcome.failed}
    assert failed["m/broken"]["said"] == "the reason"
    assert "Ray could not run it: The worker died unexpectedly" in failed["m/always"]["said"]
    assert json.loads((tmp_path / placed["m/always"].folder / "failed.json").read_text())["said"]
    assert (tmp_path / placed["m/d"].folder / "out").read_text() == "a\nb\nc\n"
    begun = (tmp_path / "begun").read_text().split()
    assert len(begun) == 2 and len(set(begun)) == 2


def test_slots_of_a_local_ray_are_jobs_at_a_time_and_processors_are_the_machine_s(
    tmp_path: Path,
) -> None:
    ray = pytest.importorskip("ray")
    script = f"touch now.$$; ls now.* | wc -l > {OWN}/at-once; sleep 0.7; rm now.$$"
    processors = os.cpu_count() or 1
    jobs = [needing(f"m/{i}", f"true {i}; {script}", cpus=1) for i in range(3)]
    jobs.append(needing("m/all", f"echo $OMP_NUM_THREADS > {OWN}/at-once", cpus=processors))
    _, placed, _ = run_all(tmp_path, jobs, Ray(slots=1))
    seen = [int((tmp_path / one.folder / "at-once").read_text()) for one in placed.values()]
    assert seen == [1, 1, 1, processors]
    assert not ray.is_initialized()
    large = needing("m/large", "true", gpus=2, memory=10**15)
    said = (
        rf"m/large needs 1 processors, 2 GPUs and 1e\+06 GB of memory, but no machine of the Ray "
        rf"cluster has more than {processors} processors, 0 GPUs and "
    )
    with pytest.raises(TooLarge, match=said):
        run_all(tmp_path / "large", [*CHAIN, large], Ray())
    assert not list(tmp_path.glob("large/jobs/*"))


@pytest.fixture
def address() -> Iterator[str]:
    """Of a cluster of somebody else, with GPUs that are numbers only."""
    pytest.importorskip("ray")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", f"--port={port}"]
    command += ["--num-cpus=5", "--num-gpus=3", f"--memory={2 * 10**9}", "--block"]
    command += ["--include-dashboard=false", "--node-ip-address=127.0.0.1"]
    head = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    yield f"127.0.0.1:{port}"
    head.terminate()
    head.wait(timeout=300)


def test_a_cluster_gives_each_job_what_it_needs_and_is_left_as_it_was(
    tmp_path: Path, address: str
) -> None:
    seen = f'echo "$CUDA_VISIBLE_DEVICES $OMP_NUM_THREADS" > {OWN}/seen'
    alone = f"touch now.$$; ls now.* | wc -l > {OWN}/at-once; sleep 0.7; rm now.$$"
    jobs = [
        needing("m/usual", seen),
        needing("m/much", f"true; {seen}", gpus=2, cpus=4),
        needing("m/none", f"true; true; {seen}", gpus=0),
        # 1.2 GB of 2 GB each.
        *(needing(f"m/{i}", f"true {i}; {alone}", gpus=0, memory=12 * 10**8) for i in range(2)),
    ]
    for _ in range(60):
        try:
            outcome, placed, _ = run_all(tmp_path, jobs, Ray(address))
            break
        except NoCluster:  # It is beginning.
            time.sleep(0.5)
    assert not outcome.failed, outcome.failed

    def of(name: str, file: str = "seen") -> str:
        return (tmp_path / placed[name].folder / file).read_text().rstrip("\n")

    gpus, threads = of("m/usual").split(" ")
    assert len(gpus.split(",")) == 1 and gpus.isdigit() and threads == "1"
    gpus, threads = of("m/much").split(" ")
    assert len(set(gpus.split(","))) == 2 and threads == "4"
    assert [of("m/0", "at-once"), of("m/1", "at-once")] == ["1", "1"]
    # It goes on for others.
    again, _, _ = run_all(tmp_path, jobs, Ray(address))
    assert len(again.finished_before) == len(jobs)
    with pytest.raises(TooLarge, match="m/x needs 1 processors and 4 GPUs, .* 5 processors and 3"):
        run_all(tmp_path / "x", [needing("m/x", "true", gpus=4)], Ray(address))


def test_a_cluster_that_is_dead_or_silent_is_one_sentence_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(ray_executor, "ANSWER", 4.0)
    with socket.socket() as silent:  # It takes connections, and never says a word.
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(NoCluster, match=f"No Ray cluster answers at {where} \\(no answer in 4"):
            run_all(tmp_path, CHAIN, Ray(where))
    with pytest.raises(NoCluster, match=r"answers at nowhere-at-all \(.*\); name another"):
        run_all(tmp_path, CHAIN, Ray("nowhere-at-all"))


class Silent:
    """Ray's module where the cluster was lost: no job ends, and nobody answers at its address."""

    gcs_address = "127.0.0.1:9"

    def wait(self, jobs: list[object], **_: object) -> tuple[list[object], list[object]]:
        return [], jobs

    def get_runtime_context(self) -> Silent:
        return self


def test_a_cluster_that_is_lost_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_executor, "LOST", 600.0)
    executor = Ray("there:6379")
    monkeypatch.setattr(executor, "_ray", Silent(), raising=False)
    monkeypatch.setattr(executor, "_heard", time.monotonic(), raising=False)
    executor._running["job"] = tmp_path
    assert executor.ended() == []
    executor._heard -= 601
    said = r"has not answered for 600 seconds \(there:6379\); run the same command again"
    with pytest.raises(NoCluster, match=said):
        executor.ended()
    # A cluster that answers again is not lost.
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        there.listen()
        monkeypatch.setattr(Silent, "gcs_address", f"127.0.0.1:{there.getsockname()[1]}")
        assert executor.ended() == []
    monkeypatch.setattr(Silent, "gcs_address", "127.0.0.1:9")
    assert executor.ended() == []


RAY_STUDY = """
    import json, sys
    from pathlib import Path
    from polyrefuse_studies.executors.ray import Ray
    from polyrefuse_studies.jobs import OWN
    from tests.studies.test_runner import job, run_all
    slow = job("m/slow", {script!r} + "; echo done > " + OWN + "/out")
    jobs = [slow, job("m/next", "true", "m/slow")]
    outcome, _, told = run_all(Path({path!r}), jobs, Ray())
    print(json.dumps([len(outcome.finished), len(outcome.finished_before)]))
"""


def start(path: Path, script: str, marker: str) -> subprocess.Popen[str]:
    """A process that runs a study by Ray; it and all that it starts have the marker."""
    program = dedent(RAY_STUDY).format(script=script, path=str(path))
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "MARKER": marker},
        preexec_fn=usual_signals,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def marked(marker: str, but: set[str], within: float = 300.0) -> list[str]:
    """Processes with the marker that are still there after so many seconds at most."""
    end = time.monotonic() + within
    while True:
        found = []
        for entry in Path("/proc").glob("[0-9]*/environ"):
            try:
                if f"MARKER={marker}".encode() in entry.read_bytes():
                    found.append((entry.parent / "comm").read_text().strip())
            except OSError:
                continue
        found = [name for name in found if name not in but]
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_study_that_is_ended_leaves_no_process_of_ray_and_goes_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    pytest.importorskip("ray")
    marker = uuid.uuid4().hex
    script = "[ -e begun ] || { touch begun; sleep 60; }; echo again > again"
    process = start(tmp_path, script, marker)
    wait_for(tmp_path / "begun")
    process.send_signal(number)
    process.communicate(timeout=300)
    # Ray's own agents of a local cluster end by themselves, within a minute or two.
    agents = {"ray::DashboardA", "ray::RuntimeEnv"} if number == signal.SIGKILL else set()
    assert not marked(marker, agents)
    assert not (tmp_path / "again").exists()
    second = start(tmp_path, script, marker)
    out, err = second.communicate(timeout=580)
    assert json.loads(out) == [2, 0], err


# --- Slurm


@pytest.fixture
def submitit(monkeypatch: pytest.MonkeyPatch) -> None:
    """With less patience for a disk that shows a result late."""
    pytest.importorskip("submitit")
    monkeypatch.setattr("submitit.core.core.Job._results_timeout_s", 1)


@pytest.mark.usefixtures("submitit")
def test_submitit_does_jobs_in_order(tmp_path: Path) -> None:
    executor = Slurm(tmp_path / "study/slurm", cluster="local", parameters={"timeout_min": 5})
    outcome, placed, _ = run_all(tmp_path / "study", [*CHAIN, job("m/broken", "exit 4")], executor)
    assert names(outcome.finished) == {"m/a", "m/b", "m/c", "m/d"}
    ((failed, ended),) = outcome.failed
    assert failed.job.name == "m/broken" and ended["exit"] == 4
    assert (tmp_path / "study" / placed["m/d"].folder / "out").read_text() == "a\nb\nc\n"


@pytest.mark.usefixtures("submitit")
def test_a_killed_job_of_submitit_is_a_failure_that_says_so(tmp_path: Path) -> None:
    # The process of submitit that performs the job, as a machine that goes away would take it.
    jobs = [job("m/killed", f"{WORKER}; kill -9 $WORKER; sleep 60"), job("m/fine", "true")]
    executor = Slurm(tmp_path / "study/slurm", cluster="local")
    outcome, placed, _ = run_all(tmp_path / "study", jobs, executor)
    assert names(outcome.finished) == {"m/fine"}
    ((_, ended),) = outcome.failed
    assert ended["exit"] is None and "ended as " in ended["said"]


SBATCH = """\
    #!/bin/sh
    for last; do :; done
    n=$(($(ls {folder}/script.* 2>/dev/null | wc -l) + 1))
    [ -e {folder}/refuse ] && {{ echo "sbatch: error: invalid partition: gpux" >&2; exit 1; }}
    cp "$last" {folder}/script.$n
    echo "Submitted batch job $n"
"""

SACCT = """\
    #!/bin/sh
    echo "JobID|State|NodeList"
    for i in 1 2 3 4; do echo "$i|NODE_FAIL|node7"; done
"""


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, submitit: None) -> Path:
    """Commands of Slurm that take every job, and lose its machine."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in (
        ("sbatch", SBATCH),
        ("sacct", SACCT),
        ("srun", ""),
        ("scancel", "#!/bin/sh"),
    ):
        (commands / name).write_text(dedent(text).format(folder=commands))
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    return commands


def test_each_job_of_slurm_asks_for_what_it_needs_and_a_lost_machine_is_told(
    tmp_path: Path, fake_slurm: Path
) -> None:
    jobs = [
        needing("m/much", "true", gpus=2, cpus=6, memory=3 * 2**30 + 1),
        needing("m/usual", "true; true"),
        needing("m/none", "true; true; true", gpus=0),
    ]
    parameters = {"timeout_min": 7, "slurm_partition": "gpu", "slurm_mem": "9G", "gpus_per_node": 1}
    executor = Slurm(tmp_path / "study/slurm", parameters=parameters)
    outcome, _, _ = run_all(tmp_path / "study", jobs, executor)
    asked = []
    for place in (1, 2, 3):
        lines = (fake_slurm / f"script.{place}").read_text().splitlines()
        options = [one.removeprefix("#SBATCH --") for one in lines if one.startswith("#SBATCH --")]
        asked.append(dict(one.partition("=")[::2] for one in options))
    assert [one["partition"] for one in asked] == ["gpu"] * 3
    assert [one["time"] for one in asked] == ["7"] * 3
    assert [one["gpus-per-node"] for one in asked] == ["2", "1", "0"]
    assert [one.get("cpus-per-task") for one in asked] == ["6", None, None]
    assert [one["mem"] for one in asked] == ["3073MB", "9G", "9G"]
    said = {one.job.name: ended["said"] for one, ended in outcome.failed}
    assert set(said) == {"m/much", "m/usual", "m/none"}
    assert all("ended as NODE_FAIL" in one for one in said.values()), said


def test_what_slurm_refuses_is_one_sentence(tmp_path: Path, fake_slurm: Path) -> None:
    (fake_slurm / "refuse").touch()
    with pytest.raises(CannotSubmit, match="m/a cannot be submitted to slurm: .*invalid partition"):
        run_all(tmp_path / "study", CHAIN, Slurm(tmp_path / "study/slurm"))
    with pytest.raises(CannotSubmit, match="submitit cannot submit to slurm: .*timeout_mon"):
        run_all(tmp_path / "study", CHAIN, Slurm(tmp_path / "s", parameters={"timeout_mon": 5}))


def test_a_slurm_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    with pytest.raises(CannotSubmit, match="submitit cannot submit to slurm: "):
        run_all(tmp_path / "study", CHAIN, Slurm(tmp_path / "study/slurm"))
    with pytest.raises(UserError, match="--slurm-parameters \\[1\\] is not a JSON object"):
        slurm.parse("[1]")
    with pytest.raises(UserError, match="is not a JSON object"):
        slurm.parse("{timeout")
    assert slurm.parse(None) == {} and slurm.parse('{"timeout_min": 5}') == {"timeout_min": 5}
