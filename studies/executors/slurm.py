"""Jobs on a Slurm cluster, by submitit."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from polyrefuse_studies.executors.executor import Ended
from polyrefuse_studies.jobs import Job

from polyrefuse_shared.errors import UserError, first_line

LOOK = 1.0
"""The time between two checks of the queue, in seconds."""


class CannotSubmit(UserError):
    """Slurm is not available here, or refuses a job."""


class Slurm:
    """Runs each job as a Slurm job. Every machine of the cluster must see the study's folder.

    Slurm itself decides whether a job needs more than there is.

    Args:
        logs: the folder into which submitit writes.
        cluster: "slurm", or "local" for processes of this machine, which the tests use.
        parameters: further parameters of `submitit.AutoExecutor.update_parameters`, such as
            `timeout_min` and `slurm_partition`. The needs of a job take precedence over them.
    """

    def __init__(
        self, logs: Path, *, cluster: str = "slurm", parameters: dict[str, Any] | None = None
    ) -> None:
        self._logs = logs
        self._cluster = cluster
        self._parameters = parameters or {}
        self._running: dict[Path, Any] = {}

    def __enter__(self) -> Slurm:
        try:
            import submitit
        except ImportError:
            raise UserError(
                "--executor slurm needs submitit: pip install 'lm-eval-polyrefuse[slurm]'."
            ) from None
        self._submitit = submitit
        with TemporaryDirectory() as folder:
            self._executor(Path(folder), {})
        return self

    def __exit__(self, *raised: object) -> None:
        for job in self._running.values():
            job.cancel()
        self._running.clear()

    def require(self, job: Job) -> None:
        pass  # sbatch itself refuses a job that no machine can run

    def room_for(self, job: Job) -> bool:
        return True  # Slurm queues the jobs that have to wait

    def start(self, folder: Path, job: Job) -> None:
        from polyrefuse_studies.perform import perform

        executor = self._executor(self._logs, needs(job))
        try:
            self._running[folder] = executor.submit(perform, folder.resolve())
        except Exception as error:  # submitit raises several kinds with the message of sbatch
            raise CannotSubmit(
                f"{job.name} cannot be submitted to {self._cluster}: {_last_line(str(error))}"
            ) from None

    def ended(self) -> list[Ended]:
        time.sleep(LOOK)
        done = [folder for folder, job in self._running.items() if job.done()]
        return [Ended(folder, _said(self._running.pop(folder))) for folder in done]

    def _executor(self, logs: Path, needed: dict[str, Any]) -> Any:
        """Return a new submitit executor, because one keeps its parameters for all later jobs."""
        given = {
            k: v for k, v in self._parameters.items() if k.removeprefix("slurm_") not in needed
        }
        if "mem_gb" in needed:
            given.pop("slurm_mem", None)
        try:
            executor = self._submitit.AutoExecutor(folder=str(logs), cluster=self._cluster)
            executor.update_parameters(**given, **needed)
        except (RuntimeError, NameError, ValueError, TypeError, AssertionError) as error:
            raise CannotSubmit(
                f"submitit cannot submit to {self._cluster}: {first_line(error).rstrip('.')}."
            ) from None
        return executor


def needs(job: Job) -> dict[str, Any]:
    """Return submitit's parameters for the needs of a job, as the study gives them."""
    needed: dict[str, Any] = {}
    if job.gpus is not None:
        needed["gpus_per_node"] = job.gpus
    if job.cpus is not None:
        needed["cpus_per_task"] = job.cpus
    if job.memory is not None:
        needed["mem_gb"] = math.ceil(job.memory / 2**20) / 2**10  # Slurm counts in MiB
    return needed


def _said(job: Any) -> str:
    """Describe what became of a job that may not have recorded how it ended."""
    try:
        job.result()
    except Exception as error:
        said = _last_line(job.stderr() or str(error))
        return f"job {job.job_id} ended as {job.state}: {said}"
    return ""


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def parse(given: str | None) -> dict[str, Any]:
    """Read the JSON object of `--slurm-parameters`.

    Raises:
        UserError: the text is not a JSON object.
    """
    try:
        parameters = json.loads(given or "{}")
    except ValueError:
        parameters = None
    if not isinstance(parameters, dict):
        raise UserError(
            f"--slurm-parameters {given} is not a JSON object; give one such as "
            '\'{"timeout_min": 600, "slurm_partition": "gpu"}\'.'
        )
    return parameters
