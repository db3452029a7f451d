"""A terminal for a process to print to, read by the tests."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios


def open_terminal() -> tuple[int, int]:
    """The end that tests read, and the end that a process prints to: 24 rows of 80 columns."""
    ours, theirs = pty.openpty()
    # Without a size tqdm draws nothing.
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    return ours, theirs


def printed(terminal: int) -> str:
    """What a process prints next; nothing when all that had the other end have closed it."""
    try:
        return os.read(terminal, 4096).decode(errors="replace")
    except OSError:
        return ""
