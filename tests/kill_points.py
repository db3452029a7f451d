"""Kills a call before each change that it makes to the file system, one after the other."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.chown", "os.link",
           "os.symlink", "os.truncate"}  # fmt: skip
"""Audit events of Python that change the file system; opening a file to write it is one more."""

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def kill_points(call: Callable[[], object], most: int = 1000) -> Iterator[int]:
    """Run `call` in a child process again and again, killed before its first change, its second...

    Yields the number of the change after each kill, and ends when a call has not been killed. The
    caller sets everything up again before it asks for the next.

    Raises:
        AssertionError: the call failed, or made more changes than `most`.
    """
    for number in itertools.count():
        assert number < most, "the call does not end"
        if not killed_before(number, call):
            return
        yield number


def killed_before(number: int, call: Callable[[], object]) -> bool:
    """Run `call` in a child process that is killed before that change, counted from 0.

    Returns:
        False where the call ended without so many changes.
    """
    child = os.fork()
    if not child:
        _run(number, call)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the call failed"
    return False


def _run(number: int, call: Callable[[], object]) -> None:
    """Ends the process: neither pytest nor its plugins may go on in it."""
    left = number

    def before(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in CHANGES or (event == "open" and arguments[2] & _WRITING):
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    sys.addaudithook(before)
    try:
        call()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def tree(folder: Path) -> dict[str, bytes | str]:
    """What is in a folder: bytes of files, targets of links, "folder" for folders."""
    return {
        path.relative_to(folder).as_posix(): f"-> {os.readlink(path)}"
        if path.is_symlink()
        else "folder"
        if path.is_dir()
        else path.read_bytes()
        for path in folder.rglob("*")
    }
