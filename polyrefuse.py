"""The `polyrefuse` command: it mounts each package's own sub-commands, and imports only the one
that is asked for."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from polyrefuse_shared.errors import UserError

COMMANDS: dict[str, tuple[str, str]] = {
    "data": ("polyrefuse_tasks.commands.data:app", "Fetch, check, find and translate the prompts."),
    "direction": (
        "polyrefuse_models.commands.direction:app",
        "Extract refusal directions, and choose among scores.",
    ),
    "judge": ("polyrefuse_tasks.commands.judge:app", "Check a judge against labels of your own."),
    "leaderboard": (
        "polyrefuse_leaderboard.commands.leaderboard:app",
        "Turn results into tables and pages, and hold them to a baseline.",
    ),
    "mcd": ("polyrefuse_models.commands.mcd:app", "Train a multilingual soft safety prompt."),
    "organism": (
        "polyrefuse_models.commands.organism:app",
        "Make the bundled organism, or find it.",
    ),
}
"""Sub-command -> ("module:typer app", what the overview says about it)."""


class _Mounted(TyperCommand):
    """Stands for a sub-command in the overview; its module is imported when it is run."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        module, app = COMMANDS[self.name or ""][0].split(":")
        command = typer.main.get_group(getattr(importlib.import_module(module), app))
        return command.make_context(info_name, args, *rest, **extra)


class _Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> _Mounted | None:
        if cmd_name not in COMMANDS:
            return None
        return _Mounted(name=cmd_name, callback=None, help=COMMANDS[cmd_name][1])


app = typer.Typer(
    cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.callback()
def polyrefuse() -> None:
    """Multilingual refusal safety, measured with lm-evaluation-harness."""


def main() -> None:
    """Run the command line. A user's mistake is one sentence on standard error and exit code 2."""
    try:
        app(prog_name="polyrefuse")
    except UserError as error:
        print(f"polyrefuse: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
