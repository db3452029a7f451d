"""The command line of `polyrefuse`: its sub-commands, how it prints, and how it ends.

Exit codes: 0, all is well; 1, what was asked for is not so (a rate got worse, a file is wrong);
2, a mistake of the user's; 3, an internal error, or output that cannot be written; 130, Ctrl-C;
141, whoever read the output has stopped, as of a program that SIGPIPE ends.

Progress bars go to standard error, and fall silent where that is no terminal.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, NoReturn, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

from polyrefuse_shared.errors import UserError, first_line
from polyrefuse_shared.printing import clean

TRACEBACK = "POLYREFUSE_TRACEBACK"
"""The environment variable that asks for the traceback of an internal error."""

INTERRUPTED = "interrupted."
"""The one line that Ctrl-C leaves."""

# typer has a copy of click whose names are private: this is the base of what it exports.
_UsageError: Any = typer.BadParameter.__base__

_LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
"""By which `torchrun` and `accelerate launch` tell a process that there are others."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
"""What `print` fails with; whoever writes a file has a sentence of its own for these."""


def mount(commands: Mapping[str, tuple[str, str]], about: str, example: str) -> typer.Typer:
    """A command line of which a sub-command's module is imported when it is run.

    Args:
        commands: sub-command -> ("module:typer app", what the overview says about it).
        about: what the overview says about all.
        example: the overview's last line, as every help text has one.
    """

    class Commands(TyperGroup):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.commands = {
                name: _Mounted(place, name=name, callback=None, help=help)
                for name, (place, help) in commands.items()
            }

    app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False)
    app.callback(help=about, epilog=example)(_top)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        from polyrefuse_shared.versions import versions

        print(f"polyrefuse {versions()['lm-eval-polyrefuse']}")
        raise typer.Exit


def _top(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """The options in front of a sub-command."""


class _Mounted(TyperCommand):
    """Stands for a sub-command in the overview."""

    def __init__(self, place: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.place = place

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        module, app = self.place.split(":")
        command = typer.main.get_command(getattr(importlib.import_module(module), app))
        return command.make_context(info_name, args, *rest, **extra)


def run(app: typer.Typer, name: str) -> NoReturn:
    """Run a command line with the arguments of this process, and end the process.

    Every mistake is one sentence on standard error, and output never fails for its encoding.
    """
    _open_streams()
    _silence_bars()
    _go_on_alone()
    code, sentence = _run(app, name)
    # Not within the handling of the exception, which keeps unfinished progress bars alive.
    if sentence:
        _say(sentence)
    for stream in (sys.stdout, sys.stderr):
        failed = _flush(stream)
        if isinstance(failed, BrokenPipeError):
            code = code or 141
        elif failed is not None:
            _say(_unwritten(failed))
            code = 3
    sys.exit(code)


def _run(app: typer.Typer, name: str) -> tuple[int, str | None]:
    """The exit code, and what to say."""
    try:
        code = app(prog_name=name, standalone_mode=False) or 0
        # typer makes an exit code of Ctrl-C itself.
        return code, INTERRUPTED if code == 130 else None
    except UserError as error:
        return 2, str(error)
    except _UsageError as error:
        return 2, _explain(error)
    except KeyboardInterrupt:
        return 130, INTERRUPTED
    except SystemExit as ended:
        # typer's own end of a closed pipe has the code of a gate that failed.
        if isinstance(ended.__context__, BrokenPipeError):
            return 141, None
        raise
    except BrokenPipeError:
        return 141, None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
            return 3, _unwritten(error)
        if isinstance(error, OSError) and "--install-completion" in sys.argv[1:2]:
            return 2, (
                f"The completion cannot be written to {error.filename} ({error.strerror}); put "
                "what --show-completion prints where your shell reads it."
            )
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        return 3, (
            f"internal error, {type(error).__name__}: {first_line(error)} (a fault of this program "
            f"and not of yours: {TRACEBACK}=1 shows where it is; please report it)"
        )


def _explain(error: Any) -> str | None:
    """What was wrong with the arguments, in one sentence."""
    where = error.ctx.command_path if error.ctx else "polyrefuse"
    if type(error).__name__ == "NoArgsIsHelpError":  # Its message is the help text.
        error.show()
        return None
    message = " ".join(error.format_message().split()).removesuffix(".")
    given = _given(getattr(error, "param", None), sys.argv[1:])
    value = "" if given is None or given in message else f" (given: {given})"
    mistyped = re.match(r"No such command '(.+?)'(?:\.|$)", message)
    if mistyped:
        return f"{_meant(mistyped[1], list(error.ctx.command.commands))} See `{where} --help`."
    return f"{message}{value}; see `{where} --help`."


def _meant(mistyped: str, commands: Sequence[str]) -> str:
    """What a sub-command that is not there may have been meant to be, in one sentence."""
    near = difflib.get_close_matches(mistyped, commands, n=1)
    if near:
        return f"There is no command '{mistyped}': did you mean '{near[0]}'?"
    return f"There is no command '{mistyped}': use one of {', '.join(commands)}."


def _given(option: Any, arguments: Sequence[str]) -> str | None:
    """The value that an option was given last; None for a positional argument."""
    names = getattr(option, "opts", ())
    value = None
    for argument, following in zip(arguments, (*arguments[1:], None), strict=True):
        name, is_joined, joined = argument.partition("=")
        if name.startswith("-") and name in names:
            value = joined if is_joined else following
    return value


def _go_on_alone() -> None:
    """Of several processes that a launcher started for one command, end all but the first.

    They would write the same output; and a model that the first one loads would wait for them.
    """
    count = int(os.environ.get("WORLD_SIZE") or 1)
    if count < 2:
        return
    if os.environ.get("RANK") not in (None, "0"):
        sys.exit(0)
    _say(f"this command uses one process; the other {count - 1} that were started have ended.")
    for name in _LAUNCHED:
        os.environ.pop(name, None)


def _open_streams() -> None:
    """Make every text printable, and output that was closed a place where it is lost."""
    # A file that is opened would otherwise be taken for standard output.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _silence_bars() -> None:
    """Have no library draw a progress bar into a file or a pipe, before tqdm is imported."""
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")


def _flush(stream: TextIO) -> OSError | None:
    """Write what is waiting to be written; what cannot be is dropped, and the reason returned."""
    try:
        stream.flush()
    except OSError as error:
        # Python would try once more when it ends, and say so.
        with suppress(OSError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
        return error
    return None


def _unwritten(error: OSError) -> str:
    return f"The output could not be written ({error.strerror}); give it another place."


def _say(sentence: str) -> None:
    with suppress(OSError):
        print(f"polyrefuse: {clean(sentence)}", file=sys.stderr)
