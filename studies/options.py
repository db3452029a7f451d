"""What the commands of a study's jobs may be given, from the code that takes it.

The options of this package's commands are read off the commands themselves, so that a study knows
an option as soon as a command has it.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import Any

import typer
from polyrefuse_studies.schema import quoted, unknown

from polyrefuse_shared.errors import UserError

APPS = {
    "direction": "polyrefuse_models.commands.direction",
    "mcd": "polyrefuse_models.commands.mcd",
    "judge": "polyrefuse_tasks.commands.judge",
    "drift": "polyrefuse_models.commands.drift",
}
"""The first word of the commands that jobs are -> the module that has the command."""


class BadOption(UserError):
    """An option that a command does not have, or a value that it does not take."""


@functools.cache
def _command(group: str, name: str) -> Any:
    app = importlib.import_module(APPS[group]).app
    commands: Any = typer.main.get_group(app)
    return commands.commands[name]


@functools.cache
def of_command(group: str, name: str) -> dict[str, Any]:
    """The options of `polyrefuse GROUP NAME` by their long names, without the dashes in front.

    Each is an option as click has it. One that is off as `--no-NAME` stands under NAME.
    """
    return {
        option.removeprefix("--"): parameter
        for parameter in _command(group, name).params
        for option in parameter.opts
        if option.startswith("--")
    }


def typed(
    options: Mapping[str, Any], group: str, name: str, where: str, reserved: Mapping[str, str]
) -> list[str]:
    """Options as a user would type them.

    Args:
        options: by their long names.
        group: of the command.
        name: of the command.
        where: key in the study's file.
        reserved: options that the study itself gives, and what says them there.

    Raises:
        BadOption: there is no such option, or it takes no such value.
    """
    there = of_command(group, name)
    said: list[str] = []
    # The file's order is no setting.
    for option, value in sorted(options.items()):
        if option in reserved:
            raise BadOption(
                f"{where} has {option}, which a study has from elsewhere ({reserved[option]}): "
                "leave it out."
            )
        if option not in there:
            known = [one for one in there if one not in reserved]
            raise BadOption(
                f"{where}: {unknown(f'no option {quoted(option)}', option, known)} "
                f"(`polyrefuse {group} {name} --help`)."
            )
        said += _typed(option, value, there[option], f"{where}.{option}")
        if not isinstance(value, bool):
            try:
                _read(group, name, there[option], value)
            except typer.BadParameter:
                raise BadOption(
                    f"{where}.{option} is {quoted(value)}: `polyrefuse {group} {name}` takes no "
                    f"such --{option}; its --help says which."
                ) from None
    return said


def values(options: Mapping[str, Any], group: str, name: str) -> dict[str, Any]:
    """What a command's function gets for options that `typed` has taken, by parameter."""
    there = of_command(group, name)
    given = {
        there[option].name: value
        if isinstance(value, bool)
        else _read(group, name, there[option], value)
        for option, value in options.items()
    }
    return {one.name: given.get(one.name, one.default) for one in there.values()}


def _read(group: str, name: str, parameter: Any, value: Any) -> Any:
    """An option's value, as the command's function gets it."""
    command = _command(group, name)
    return parameter.process_value(command.context_class(command), str(value))


def _typed(option: str, value: Any, parameter: Any, where: str) -> list[str]:
    if value is None or isinstance(value, dict | list):
        raise BadOption(f"{where} is {quoted(value)}: give one value, or leave it out.")
    if parameter.is_flag:
        if not isinstance(value, bool):
            raise BadOption(f"{where} is {quoted(value)}: give true or false.")
        if value:
            return [f"--{option}"]
        if not parameter.secondary_opts:
            raise BadOption(f"{where} is false: leave it out, there is no --no-{option}.")
        return [str(parameter.secondary_opts[0])]
    if isinstance(value, bool):
        raise BadOption(f"{where} is {quoted(value)}: give a value, in quotes where it is text.")
    return [f"--{option}", str(value)]
