"""Ray and submitit do jobs as the local executor does: here Ray's local cluster and local jobs."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from polyrefuse_studies.executors import slurm
from polyrefuse_studies.executors.local import NoDevice
from polyrefuse_studies.executors.ray import Ray
from polyrefuse_studies.executors.slurm import Slurm
from polyrefuse_studies.jobs import OWN, Job

from polyrefuse_shared.errors import UserError
from tests.conftest import ROOT
from tests.studies.test_runner import CHAIN, job, names, run_all, wait_for


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ray]:
    """A local one with two workers."""
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    executor = Ray(slots=2)
    yield executor
    ray.shutdown()


def test_ray_does_jobs_in_order_and_a_killed_worker_has_its_job_done_again(
    tmp_path: Path, cluster: Ray
) -> None:
    slow = job("m/slow", f"echo $PPID >> begun; sleep 3; echo s > {OWN}/out")
    broken = job("m/broken", "echo the reason; exit 4")
    killed: list[int] = []

    def kill() -> None:
        wait_for(tmp_path / "begun", 60)
        time.sleep(0.2)
        killed.append(int((tmp_path / "begun").read_text().split()[0]))
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    outcome, placed, _ = run_all(tmp_path, [*CHAIN, slow, broken], cluster)
    thread.join()
    assert names(outcome.finished) == {"m/a", "m/b", "m/c", "m/d", "m/slow"}
    ((failed, ended),) = outcome.failed
    assert failed.job.name == "m/broken" and ended["said"] == "the reason"
    assert (tmp_path / placed["m/d"].folder / "out").read_text() == "a\nb\nc\n"
    begun = (tmp_path / "begun").read_text().split()
    assert len(begun) == 2 and len(set(begun)) == 2
    big = Job("m/big", "answers", "m", ("true",), gpus=2)
    with pytest.raises(NoDevice, match="A job needs 2 GPUs, and the Ray cluster has 0"):
        run_all(tmp_path, [big], cluster)


def test_submitit_does_jobs_in_order(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    executor = Slurm(tmp_path / "slurm", cluster="local", parameters={"timeout_min": 5})
    outcome, placed, _ = run_all(tmp_path / "study", [*CHAIN, job("m/broken", "exit 4")], executor)
    assert names(outcome.finished) == {"m/a", "m/b", "m/c", "m/d"}
    assert [one.job.name for one, _ in outcome.failed] == ["m/broken"]
    assert (tmp_path / "study" / placed["m/d"].folder / "out").read_text() == "a\nb\nc\n"


def test_a_cluster_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    with pytest.raises(UserError, match="submitit cannot submit to slurm: "):
        Slurm(tmp_path / "slurm")
    with pytest.raises(UserError, match="--slurm-parameters \\[1\\] is no JSON object"):
        slurm.parse("[1]")
    with pytest.raises(UserError, match="is no JSON object"):
        slurm.parse("{timeout")
    assert slurm.parse(None) == {} and slurm.parse('{"timeout_min": 5}') == {"timeout_min": 5}
