"""The parameters that the function of a `polyrefuse` command receives, by the command's parser."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import typer
from polyrefuse_studies.options import APPS


def parameters(command: Sequence[str]) -> dict[str, Any]:
    """Return a command's parameters by name, with defaults where it does not give them.

    Args:
        command: `polyrefuse GROUP NAME ...` or `polyrefuse NAME ...`, as a user would type it.

    Raises:
        click.ClickException: the command does not accept its arguments.
    """
    _, group, *arguments = command
    commands = typer.main.get_group(importlib.import_module(APPS[group]).app).commands
    name = group if group in commands else arguments.pop(0)
    found: Any = commands[name]
    with found.make_context(name, list(arguments)) as context:
        return dict(context.params)
