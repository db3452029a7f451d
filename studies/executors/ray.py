"""Jobs on a Ray cluster, or on a local one. Ray schedules them by what each needs."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from polyrefuse_studies.environment import OWN_MODULES
from polyrefuse_studies.executors.executor import Ended, TooLarge
from polyrefuse_studies.jobs import Job

from polyrefuse_shared.errors import UserError, first_line

WAIT = 0.5
"""The time to wait for a job before the runner looks for others to start, in seconds."""

ANSWER = 30.0
"""The time in which a cluster must answer, in seconds."""

LOST = 20.0
"""The time without an answer after which a cluster counts as lost, in seconds. Ray itself would end
this process after 60 seconds without saying what to do."""

SLOT = "polyrefuse_slot"
"""A resource of a local cluster. A job that needs no GPU takes one of it."""

_ASK = "import ray, sys; ray.init(sys.argv[1], log_to_driver=False); ray.nodes()"


class NoCluster(UserError):
    """A Ray cluster does not answer, no longer answers, or cannot be started."""


class Ray:
    """Runs each job as a Ray task. Every machine of the cluster must see the study's folder.

    Ray gives the job of a worker that dies to another worker. Ray's messages about that go to
    standard error.

    Args:
        address: the address of a cluster, as `ray.init` takes it; None starts a local one.
        slots: how many jobs without a GPU run at a time on a local cluster.
    """

    def __init__(self, address: str | None = None, *, slots: int = 1) -> None:
        self._address = address
        self._slots = slots
        self._running: dict[Any, Path] = {}
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Ray:
        # Ray would otherwise report its use to its makers.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError:
            raise UserError(
                "--executor ray needs Ray: pip install 'lm-eval-polyrefuse[ray]'."
            ) from None
        self._ray = ray
        settings: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
        if self._address is None:
            settings |= {"include_dashboard": False, "resources": {SLOT: self._slots}}
        else:
            _require_answer(self._address)
        with contextlib.ExitStack() as held:
            held.enter_context(_standard_output_to_error())
            held.callback(ray.shutdown)
            try:
                # Without an address Ray would join any cluster that runs on this machine.
                ray.init(address=self._address or "local", **settings)
            except Exception as error:  # Ray raises many kinds
                raise _no_cluster(self._address, first_line(error)) from None
            self._heard = time.monotonic()
            self._nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            self._held = held.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        if isinstance(raised[1], NoCluster):
            return  # Any call to a lost cluster would wait for it.
        with self._held:
            for one in self._running:
                self._ray.cancel(one, force=True)
            self._running.clear()

    def require(self, job: Job) -> None:
        needed = self._needed(job)
        if any(all(node.get(k, 0) >= v for k, v in needed.items()) for node in self._nodes):
            return
        most = {k: max(node.get(k, 0) for node in self._nodes) for k in needed}
        raise TooLarge(
            f"{job.name} needs {_said(needed)}, but no machine of the Ray cluster has more than "
            f"{_said(most)}; ask for less, or start a larger machine."
        )

    def room_for(self, job: Job) -> bool:
        return True  # Ray queues the jobs that have to wait

    def start(self, folder: Path, job: Job) -> None:
        needed = self._needed(job)
        settings: dict[str, Any] = {"max_retries": 3, "num_cpus": needed["CPU"]}
        settings["num_gpus"] = needed["GPU"]
        if job.memory is not None:
            settings["memory"] = job.memory
        if self._address is None and not needed["GPU"]:
            settings["resources"] = {SLOT: 1}
        task = self._ray.remote(**settings)(_perform)
        self._running[task.remote(str(folder.resolve()))] = folder

    def ended(self) -> list[Ended]:
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=WAIT)
        self._require_cluster()
        return [Ended(self._running.pop(one), self._said(one)) for one in done]

    def _require_cluster(self) -> None:
        """Check that the cluster's control service still answers.

        Raises:
            NoCluster: it has not answered for a long time.
        """
        host, _, port = self._ray.get_runtime_context().gcs_address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=WAIT).close()
        except OSError:
            if time.monotonic() - self._heard > LOST:
                where = "the local Ray cluster" if self._address is None else self._address
                raise NoCluster(
                    f"The Ray cluster that ran the study has not answered for {LOST:g} seconds "
                    f"({where}); run the same command again when the cluster is up."
                ) from None
        else:
            self._heard = time.monotonic()

    def _said(self, task: Any) -> str:
        try:
            self._ray.get(task)
        except Exception as error:  # the error of the job, or that its workers died
            return f"Ray could not run it: {first_line(getattr(error, 'cause', None) or error)}"
        return ""

    def _needed(self, job: Job) -> dict[str, float]:
        """Return the Ray resources that a job takes."""
        gpus = job.gpus
        if gpus is None:
            gpus = 1 if any(node.get("GPU") for node in self._nodes) else 0
        needed: dict[str, float] = {"CPU": 1 if job.cpus is None else job.cpus, "GPU": gpus}
        if job.memory is not None:
            needed["memory"] = job.memory
        return needed


def _said(resources: Mapping[str, float]) -> str:
    """Describe Ray resources in words."""
    parts = [f"{resources['CPU']:g} processors", f"{resources['GPU']:g} GPUs"]
    if "memory" in resources:
        parts.append(f"{resources['memory'] / 1e9:.3g} GB of memory")
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _require_answer(address: str) -> None:
    """Ask a cluster from a process of its own, because Ray waits forever for a missing cluster.

    Raises:
        NoCluster: the cluster does not answer.
    """
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _ASK, address],
            env=os.environ | OWN_MODULES,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=ANSWER,
        )
    except subprocess.TimeoutExpired:
        raise _no_cluster(address, f"no answer in {ANSWER:g} seconds") from None
    if asked.returncode:
        said = asked.stderr.decode(errors="replace").strip().splitlines()
        raise _no_cluster(address, said[-1] if said else "its client died")


def _no_cluster(address: str | None, reason: str) -> NoCluster:
    reason = reason.rstrip(".")
    if address is None:
        return NoCluster(f"Ray cannot start a local cluster ({reason}); try --executor local.")
    return NoCluster(
        f"No Ray cluster answers at {address} ({reason}); name another address, or leave out "
        "--ray-address to start a local cluster."
    )


@contextlib.contextmanager
def _standard_output_to_error() -> Iterator[None]:
    """Send what Ray and its processes print to standard error.

    Ray's thread prints to `sys.stdout`, and its processes inherit the file descriptor.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _perform(folder: str) -> bool:
    from polyrefuse_studies.perform import perform

    return perform(Path(folder))
