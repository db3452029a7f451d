"""Every recipe of CONTRIBUTING.md, followed to the letter in a copy of the repository.

A recipe is a section with code blocks. "Write `PATH`:" stands before the text of a new file, and
"Add to `PATH`, below the line `LINE`:" before lines that go into a file that is there. A block that
is marked `sh` is run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.documented import FENCE

CONTRIBUTING = ROOT / "CONTRIBUTING.md"
INSTALLED = {
    "polyrefuse_leaderboard": "leaderboard",
    "polyrefuse_studies": "studies",
    "polyrefuse_task_configs": "task_configs",
}
"""Packages whose installed name is not that of their folder."""

WRITE = re.compile(r"Write `(?P<path>[^`]+)`:\Z")
ADD = re.compile(r"Add to `(?P<path>[^`]+)`, below the line `(?P<line>[^`]+)`:\Z")


@dataclass(frozen=True)
class Step:
    """One block of a recipe: the text of a file, lines for one, or commands of a shell."""

    before: str
    kind: str
    text: str

    def follow(self, tree: Path) -> None:
        """Do what the block and the sentence before it say."""
        if written := WRITE.search(self.before):
            path = tree / written["path"]
            assert not path.exists(), f"{path} is there already"
            path.write_text(self.text, encoding="utf-8")
        elif added := ADD.search(self.before):
            path = tree / added["path"]
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            places = [at for at, line in enumerate(lines) if line.strip() == added["line"]]
            assert len(places) == 1, f"{path} has the line {len(places)} times: {added['line']}"
            lines.insert(places[0] + 1, self.text)
            path.write_text("".join(lines), encoding="utf-8")
        else:
            assert self.kind == "sh", f"no sentence says what to do with: {self.text}"
            run(self.text, tree)


def run(commands: str, tree: Path) -> None:
    """Run the commands in the copy, and its packages instead of the installed ones."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    options = {"PYTEST_ADDOPTS": "-n 0 -p no:cacheprovider", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        ["bash", "-e", "-c", commands],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree), "PATH": path} | options,
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def sections(text: str) -> Iterator[tuple[str, str]]:
    """The heading of each section and what stands below it."""
    # A heading inside a block is a comment of its language.
    covered = FENCE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    starts = list(re.finditer(r"^## (.+)$", covered, re.MULTILINE))
    ends = [found.start() for found in starts[1:]] + [len(text)]
    for start, end in zip(starts, ends, strict=True):
        yield start[1], text[start.end() : end]


def steps(section: str) -> list[Step]:
    """The blocks of a section, in their order."""
    return [
        Step(section[: fence.start()].rstrip(), fence["kind"], fence["text"])
        for fence in FENCE.finditer(section)
    ]


RECIPES = {
    heading: steps(section)
    for heading, section in sections(CONTRIBUTING.read_text(encoding="utf-8"))
    if heading.startswith("Add ")
}
QUICK = "Add an architecture"
"""The recipe that the ordinary run follows."""


def test_there_is_a_recipe_for_each_kind() -> None:
    kinds = ("a task", "a language to the native judge", "a judge", "an architecture", "an engine")
    assert list(RECIPES) == [f"Add {kind}" for kind in kinds]
    for recipe in RECIPES.values():
        assert recipe[-1].kind == "sh" and "pytest tests/" in recipe[-1].text
        assert any(ADD.search(step.before) for step in recipe)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what git has or would add, with every package under its installed name."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("this is no git checkout, so that nothing says which files are its own")
    copy = tmp_path / "copy"
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    for package, folder in INSTALLED.items():
        (copy / package).symlink_to(folder)
    return copy


@pytest.mark.parametrize(
    "heading",
    [name if name == QUICK else pytest.param(name, marks=pytest.mark.slow) for name in RECIPES],
)
def test_a_recipe_works_to_the_letter(heading: str, tree: Path) -> None:
    for step in RECIPES[heading]:
        step.follow(tree)


def test_the_files_of_the_recipes_pass_the_checks(tree: Path) -> None:
    for recipe in RECIPES.values():
        for step in recipe:
            if step.kind != "sh":
                step.follow(tree)
    (tree / "shared").mkdir()
    for package in INSTALLED:
        (tree / package).unlink()
    run("ruff check . && ruff format --check .", tree)
