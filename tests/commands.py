"""`polyrefuse` in the tests' own process, and what tests of every sub-command ask of a mistake."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

import polyrefuse


def usual_signals() -> None:
    """Let the signals of a terminal end this process, as `preexec_fn` of one that a test starts.

    What a shell runs in the background ignores SIGINT, and what nohup runs ignores SIGHUP. The
    processes that it starts inherit this.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def run_in_process(*arguments: object, **environment: str) -> tuple[int, str, str]:
    """Run `polyrefuse`, outside of any GitHub job but for what `environment` says.

    A process of its own imports everything again, which takes seconds; tests of start-up, imports
    and exit need one.

    Returns:
        Exit code, standard output, standard error.
    """
    usual = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["polyrefuse", *map(str, arguments)]),
        mock.patch.dict(os.environ, usual | environment, clear=True),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            polyrefuse.main()
            code: object = 0
        except SystemExit as ended:
            code = ended.code
        finally:
            # A command may leave it off, because its own process ends with it.
            gc.enable()
    assert code is None or isinstance(code, int), code
    return code or 0, out.getvalue(), err.getvalue()


def assert_one_sentence(result: tuple[int, str, str], *named: str) -> None:
    """Exit code 2, nothing on standard output, one line on standard error that names these."""
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.startswith("polyrefuse: ")
    assert err.count("\n") == 1
    for part in named:
        assert part in err
