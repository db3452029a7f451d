"""Limit the time that a third party's program, such as a chat template, may take."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class TookTooLong(Exception):
    """A block was ended because it took too long."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End the block if it takes longer than `seconds`.

    Only the main thread can be interrupted, and not on Windows. In other cases there is no limit.
    An alarm that other code has set goes off at its time, or once the block has ended.

    Raises:
        TookTooLong: the block took longer.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not hasattr(signal, "setitimer"):
        yield
        return

    running = True

    def over(*_: Any) -> None:
        if running:
            raise TookTooLong

    # Stopped first, so that the alarm of other code does not end this block.
    left, interval = signal.setitimer(signal.ITIMER_REAL, 0)
    before = signal.signal(signal.SIGALRM, over)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            yield
        finally:
            # It may still be reached here, so that what follows must be done in any case.
            running = False
    finally:
        passed = seconds - signal.setitimer(signal.ITIMER_REAL, 0)[0]
        signal.signal(signal.SIGALRM, before)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - passed, 1e-3), interval)
