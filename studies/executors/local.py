"""Jobs on this machine: one process for each device, or several on the processor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from polyrefuse_studies.environment import OWN_MODULES
from polyrefuse_studies.executors.executor import Ended, TooLarge
from polyrefuse_studies.jobs import Job
from polyrefuse_studies.perform import how_it_ended
from polyrefuse_studies.signals import held_back

from polyrefuse_shared.errors import UserError

MOMENT = 0.1
"""The time between two checks of the processes, in seconds."""

PATIENCE = 10.0
"""The time that a job has to end after it is told to, in seconds."""


class NoDevice(UserError):
    """There is no such device."""


class Local:
    """Runs one process on each device.

    Args:
        devices: the numbers of GPUs, as in CUDA_VISIBLE_DEVICES; none for the processor.
        slots: how many processes run at a time on the processor.
    """

    def __init__(self, devices: Sequence[str], slots: int = 1) -> None:
        self._devices = list(devices)
        self._free = list(devices) or [""] * slots
        self._running: dict[Path, tuple[subprocess.Popen[bytes], list[str]]] = {}

    def __enter__(self) -> Local:
        return self

    def require(self, job: Job) -> None:
        needed = self._needed(job)
        if self._devices and needed > len(self._devices):
            raise TooLarge(
                f"{job.name} needs {needed} GPUs, but there are {len(self._devices)}; name more "
                "with --devices."
            )

    def room_for(self, job: Job) -> bool:
        return len(self._free) >= self._needed(job)

    def start(self, folder: Path, job: Job) -> None:
        taken = [self._free.pop(0) for _ in range(self._needed(job))]
        environment = os.environ | OWN_MODULES
        if self._devices:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
        with held_back():
            process = subprocess.Popen(
                [sys.executable, "-m", "polyrefuse_studies.perform", str(folder)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C must reach only the study, which stops its jobs
            )
            self._running[folder] = (process, taken)

    def ended(self) -> list[Ended]:
        time.sleep(MOMENT)
        done = []
        for folder, (process, taken) in list(self._running.items()):
            code = process.poll()
            if code is not None:
                del self._running[folder]
                self._free += taken
                done.append(Ended(folder, how_it_ended(code)))
        return done

    def __exit__(self, *raised: object) -> None:
        processes = [process for process, _ in self._running.values()]
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        end = time.monotonic() + PATIENCE
        for process in processes:
            try:
                process.wait(timeout=max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._running.clear()

    def _needed(self, job: Job) -> int:
        """Return how many slots a job takes."""
        if not self._devices:
            return 1
        return 1 if job.gpus is None else max(job.gpus, 1)


def find_devices(asked: str | None) -> list[str]:
    """Return the GPUs that were named, separated by commas, or all that torch sees for None.

    Raises:
        NoDevice: one of them does not exist.
    """
    import torch

    there = [str(number) for number in range(torch.cuda.device_count())]
    if asked is None:
        return there
    named = [one.strip().removeprefix("cuda:") for one in asked.split(",") if one.strip()]
    for one in named:
        if one not in there:
            seen = f"there are {', '.join(there)}" if there else "torch sees none here"
            raise NoDevice(f"There is no GPU {one!r}: {seen}.")
    if not named:
        raise NoDevice("--devices names no GPU; leave the option out to use all GPUs.")
    return list(dict.fromkeys(named))
