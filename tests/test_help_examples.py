"""Every help text ends with an example that the command's own parser takes, and that runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import polyrefuse
from polyrefuse_shared.command_line import every_command
from tests.commands import run_in_process

QUICK = {
    "polyrefuse data path": 0,
    "polyrefuse data status": 0,
    "polyrefuse data status --lang de": 0,
    "polyrefuse data verify harmful --lang de": 1,
    "polyrefuse leaderboard power --n 500 --baseline-rate 0.02 --comparisons 28": 0,
    "polyrefuse organism path": 0,
    "polyrefuse organism path --weakened": 0,
    "polyrefuse study init study.yaml": 0,
}
"""Examples that need no model, network or earlier result, and their exit codes. A machine without
prompts has none to verify."""


EVERY = dict(every_command(polyrefuse.COMMANDS, polyrefuse.ABOUT, polyrefuse.EXAMPLE))


def example(command: Any) -> str:
    found = re.fullmatch(r"Example: (polyrefuse .+)", command.epilog or "")
    assert found, f"the help of {command.name} ends with no example but {command.epilog!r}"
    return found[1]


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_each_has_an_example_that_is_parsed(path: tuple[str, ...]) -> None:
    words = shlex.split(example(EVERY[path]))[1:]
    assert words[: len(path)] == list(path), "it is of the command itself, or of one below it"
    (named,) = [
        (place, command)
        for place, command in EVERY.items()
        if place and not hasattr(command, "commands") and words[: len(place)] == list(place)
    ]
    place, command = named
    # Without `resilient_parsing`: what is missing, unknown or of the wrong kind raises.
    command.make_context(place[-1], words[len(place) :])


@pytest.mark.parametrize("path", [(), ("data",), ("data", "fetch"), ("drift",), ("mcd",)])
def test_help_ends_with_it(path: tuple[str, ...]) -> None:
    code, out, _ = run_in_process(*path, "--help", TERMINAL_WIDTH="200")
    assert code == 0
    assert out.rstrip().splitlines()[-1].strip() == EVERY[path].epilog


@pytest.mark.parametrize("columns", ["40", "80"])
@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_a_narrow_terminal_cuts_nothing(
    path: tuple[str, ...], columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    command = EVERY[path]
    printed = command.make_context("polyrefuse", [], resilient_parsing=True).get_help()
    names = {name for option in command.params for name in option.opts if name.startswith("--")}
    assert names <= set(printed.split())
    below = getattr(command, "commands", {}).values()
    described = [option.help for option in command.params] + [each.help for each in below]
    without_spaces = "".join(printed.split())
    for text in described:
        assert "".join((text or "").split("\n\n")[0].split()) in without_spaces


def test_only_the_overview_has_the_options_of_the_completion() -> None:
    having = [
        path
        for path, command in EVERY.items()
        if any("--install-completion" in option.opts for option in command.params)
    ]
    assert having == [()]


@pytest.mark.parametrize("line", QUICK)
def test_it_runs(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert line in {example(command) for command in EVERY.values()}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POLYREFUSE_CACHE_DIR", str(tmp_path / "cache"))
    code, out, err = run_in_process(*shlex.split(line)[1:], POLYREFUSE_OFFLINE="1")
    assert (code, err) == (QUICK[line], "")
    assert out
