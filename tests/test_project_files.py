"""The files that GitHub, pre-commit and citation managers read."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("vendor.github-issue-forms", FORMS),
        ("vendor.citation-file-format", [ROOT / "CITATION.cff"]),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_they_follow_their_schema(schema: str, files: list[Path]) -> None:
    """By the schemas that check-jsonschema brings, offline."""
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed")
    assert files
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_workflows_by_actionlint() -> None:
    program = shutil.which("actionlint")
    if program is None:
        pytest.skip("actionlint is not on PATH; GitHub Actions run it on the workflows")
    done = subprocess.run([program, *map(str, WORKFLOWS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def steps(job: Any) -> list[str]:
    """The commands of a job, one by one."""
    return [
        line.strip()
        for step in job["steps"]
        for line in step.get("run", "").splitlines()
        if line.strip()
    ]


def test_hooks_are_what_ci_checks() -> None:
    (local,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    hooks = [hook["entry"] for hook in local["hooks"]]
    assert all(hook["language"] == "system" for hook in local["hooks"])
    job = steps(read(ROOT / ".github/workflows/ci.yml")["jobs"]["checks"])
    assert hooks == [line for line in job if not line.startswith("pip install")]
    # The tests of `.ci/run` check the generated pages.
    script = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert [hook for hook in hooks if hook in script] == hooks[:3]


def test_ci_runs_what_our_own_script_runs() -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    (install,) = re.findall(r'^install="(.+)"$', script, re.MULTILINE)
    jobs = read(ROOT / ".github/workflows/ci.yml")["jobs"]
    assert install in steps(jobs["checks"])
    constrained, *free = jobs["tests"]["strategy"]["matrix"]["include"]
    assert constrained == {"python": "3.11", "constraints": "-c constraints.txt"}
    assert "on Python 3.11" in (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert [one["python"] for one in free] == ["3.10", "3.12", "3.13"]
    assert not any(one["constraints"] for one in free)
    assert steps(jobs["tests"])[-1] == "pytest"
    for name, needed in (("docs", ".ci/docs"), ("audit", ".ci/audit")):
        assert any(line.startswith(needed) for line in steps(jobs[name])), name
        assert f"\n{needed}\n" in script or name == "audit"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_do_little(workflow: Path) -> None:
    """It reads the repository, from actions at a version; publishing has its own job and right."""
    content = read(workflow)
    assert content["permissions"] == {"contents": "read"}
    allowed = {
        name: job["permissions"] for name, job in content["jobs"].items() if "permissions" in job
    }
    assert allowed in ({}, {"publish": {"id-token": "write"}})
    for job in content["jobs"].values():
        assert "timeout-minutes" in job
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", step["uses"])
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_the_release_is_checked_before_it_is_published() -> None:
    jobs = read(ROOT / ".github/workflows/release.yml")["jobs"]
    built = "\n".join(steps(jobs["build"]))
    for command in ("python -m build", "twine check --strict", "python -m venv", "dist/*.whl"):
        assert command in built
    assert jobs["publish"]["needs"] == "build"
    assert "tag" in jobs["publish"]["if"]


def test_scripts_of_ci_can_be_run() -> None:
    for script in (ROOT / ".ci").iterdir():
        assert script.stat().st_mode & 0o111, f"{script.name} is not executable"
        assert script.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n")


def test_the_citation_is_of_this_package() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    metadata, citation = config["metadata"], read(ROOT / "CITATION.cff")
    assert citation["version"] == metadata["version"]
    assert citation["license"] == metadata["license_expression"]
    assert metadata["name"] in citation["title"]
    urls = {one["url"] for one in citation["references"]}
    assert {f"https://arxiv.org/abs/{number}" for number in ("2505.17306", "2505.11835")} <= urls
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = re.escape(metadata["version"])
    assert re.search(rf"^## \[?{version}\]?|^{version} will be", changes, re.MULTILINE)
