"""The options of the commands that a study's jobs run, read from the commands themselves.

A study therefore knows an option as soon as a command has it.
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
"""The first word of the commands of jobs -> the module that has the command."""


class BadOption(UserError):
    """A command does not have the option, or the option does not take the value."""


@functools.cache
def _command(group: str, name: str) -> Any:
    app = importlib.import_module(APPS[group]).app
    commands: Any = typer.main.get_group(app)
    return commands.commands[name]


@functools.cache
def of_command(group: str, name: str) -> dict[str, Any]:
    """Return the options of `polyrefuse GROUP NAME` by their long names without leading dashes.

    The values are click's options. An option that `--no-NAME` turns off stands under NAME.
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
    """Return options as a user would type them.

    Args:
        options: the options by their long names.
        group: the group of the command.
        name: the name of the command.
        where: the key in the study's file.
        reserved: the options that the study itself sets, and by what.

    Raises:
        BadOption: there is no such option, or it does not accept the value.
    """
    there = of_command(group, name)
    words: list[str] = []
    # The order in the file is not a setting.
    for option, value in sorted(options.items()):
        if option in reserved:
            raise BadOption(
                f"{where} has {option}, which the study itself sets ({reserved[option]}): leave it "
                "out."
            )
        if option not in there:
            known = [one for one in there if one not in reserved]
            raise BadOption(
                f"{where}: {unknown(f'no option {quoted(option)}', option, known)} "
                f"(`polyrefuse {group} {name} --help`)."
            )
        words += _typed(option, value, there[option], f"{where}.{option}")
        if not isinstance(value, bool):
            try:
                _read(group, name, there[option], value)
            except typer.BadParameter:
                raise BadOption(
                    f"{where}.{option} is {quoted(value)}: `polyrefuse {group} {name}` accepts no "
                    f"such value of --{option}; its --help says which values it accepts."
                ) from None
    return words


def values(options: Mapping[str, Any], group: str, name: str) -> dict[str, Any]:
    """Return what a command's function receives for options that `typed` accepted, by parameter."""
    there = of_command(group, name)
    given = {
        there[option].name: value
        if isinstance(value, bool)
        else _read(group, name, there[option], value)
        for option, value in options.items()
    }
    return {one.name: given.get(one.name, one.default) for one in there.values()}


def _read(group: str, name: str, parameter: Any, value: Any) -> Any:
    """Return an option's value as the command's function receives it."""
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
            raise BadOption(f"{where} is false: leave it out, because there is no --no-{option}.")
        return [str(parameter.secondary_opts[0])]
    if isinstance(value, bool):
        raise BadOption(f"{where} is {quoted(value)}: give a value, in quotes where it is text.")
    return [f"--{option}", str(value)]
