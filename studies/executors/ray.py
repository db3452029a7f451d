"""Jobs on a Ray cluster, or on a local one: Ray schedules them, by what each needs."""

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
"""Seconds to wait for a job before the runner looks for what else can start."""

ANSWER = 30.0
"""Seconds in which a cluster has to answer."""

LOST = 20.0
"""Seconds without an answer after which a cluster is lost. Ray itself would end this process after
sixty, without a word of what to do."""

SLOT = "polyrefuse_slot"
"""A resource of a local cluster: one for each job at a time that needs no GPU."""

_ASK = "import ray, sys; ray.init(sys.argv[1], log_to_driver=False); ray.nodes()"


class NoCluster(UserError):
    """A Ray cluster that does not answer, or no longer, or cannot be begun."""


class Ray:
    """One Ray task a job; the study's folder is one that every machine of the cluster sees.

    A worker that dies takes its job with it, which Ray gives to another. What Ray tells of that
    goes to standard error.

    Args:
        address: of a cluster, as `ray.init` takes it; None begins a local one.
        slots: jobs at a time on a local cluster that need no GPU.
    """

    def __init__(self, address: str | None = None, *, slots: int = 1) -> None:
        self._address = address
        self._slots = slots
        self._running: dict[Any, Path] = {}
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Ray:
        # Ray would send its makers what it was used for.
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
                # Without an address Ray would join a cluster that this machine happens to run.
                ray.init(address=self._address or "local", **settings)
            except Exception as error:  # of many kinds
                raise _no_cluster(self._address, first_line(error)) from None
            self._heard = time.monotonic()
            self._nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            self._held = held.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        if isinstance(raised[1], NoCluster):
            return  # Whatever is asked of a lost cluster waits for it.
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
            f"{job.name} needs {_said(needed)}, and no machine of the Ray cluster has as much: at "
            f"most {_said(most)}."
        )

    def room_for(self, job: Job) -> bool:
        return True  # Ray keeps what has to wait

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
        """Raises:
        NoCluster: where the cluster keeps what it knows, nobody has answered for long.
        """
        host, _, port = self._ray.get_runtime_context().gcs_address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=WAIT).close()
        except OSError:
            if time.monotonic() - self._heard > LOST:
                where = "the local Ray cluster" if self._address is None else self._address
                raise NoCluster(
                    f"The Ray cluster that ran the study has not answered for {LOST:g} seconds "
                    f"({where}); run the same command again when there is one."
                ) from None
        else:
            self._heard = time.monotonic()

    def _said(self, task: Any) -> str:
        try:
            self._ray.get(task)
        except Exception as error:  # what the job raised, or that its workers died
            return f"Ray could not do it: {first_line(getattr(error, 'cause', None) or error)}"
        return ""

    def _needed(self, job: Job) -> dict[str, float]:
        """Ray's resources that a job takes of a machine."""
        gpus = job.gpus
        if gpus is None:
            gpus = 1 if any(node.get("GPU") for node in self._nodes) else 0
        needed: dict[str, float] = {"CPU": 1 if job.cpus is None else job.cpus, "GPU": gpus}
        if job.memory is not None:
            needed["memory"] = job.memory
        return needed


def _said(resources: Mapping[str, float]) -> str:
    """Ray's resources in words."""
    parts = [f"{resources['CPU']:g} processors", f"{resources['GPU']:g} GPUs"]
    if "memory" in resources:
        parts.append(f"{resources['memory'] / 1e9:.3g} GB of memory")
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _require_answer(address: str) -> None:
    """Ask a cluster by a process of its own: Ray waits for ever for one that is not there.

    Raises:
        NoCluster: it does not answer.
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
        return NoCluster(f"Ray cannot begin a local cluster ({reason}); try --executor local.")
    return NoCluster(
        f"No Ray cluster answers at {address} ({reason}); name another, or none for a local one."
    )


@contextlib.contextmanager
def _standard_output_to_error() -> Iterator[None]:
    """What Ray prints, and the processes that it starts, goes where messages go.

    Its thread prints by `sys.stdout`, and its processes inherit the descriptor.
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
