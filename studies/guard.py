"""Runs a command that ends with its starter: `python -m polyrefuse_studies.guard PID COMMAND`.

A process that is killed outright leaves its children running. They would write into the folder of
the next attempt and keep the memory of its GPU. The guard outlives the killed process by a moment
and ends the whole process group of the command. Linux only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

_PR_SET_PDEATHSIG = 1


def guard(parent: int, command: Sequence[str]) -> int:
    """Run a command in a process group of its own, which is killed when the parent is dead.

    SIGTERM is passed on.

    Returns:
        The exit code of the command, as `subprocess` gives it.
    """
    # Both handlers are set before the command exists, so `group` is filled later.
    group: list[int] = []
    asked: list[int] = []

    def terminate(number: int, _: Any) -> None:
        asked.append(number)
        _to(group, number)

    signal.signal(signal.SIGUSR1, lambda *_: _to(group, signal.SIGKILL))
    signal.signal(signal.SIGTERM, terminate)
    _end_with_parent(signal.SIGUSR1)
    if os.getppid() != parent:
        return -signal.SIGKILL
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=_die_with_parent)
    group.append(process.pid)
    if os.getppid() != parent:  # It died before the group was known.
        _to(group, signal.SIGKILL)
    for number in asked:  # It was told before the group was known.
        _to(group, number)
    try:
        return process.wait()
    finally:
        _to(group, signal.SIGKILL)


def _to(group: Sequence[int], number: int) -> None:
    for leader in group:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, number)


def _die_with_parent() -> None:
    _end_with_parent(signal.SIGKILL)


def _end_with_parent(number: int) -> None:
    """Ask Linux to send this process a signal when the process that started it is dead."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def main(arguments: Sequence[str]) -> Any:
    """Run the command and return its exit code."""
    try:
        code = guard(int(arguments[0]), arguments[1:])
    except OSError as error:
        return f"{arguments[1]}: {error.strerror}"
    if code < 0:
        with suppress(OSError, ValueError):  # SIGKILL keeps its handler.
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
