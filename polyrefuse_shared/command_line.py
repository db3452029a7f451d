"""The command line of `polyrefuse`: its sub-commands, how it prints, and how it ends.

Exit codes: 0, success; 1, a check failed (a rate got worse, a file is wrong); 2, wrong input; 3, an
internal error, or output that cannot be written; 130, Ctrl-C; 141, the reader of the output has
stopped, which is the code of other programs that SIGPIPE ends.

Progress bars go to standard error and are silent where that is not a terminal.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, NoReturn, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

from polyrefuse_shared.errors import UserError, first_line
from polyrefuse_shared.printing import clean

TRACEBACK = "POLYREFUSE_TRACEBACK"
"""The environment variable that asks for the traceback of an internal error."""

INTERRUPTED = "interrupted."
"""The only line that is printed after Ctrl-C."""

# typer has its own copy of click under private names. The class is the base of one that it exports.
_UsageError: Any = typer.BadParameter.__base__

_WIDTH = {"max_content_width": 100}
"""The most columns of a help text, in a terminal that is as wide."""

_COMPLETION = ("install_completion", "show_completion")
"""The options with which typer installs the completion."""

_LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
"""The variables with which `torchrun` and `accelerate launch` number their processes."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
"""The errors with which `print` fails. Code that writes a file has its own sentence for them."""


def mount(commands: Mapping[str, tuple[str, str]], about: str, example: str) -> typer.Typer:
    """Return a command line that imports a sub-command's module only when it is run.

    Args:
        commands: sub-command -> ("module:typer app", its line in the overview).
        about: the description in the overview.
        example: the last line of the overview; every help text ends with an example.
    """

    class Commands(TyperGroup):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.commands = {
                name: _Mounted(place, name=name, callback=None, help=help, short_help=help)
                for name, (place, help) in commands.items()
            }

    app = typer.Typer(
        cls=Commands,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings=_WIDTH,
    )
    app.callback(help=about, epilog=example)(_top)
    return app


def every_command(
    commands: Mapping[str, tuple[str, str]], about: str, example: str
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the overview and every sub-command, with the words that name each.

    Args:
        commands, about, example: as for `mount`. All modules are imported.
    """
    yield (), typer.main.get_command(mount(commands, about, example))
    for name, (place, _) in commands.items():
        yield from _with_those_below((name,), _load(place))


def _with_those_below(path: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from _with_those_below((*path, name), below)


def _load(place: str) -> Any:
    """Import a sub-command from "module:typer app"."""
    module, name = place.split(":")
    app = getattr(importlib.import_module(module), name)
    # Rich's tables cut the names of options and the paths that do not fit into a terminal.
    app.rich_markup_mode = None
    command = typer.main.get_command(app)
    command.context_settings = {**command.context_settings, **_WIDTH}
    # The completion is that of `polyrefuse`, and its options stand in the overview alone.
    command.params = [option for option in command.params if option.name not in _COMPLETION]
    for below in getattr(command, "commands", {}).values():
        # Otherwise the overview cuts each description to one line.
        below.short_help = below.short_help or (below.help or "").split("\n\n")[0]
    return command


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
    """Take the options in front of a sub-command."""


class _Mounted(TyperCommand):
    """A sub-command in the overview, before its module is imported."""

    def __init__(self, place: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.place = place

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        return _load(self.place).make_context(info_name, args, *rest, **extra)


def run(app: typer.Typer, name: str) -> NoReturn:
    """Run a command line with the arguments of this process, and end the process.

    Every mistake is reported in one sentence on standard error, and no text fails to print because
    of its encoding.
    """
    _open_streams()
    _silence_bars()
    _go_on_alone()
    code, sentence = _run(app, name)
    # The sentence is printed only now, because an exception that is being handled keeps unfinished
    # progress bars alive.
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
    """Return the exit code and the sentence to print."""
    try:
        code = app(prog_name=name, standalone_mode=False) or 0
        # typer itself turns Ctrl-C into an exit code.
        return code, INTERRUPTED if code == 130 else None
    except UserError as error:
        return 2, str(error)
    except _UsageError as error:
        return 2, _explain(error)
    except KeyboardInterrupt:
        return 130, INTERRUPTED
    except SystemExit as ended:
        # For a closed pipe typer exits with 1, which is the code of a gate that failed.
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
                f"The completion cannot be written to {error.filename} ({error.strerror}); save "
                "the output of --show-completion where your shell reads it."
            )
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        return 3, (
            f"internal error, {type(error).__name__}: {first_line(error)} (this is a fault of the "
            f"program: set {TRACEBACK}=1 to see where it is, and please report it)"
        )


def _explain(error: Any) -> str | None:
    """Describe in one sentence what was wrong with the arguments."""
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
    """Describe in one sentence which sub-command a mistyped one may stand for."""
    near = difflib.get_close_matches(mistyped, commands, n=1)
    if near:
        return f"There is no command '{mistyped}': did you mean '{near[0]}'?"
    return f"There is no command '{mistyped}': use one of {', '.join(commands)}."


def _given(option: Any, arguments: Sequence[str]) -> str | None:
    """Return the last value given to an option; None for a positional argument."""
    names = getattr(option, "opts", ())
    value = None
    for argument, following in zip(arguments, (*arguments[1:], None), strict=True):
        name, is_joined, joined = argument.partition("=")
        if name.startswith("-") and name in names:
            value = joined if is_joined else following
    return value


def _go_on_alone() -> None:
    """End all but the first of the processes that a launcher started for one command.

    They would write the same output, and a model that the first one loads would wait for them.
    """
    count = int(os.environ.get("WORLD_SIZE") or 1)
    if count < 2:
        return
    if os.environ.get("RANK") not in (None, "0"):
        sys.exit(0)
    _say(f"this command uses one process, so {count - 1} of the {count} processes have ended.")
    for name in _LAUNCHED:
        os.environ.pop(name, None)


def _open_streams() -> None:
    """Make every text printable, and let output to a closed stream disappear."""
    # If a standard stream is closed, the next file that is opened would otherwise take its place.
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
    """Keep every library from drawing progress bars into a file or a pipe."""
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")


def _flush(stream: TextIO) -> OSError | None:
    """Flush a stream; if that fails, drop what is left and return the reason."""
    try:
        stream.flush()
    except OSError as error:
        # Python would try again when it ends, and print an error.
        with suppress(OSError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
        return error
    return None


def _unwritten(error: OSError) -> str:
    return f"The output could not be written ({error.strerror}); send it somewhere else."


def _say(sentence: str) -> None:
    with suppress(OSError):
        print(f"polyrefuse: {clean(sentence)}", file=sys.stderr)
