"""Waiting for what another process or thread does, however slow the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 300.0
"""How long a test waits, in seconds: only what never happens takes so long."""


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until a condition is true.

    Raises:
        AssertionError: it never is.
    """
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "what the test waits for has not happened"
        time.sleep(0.02)
