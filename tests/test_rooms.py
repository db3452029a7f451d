"""Which room may import which: what is lower imports nothing that is higher."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = {
    "polyrefuse_shared": "polyrefuse_shared",
    "polyrefuse_tasks": "polyrefuse_tasks",
    "polyrefuse_leaderboard": "leaderboard",
    "polyrefuse_models": "polyrefuse_models",
    "polyrefuse_studies": "studies",
}
"""Installed name of each package -> its folder here."""

ROOMS: tuple[tuple[str, ...], ...] = (
    ("polyrefuse_shared",),
    ("polyrefuse_tasks.languages",),
    ("polyrefuse_tasks.data.toyrefuse",),
    ("polyrefuse_tasks.data",),
    (
        "polyrefuse_tasks.generation_settings",
        "polyrefuse_tasks.same_answers",
        "polyrefuse_tasks.group_errors",
    ),
    ("polyrefuse_tasks.judges",),
    ("polyrefuse_tasks.judge_models.formats",),
    ("polyrefuse_tasks.judge_engines",),
    ("polyrefuse_tasks.judge_models",),
    ("polyrefuse_tasks.language_identification",),
    ("polyrefuse_tasks.metrics",),
    ("polyrefuse_tasks.saved_results",),
    ("polyrefuse_tasks",),
    ("polyrefuse_leaderboard.reading",),
    ("polyrefuse_leaderboard.picture",),
    ("polyrefuse_leaderboard.card.parts",),
    ("polyrefuse_leaderboard",),
    ("polyrefuse_leaderboard.page",),
    ("polyrefuse_leaderboard.card",),
    ("polyrefuse_leaderboard.site",),
    ("polyrefuse_leaderboard.gate",),
    ("polyrefuse_models",),
    ("polyrefuse_models.interventions",),
    ("polyrefuse_models.vllm_engine",),
    ("polyrefuse_models.directions",),
    ("polyrefuse_models.mcd",),
    ("polyrefuse_models.organism",),
    ("polyrefuse_models.wrappers",),
    ("polyrefuse_models.registration",),
    ("polyrefuse_models.doctor",),
    (
        "polyrefuse_tasks.commands",
        "polyrefuse_leaderboard.commands",
        "polyrefuse_models.commands",
    ),
    ("polyrefuse_studies",),
    ("polyrefuse_studies.forecast",),
    ("polyrefuse_studies.commands",),
    ("polyrefuse",),
)
"""From the lowest to the highest. A module is in the room with the longest name that it begins
with, and imports from its own room and from lower ones."""

STRANGERS: tuple[tuple[str, str], ...] = (
    ("polyrefuse_models", "polyrefuse_leaderboard"),
    ("polyrefuse_leaderboard", "polyrefuse_tasks.data"),
    ("polyrefuse_models.wrappers", "polyrefuse_models.organism"),
)
"""Rooms whose first imports nothing of the second, although that is lower."""

OUTSIDE: Mapping[str, tuple[str, ...]] = {
    "torch": (
        "polyrefuse_tasks.data.translation",
        "polyrefuse_tasks.data.translation_models",
        "polyrefuse_tasks.judge_engines",
        "polyrefuse_models",
        "polyrefuse_studies.executors.local",
    ),
    "transformers": (
        "polyrefuse_tasks.data.translation",
        "polyrefuse_tasks.data.translation_models",
        "polyrefuse_tasks.judge_engines",
        "polyrefuse_models",
        "polyrefuse_studies.models",
    ),
    "vllm": (
        "polyrefuse_tasks.judge_engines",
        "polyrefuse_models.vllm_engine",
        "polyrefuse_models.wrappers.lm_evals_vllm",
        "polyrefuse_models.wrappers.vllm",
    ),
    "lm_eval": (
        "polyrefuse_shared.lm_eval_internals",
        "polyrefuse_models.wrappers",
        "polyrefuse_models.commands.loaded_model",
        "polyrefuse_models.registration",
        "polyrefuse_studies.demo",
    ),
    "lm_eval.models.huggingface": ("polyrefuse_models.wrappers.hf",),
    "typer": (
        "polyrefuse_shared.options",
        "polyrefuse_shared.command_line",
        "polyrefuse_tasks.commands",
        "polyrefuse_leaderboard.commands",
        "polyrefuse_models.commands",
        "polyrefuse_studies.commands",
        "polyrefuse_studies.options",
        "polyrefuse_studies.parameters",
    ),
    "ray": ("polyrefuse_studies.executors.ray",),
    "submitit": ("polyrefuse_studies.executors.slurm",),
    "fsspec": ("polyrefuse_studies.upload",),
    "pydantic": ("polyrefuse_studies.schema",),
}
"""Packages of others, and the only rooms and modules that may import them."""


@dataclass(frozen=True)
class Module:
    """A module of ours, and every module that it imports, in functions and for types too."""

    name: str
    file: str
    imports: frozenset[str]


def modules() -> dict[str, Module]:
    """All of ours by name, with imports of a package's parts resolved to the parts."""
    files = {"polyrefuse": ROOT / "polyrefuse.py"}
    for package, folder in PACKAGES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join((package, *(part for part in parts if part != "__init__")))
            files[name] = path
    return {
        name: Module(
            name,
            str(path.relative_to(ROOT)),
            frozenset(imported(path.read_text(encoding="utf-8"), files)),
        )
        for name, path in files.items()
    }


def imported(source: str, ours: Mapping[str, object]) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports are absolute"
            for alias in node.names:
                part = f"{node.module}.{alias.name}"
                yield part if part in ours else node.module


def inside(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def floor_of(name: str) -> int:
    """Place in `ROOMS` of the room with the longest name."""
    floors = [
        (len(room), floor)
        for floor, rooms in enumerate(ROOMS)
        for room in rooms
        if inside(name, room)
    ]
    return max(floors)[1]


def is_ours(name: str) -> bool:
    return name.partition(".")[0] in (*PACKAGES, "polyrefuse")


def faults(all_modules: Mapping[str, Module]) -> Iterator[str]:
    for module in all_modules.values():
        for target in sorted(module.imports):
            if is_ours(target):
                if floor_of(target) > floor_of(module.name):
                    yield f"{module.file} imports {target}, which lies above it"
                for room, stranger in STRANGERS:
                    if inside(module.name, room) and inside(target, stranger):
                        yield f"{module.file} imports {target}, which {room} has nothing to do with"
            for package, rooms in OUTSIDE.items():
                allowed = any(inside(module.name, room) for room in rooms)
                if inside(target, package) and not allowed:
                    yield f"{module.file} imports {target}, which only {', '.join(rooms)} may"


def cycles(all_modules: Mapping[str, Module]) -> Iterator[str]:
    """Circles of imports, each told once, from the module at which it was entered."""
    finished: set[str] = set()

    def visit(name: str, path: list[str]) -> Iterator[str]:
        if name in path:
            circle = [*path[path.index(name) :], name]
            yield f"{' imports '.join(circle)}: a circle"
            return
        if name in finished or name not in all_modules:
            return
        for target in sorted(all_modules[name].imports):
            yield from visit(target, [*path, name])
        finished.add(name)

    for name in all_modules:
        yield from visit(name, [])


def test_nothing_lower_imports_anything_higher() -> None:
    assert not list(faults(modules()))


def test_no_imports_go_in_circles() -> None:
    assert not list(cycles(modules()))


def test_commands_are_mounted_and_not_imported() -> None:
    for module in modules().values():
        for target in module.imports:
            if ".commands" in target:
                assert ".commands" in module.name, f"{module.file} imports {target}"


def targets() -> Iterator[tuple[str, str]]:
    """Every name of a module that stands in a text, and where."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for group, lines in setup["options.entry_points"].items():
        for line in filter(None, lines.split("\n")):
            if "=" in line:
                yield f"setup.cfg, {group}", line.split("=")[1].strip()
    for file in ("polyrefuse.py", "polyrefuse_models/registration.py"):
        text = (ROOT / file).read_text(encoding="utf-8")
        for target in re.findall(r'"(polyrefuse_\w+(?:\.\w+)*:\w+)"', text):
            yield file, target
    for path in sorted((ROOT / "task_configs").rglob("_template.yaml")):
        for target in re.findall(r"!function '?([\w.]+)", path.read_text(encoding="utf-8")):
            yield str(path.relative_to(ROOT)), ":".join(target.rsplit(".", 1))


def test_what_is_named_in_a_text_exists() -> None:
    every = list(targets())
    assert len(every) > 20
    for where, target in sorted(set(every)):
        module, _, attribute = target.partition(":")
        spec = importlib.util.find_spec(module)
        assert spec is not None and spec.origin, f"{where} names {module}, which is not there"
        source = Path(spec.origin).read_text(encoding="utf-8")
        defined = {
            name
            for node in ast.parse(source).body
            for name in (
                [node.name]
                if isinstance(node, (ast.FunctionDef, ast.ClassDef))
                else [one.id for one in ast.walk(node) if isinstance(one, ast.Name)]
            )
        }
        assert not attribute or attribute in defined, f"{where}: {module} has no {attribute}"


# --- that the tests above can fail


def invented(**sources: str) -> dict[str, Module]:
    names = {name.replace("__", "."): source for name, source in sources.items()}
    return {
        name: Module(name, f"{name}.py", frozenset(imported(source, names)))
        for name, source in names.items()
    }


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        (
            "polyrefuse_models__directions__transfer",
            "def f():\n    from polyrefuse_models.wrappers.hf import BaselineHF",
            "imports polyrefuse_models.wrappers.hf, which lies above it",
        ),
        (
            "polyrefuse_tasks__data__rows",
            "from polyrefuse_tasks import harness",
            "imports polyrefuse_tasks.harness, which lies above it",
        ),
        (
            "polyrefuse_shared__log",
            "import polyrefuse_tasks.languages",
            "imports polyrefuse_tasks.languages, which lies above it",
        ),
        (
            "polyrefuse_models__mcd__train",
            "import polyrefuse_leaderboard.rates",
            "which polyrefuse_models has nothing to do with",
        ),
        (
            "polyrefuse_tasks__judges__native",
            "if TYPE_CHECKING:\n    from torch import Tensor",
            "imports torch, which only",
        ),
        (
            "polyrefuse_models__wrappers__prompting",
            "from lm_eval.models.huggingface import HFLM",
            "imports lm_eval.models.huggingface, which only polyrefuse_models.wrappers.hf may",
        ),
    ],
)
def test_an_arrow_up_is_named(module: str, source: str, said: str) -> None:
    harness = {"polyrefuse_tasks__harness": ""}
    (fault,) = faults(invented(**harness, **{module: source}))
    assert said in fault and module.replace("__", ".") in fault


def test_a_circle_is_named() -> None:
    circle = invented(
        polyrefuse_shared__a="import polyrefuse_shared.b",
        polyrefuse_shared__b="from polyrefuse_shared import c",
        polyrefuse_shared__c="def f():\n    import polyrefuse_shared.a",
    )
    (fault,) = cycles(circle)
    assert fault == (
        "polyrefuse_shared.a imports polyrefuse_shared.b imports polyrefuse_shared.c imports "
        "polyrefuse_shared.a: a circle"
    )
