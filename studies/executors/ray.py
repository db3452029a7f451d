"""Jobs on a Ray cluster, or on a local one: Ray schedules them, by the GPUs that each needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polyrefuse_studies.executors.local import NoDevice

from polyrefuse_shared.errors import UserError

WAIT = 0.5
"""Seconds to wait for a job before the runner looks for what else can start."""


class Ray:
    """One Ray task a job; the study's folder is one that every machine of the cluster sees.

    A worker that dies takes its job with it, which Ray gives to another.

    Args:
        address: of a cluster, as `ray.init` takes it; None begins a local one.
        cpus: of each task.
        memory: bytes of each task; None leaves it to Ray.
        slots: processors that a local cluster has; all of the machine's where None.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        cpus: float = 1,
        memory: int | None = None,
        slots: int | None = None,
    ) -> None:
        try:
            import ray
        except ImportError:
            raise UserError(
                "--executor ray needs Ray: pip install 'lm-eval-polyrefuse[ray]'."
            ) from None
        self._ray = ray
        settings: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
        if address is None and slots is not None:
            settings["num_cpus"] = slots
        try:
            # Without an address Ray would join a cluster that this machine happens to run.
            ray.init(address=address or "local", **settings)
        except (ConnectionError, ValueError) as error:
            raise UserError(
                f"No Ray cluster answers at {address} ({str(error).splitlines()[0]}); name "
                "another, or none for a local one."
            ) from None
        self._settings: dict[str, Any] = {"num_cpus": cpus, "max_retries": 3}
        if memory is not None:
            self._settings["memory"] = memory
        self._running: dict[Any, Path] = {}

    def room_for(self, gpus: int | None) -> bool:
        there = self._ray.cluster_resources().get("GPU", 0)
        if gpus is not None and gpus > there:
            raise NoDevice(f"A job needs {gpus} GPUs, and the Ray cluster has {there:g}.")
        return True  # Ray keeps what has to wait

    def start(self, folder: Path, gpus: int | None) -> None:
        if gpus is None:
            gpus = 1 if self._ray.cluster_resources().get("GPU", 0) else 0
        task = self._ray.remote(**self._settings, num_gpus=gpus)(_perform)
        self._running[task.remote(str(folder.resolve()))] = folder

    def ended(self) -> list[Path]:
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=WAIT)
        return [self._running.pop(one) for one in done]

    def stop(self) -> None:
        for one in self._running:
            self._ray.cancel(one, force=True)
        self._ray.shutdown()


def _perform(folder: str) -> bool:
    from polyrefuse_studies.perform import perform

    return perform(Path(folder))
