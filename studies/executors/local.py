"""Jobs on this machine: a process for each device, or several on the processor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from polyrefuse_shared.errors import UserError

MOMENT = 0.1
"""Seconds between two looks at the processes."""


class NoDevice(UserError):
    """There is no device that a job could run on."""


class Local:
    """One process a device.

    Args:
        devices: numbers of GPUs, as CUDA_VISIBLE_DEVICES takes them; none for the processor.
        slots: processes at a time on the processor.
    """

    def __init__(self, devices: Sequence[str], slots: int = 1) -> None:
        self._devices = list(devices)
        self._free = list(devices) or [""] * slots
        self._running: dict[Path, tuple[subprocess.Popen[bytes], list[str]]] = {}

    def room_for(self, gpus: int | None) -> bool:
        needed = self._needed(gpus)
        if self._devices and needed > len(self._devices):
            raise NoDevice(
                f"A job needs {needed} GPUs, and there are {len(self._devices)}; name more "
                "with --devices."
            )
        return len(self._free) >= needed

    def start(self, folder: Path, gpus: int | None) -> None:
        taken = [self._free.pop(0) for _ in range(self._needed(gpus))]
        environment = dict(os.environ)
        if self._devices:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
        process = subprocess.Popen(
            [sys.executable, "-m", "polyrefuse_studies.perform", str(folder)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the study, which stops its jobs
        )
        self._running[folder] = (process, taken)

    def ended(self) -> list[Path]:
        time.sleep(MOMENT)
        done = [
            folder for folder, (process, _) in self._running.items() if process.poll() is not None
        ]
        for folder in done:
            _, taken = self._running.pop(folder)
            self._free += taken
        return done

    def stop(self) -> None:
        for process, _ in self._running.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process, _ in self._running.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        self._running.clear()

    def _needed(self, gpus: int | None) -> int:
        """Slots that a job takes."""
        if not self._devices:
            return 1
        return 1 if gpus is None else max(gpus, 1)


def find_devices(asked: str | None) -> list[str]:
    """The GPUs that were asked for, with commas; all that torch sees where None.

    Raises:
        NoDevice: one of them is not there.
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
        raise NoDevice("--devices names no GPU; leave it out for all that there are.")
    return list(dict.fromkeys(named))
