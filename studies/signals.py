"""Signals that end a study and its jobs."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""The signals with which a cluster, a container or a closed terminal ends a process."""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Make these signals raise SystemExit, as Ctrl-C raises KeyboardInterrupt.

    Otherwise they would end the process at once and leave its jobs running. A signal that is
    ignored, as `nohup` ignores SIGHUP, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def held_back() -> Iterator[None]:
    """Let the signals that end a study, and Ctrl-C, wait until a block has ended.

    A process that is being started would otherwise be known to nobody, and go on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDING)}
    held = {number: handler for number, handler in before.items() if callable(handler)}
    for number in held:
        signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


def _end(number: int, _frame: Any) -> None:
    sys.exit(128 + number)
