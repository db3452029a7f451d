"""Every argument of every sub-command, given values that nobody should give: one sentence each.

The commands and their arguments are read from the command line itself, so that a new one is tried
as well. Nothing is trained or asked: where a value is accepted, a model that is not there ends the
command.
"""

from __future__ import annotations

import inspect
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import pytest
from polyrefuse_studies import demo

import polyrefuse
from polyrefuse_models.organism import make as makers
from polyrefuse_shared.command_line import every_command
from polyrefuse_shared.errors import UserError
from tests.commands import run_in_process
from tests.deep_folders import nest, remove

LONG = "x" * 5000
DEEP = "d/" * 1500
NUMBERS = ("abc", "", "-1", "0", "nan", "inf", "1e400", "9" * 30, "-" + "9" * 30, "0x10", "1_000",
           "٣", "[1]")  # fmt: skip
TEXTS = (LONG, DEEP, "", " ", "\udcff", "a\nb", "\x1b[31m", "‮", "{0}", "%s", "../..", "-")
PLACES = (LONG, DEEP, "", "\udcff", "a\nb", "pipe", "/dev/zero", "/dev/full", "/proc/self/mem",
          "folder", "file", "folder/loop", "file/below", ".", "/", "deep", "not-utf8")  # fmt: skip


class Case(NamedTuple):
    """A value of an argument of a sub-command."""

    command: tuple[str, ...]
    argument: str
    value: str

    def __repr__(self) -> str:
        return f"{' '.join(self.command)} {self.argument} {self.value[:20]!a}"


COMMANDS = {
    path: command
    for path, command in every_command(polyrefuse.COMMANDS, polyrefuse.ABOUT, polyrefuse.EXAMPLE)
    if not hasattr(command, "commands")
}
"""Every sub-command that is no group of others, by the words that call it."""


def values(kind: Any) -> tuple[str, ...]:
    named = str(kind)
    if "bool" in named:
        return ()
    if "Path" in named:
        return PLACES
    return NUMBERS if "int" in named or "float" in named else (*TEXTS, *PLACES)


def name_of(parameter: Any) -> str:
    return max(parameter.opts, key=len) if parameter.param_type_name == "option" else parameter.name


CASES = [
    Case(path, name_of(parameter), value)
    for path, command in COMMANDS.items()
    for kinds in [get_type_hints(inspect.unwrap(command.callback))]
    for parameter in command.params
    if parameter.name in kinds  # The others are typer's own.
    for value in values(kinds[parameter.name])
    # A whole disk is searched for results, if somebody asks for it.
    if (parameter.name, value) != ("results", "/")
]
SAMPLE = set(random.Random(14).sample(range(len(CASES)), 150))


def test_all_commands_and_kinds_are_there() -> None:
    tried = {case.command for case in CASES}
    assert {("data", "translate"), ("judge", "agreement"), ("leaderboard", "check")} <= tried
    assert {("organism", "make"), ("mcd", "train"), ("direction", "choose")} <= tried
    assert {case.argument for case in CASES} >= {"--seed", "--output", "--langs", "results"}


@pytest.fixture
def places(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A folder with one of everything that is no file to read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    (tmp_path / "study.yaml").write_text(
        "{study: s, models: {m: no-such-folder/model}, datasets: toyrefuse, conditions: baseline}"
    )
    (tmp_path / "prompts.csv").write_text("prompt,harmful\nHow do I clean a brick?,no\n")
    (tmp_path / "not-utf8").write_bytes(b"\xff\xfe{")
    os.mkfifo(tmp_path / "pipe")
    place = tmp_path / "deep"
    place.mkdir()
    if request.node.callspec.params["case"].value == "deep":
        nest(place, 1500)
    monkeypatch.setenv("POLYREFUSE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("POLYREFUSE_OFFLINE", "1")

    def stop(*_: object, **__: object) -> None:
        raise UserError("Nothing is trained here.")

    for name in ("make", "make_weakened"):
        monkeypatch.setattr(makers, name, stop)
    monkeypatch.setattr(demo, "demonstrate", stop)
    yield
    remove(place)


@pytest.fixture
def impatient() -> Iterator[None]:
    """Ends what hangs, such as one that waits for a pipe."""

    def hangs(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


USUAL = {
    "--output": "new",
    "--langs": "en",
    "--source-langs": "en",
    "--to": "da",
    "--dataset": "toyrefuse",
    "--model": "no-such-folder/model",
    "--direction": "folder",
    "--baseline": "baseline.json",
    "--baseline-rate": "0.1",
    "--n": "100",
    "--comparisons": "10",
    "--judge": "native",
    "--format": "jsonl",
    "file": "study.yaml",
    "name": "stones",
    "dataset": "toyrefuse_harmless",
    "prompts": "prompts.csv",
    "files": "file",
    "labels": "file",
    "scores": "file",
    "results": "folder",
    "tables": "file",
}
"""What other arguments are given, so that the command comes to the one that is tried."""


def arguments_of(case: Case) -> list[str]:
    given = []
    for parameter in COMMANDS[case.command].params:
        name = name_of(parameter)
        if name == case.argument:
            value = case.value
        elif name == "--source-langs" and case.argument == "--directions":
            continue  # one or the other
        elif parameter.required or name in ("--model", "--dataset", "--source-langs"):
            value = USUAL[name]
        else:
            continue
        given.append(f"{name}={value}" if name.startswith("--") else value)
    return given


@pytest.mark.usefixtures("places", "impatient")
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case, id=f"{number}-{case!r}", marks=() if number in SAMPLE else pytest.mark.slow
        )
        for number, case in enumerate(CASES)
    ],
)
def test_one_sentence(case: Case) -> None:
    arguments = arguments_of(case)
    if not arguments[-1].startswith("--"):
        arguments.insert(len(arguments) - 1, "--") if arguments[-1].startswith("-") else None
    code, out, err = run_in_process(*case.command, *arguments)
    said = f"{case!r}: exit code {code}\n{out[-500:]}\n{err[-1500:]}"
    assert code in (0, 1, 2), said
    assert "Traceback" not in out + err, said
    if code == 2:
        assert out == "", said
        last = err.rstrip("\n").splitlines()[-1]
        assert last.startswith("polyrefuse: ") or "polyrefuse: " in err, said
        assert len(err) < 15_000, said
