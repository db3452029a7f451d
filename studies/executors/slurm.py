"""Jobs on a Slurm cluster, by submitit."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from polyrefuse_shared.errors import UserError

LOOK = 1.0
"""Seconds between two looks at the queue."""


class Slurm:
    """One Slurm job a job; the study's folder is one that every machine of the cluster sees.

    Args:
        logs: a folder for what submitit writes.
        cluster: "slurm", or "local" for processes of this machine, which the tests use.
        parameters: more of `submitit.AutoExecutor.update_parameters`, such as `timeout_min` and
            `slurm_partition`.
    """

    def __init__(
        self, logs: Path, *, cluster: str = "slurm", parameters: dict[str, Any] | None = None
    ) -> None:
        try:
            import submitit
        except ImportError:
            raise UserError(
                "--executor slurm needs submitit: pip install 'lm-eval-polyrefuse[slurm]'."
            ) from None
        try:
            self._executor = submitit.AutoExecutor(folder=str(logs), cluster=cluster)
            self._executor.update_parameters(**(parameters or {}))
        except (RuntimeError, NameError, ValueError) as error:
            raise UserError(
                f"submitit cannot submit to {cluster}: {str(error).splitlines()[0]}."
            ) from None
        self._running: dict[Path, Any] = {}

    def room_for(self, gpus: int | None) -> bool:
        return True  # Slurm keeps what has to wait

    def start(self, folder: Path, gpus: int | None) -> None:
        from polyrefuse_studies.perform import perform

        if gpus:
            self._executor.update_parameters(gpus_per_node=gpus)
        self._running[folder] = self._executor.submit(perform, folder.resolve())

    def ended(self) -> list[Path]:
        time.sleep(LOOK)
        done = [folder for folder, job in self._running.items() if job.done()]
        for folder in done:
            self._running.pop(folder)
        return done

    def stop(self) -> None:
        for job in self._running.values():
            job.cancel()


def parse(given: str | None) -> dict[str, Any]:
    """`--slurm-parameters` as a JSON object.

    Raises:
        UserError: it is none.
    """
    try:
        parameters = json.loads(given or "{}")
    except ValueError:
        parameters = None
    if not isinstance(parameters, dict):
        raise UserError(
            f"--slurm-parameters {given} is no JSON object; give one such as "
            '\'{"timeout_min": 600, "slurm_partition": "gpu"}\'.'
        )
    return parameters
