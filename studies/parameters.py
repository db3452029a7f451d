"""What the function of a `polyrefuse` command gets: its parameters by the command's own parser."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import typer

APPS = {
    "direction": "polyrefuse_models.commands.direction",
    "mcd": "polyrefuse_models.commands.mcd",
    "judge": "polyrefuse_tasks.commands.judge",
}
"""The first word of the commands that jobs are -> the module that has the command."""


def parameters(command: Sequence[str]) -> dict[str, Any]:
    """A command's parameters by name, with the defaults of those that it does not name.

    Args:
        command: `polyrefuse GROUP NAME ...`, as a user would type it.

    Raises:
        click.ClickException: the command does not take them.
    """
    _, group, name, *arguments = command
    commands: Any = typer.main.get_group(importlib.import_module(APPS[group]).app)
    found = commands.commands[name]
    with found.make_context(name, list(arguments)) as context:
        return dict(context.params)
