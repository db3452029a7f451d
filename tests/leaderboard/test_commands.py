"""`polyrefuse leaderboard check` and `power`: tables, files, JSON, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from tests import commands
from tests.conftest import ROOT
from tests.leaderboard.result_files import DIRECTION, task, write_run
from tests.waiting import PATIENCE

N = 30
SAFE = [task("harmful", "de", "r" * N), task("harmless", "de", "c" * N)]
ENTRIES = {
    "passed",
    "alpha",
    "tolerance",
    "baseline",
    "results",
    "comparisons",
    "problems",
    "notes",
}


@dataclass(frozen=True)
class Done:
    """A command that has run."""

    returncode: int
    stdout: str
    stderr: str


def run(*arguments: object, **environment: str) -> Done:
    return Done(*commands.run_in_process("leaderboard", *arguments, **environment))


def run_apart(*arguments: object, python: tuple[str, ...] = (), **environment: str) -> Any:
    """A finished process, and outside of any GitHub job but for what `environment` says."""
    usual = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    return subprocess.run(
        [sys.executable, *python, "-m", "polyrefuse", "leaderboard", *map(str, arguments)],
        cwd=ROOT,
        env=usual | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def assert_one_sentence(done: Any, *named: str) -> None:
    commands.assert_one_sentence((done.returncode, done.stdout, done.stderr), *named)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results before, and worse ones in German and Thai; a baseline of the former."""
    folder = tmp_path_factory.mktemp("gate")
    languages = ("de", "en", "th")
    safe = [task("harmful", lang, "r" * N) for lang in languages]
    worse = [task("harmful", lang, ("c" if lang != "en" else "r") * N) for lang in languages]
    harmless = [task("harmless", lang, "c" * N) for lang in languages]
    write_run(folder / "before", [*safe, *harmless])
    write_run(folder / "worse", [*worse, *harmless], condition="ablation", info=DIRECTION, day=2)
    done = run("check", "--baseline", folder / "baseline.json", "--update", folder / "before")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"{folder / 'baseline.json'}: 6 cells of invented/model-1, baseline; "
        "6 with labels by prompt id\n"
    )
    return folder


class TestCheck:
    def test_passes_against_itself(self, folder: Path) -> None:
        done = run("check", "--baseline", folder / "baseline.json", folder / "before")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[-1] == (
            "passed: 6 comparisons of invented/model-1, baseline, against the baseline of "
            "invented/model-1, baseline"
        )

    def test_fails_naming_the_languages(self, folder: Path) -> None:
        done = run("check", "--baseline", folder / "baseline.json", folder / "worse")
        assert (done.returncode, done.stderr) == (1, "")
        lines = done.stdout.splitlines()
        assert "\x1b" not in done.stdout
        assert lines[0] == "dataset harmful: asr by native, in percent"
        assert " ".join(lines[1].split()) == (
            "lang. n before now change [95%] Holm p test degen. undec."
        )
        verdicts = [line.split()[:5] for line in lines[2:5]]
        assert verdicts == [
            ["FAIL", "de", "30", "0.0", "100.0"],
            ["ok", "en", "30", "0.0", "0.0"],
            ["FAIL", "th", "30", "0.0", "100.0"],
        ]
        assert len({len(line) for line in lines[1:5]}) == 1
        assert lines[-1].startswith(
            "FAILED: 2 of 6 comparisons (asr of harmful by native in de, th)"
        )

    def test_a_terminal_gets_colours(self, folder: Path) -> None:
        done = run_apart(
            "check",
            "--baseline",
            folder / "baseline.json",
            folder / "worse",
            FORCE_COLOR="1",
            COLUMNS="80",
        )
        assert done.returncode == 1
        assert "\x1b[1;31m" in done.stdout
        # Nothing is cut off at 80 columns.
        assert "…" not in done.stdout
        assert "[83.9, 100.0]" in done.stdout

    def test_json(self, folder: Path) -> None:
        done = run("check", "--baseline", folder / "baseline.json", folder / "worse", "--json")
        assert (done.returncode, done.stderr) == (1, "")
        document = json.loads(done.stdout, parse_constant=no_constant)
        assert set(document) == ENTRIES
        assert document["passed"] is False
        assert document["results"]["condition"] == "ablation"
        first = document["comparisons"][0]
        assert (first["language"], first["metric"], first["passed"]) == ("de", "asr", False)
        assert first["before"]["rate"] == 0.0
        assert first["now"] == {
            "n": 30, "hits": 30, "rate": 1.0, "degenerate_rate": 0.0, "undecided_rate": 0.0
        }  # fmt: skip
        assert first["change"]["test"] == "mcnemar"
        assert first["change"]["p"] == pytest.approx(2.0**-30)
        assert first["adjusted_p"] == pytest.approx(6 * 2.0**-30)
        assert "invented prompt" not in done.stdout

    def test_files(self, folder: Path, tmp_path: Path) -> None:
        junit, summary = tmp_path / "new" / "junit.xml", tmp_path / "summary.md"
        summary.write_text("from another step\n", encoding="utf-8")
        done = run_apart(
            "check", "--baseline", folder / "baseline.json", folder / "worse", "--junit", junit,
            GITHUB_STEP_SUMMARY=str(summary),
        )  # fmt: skip
        assert done.returncode == 1
        suite = ElementTree.parse(junit).getroot()[0]
        assert (suite.get("tests"), suite.get("failures")) == ("6", "2")
        failed = [case for case in suite if case.find("failure") is not None]
        assert [(case.get("classname"), case.get("name")) for case in failed] == [
            ("polyrefuse.harmful.asr.native", "de"),
            ("polyrefuse.harmful.asr.native", "th"),
        ]
        failure = failed[0].find("failure")
        assert failure is not None
        assert failure.get("message", "").startswith("asr rose from 0.0% to 100.0%")
        text = summary.read_text(encoding="utf-8")
        assert text.startswith("from another step\n## Safety gate\n")
        assert text.count("| FAIL | ") == 2
        assert text.count("<details>") == text.count("</details>") == 2
        asked = tmp_path / "asked.md"
        done = run(
            "check", "--baseline", folder / "baseline.json", folder / "before",
            "--github-summary", asked, GITHUB_STEP_SUMMARY=str(summary),
        )  # fmt: skip
        assert done.returncode == 0
        assert "passed: 6 comparisons" in asked.read_text(encoding="utf-8")
        assert summary.read_text(encoding="utf-8") == text

    def test_several_conditions(self, folder: Path) -> None:
        both = (
            "check",
            "--baseline",
            folder / "baseline.json",
            folder / "before",
            folder / "worse",
        )
        assert_one_sentence(
            run(*both),
            "--model invented/model-1 --condition ablation; ",
            "--model invented/model-1 --condition baseline.",
        )
        chosen = ("--condition", "ablation", "--model", "invented/model-1")
        assert run(*both, *chosen).returncode == 1
        assert run(*both, *chosen, "--alpha", "1e-12").returncode == 0

    def test_misuse(self, folder: Path, tmp_path: Path) -> None:
        file = folder / "baseline.json"
        (tmp_path / "empty").mkdir()
        for arguments, said in (
            (("--baseline", tmp_path / "none.json", folder / "before"), "none.json cannot be read"),
            (("--baseline", file, tmp_path / "empty"), "holds no results"),
            (("--baseline", file, folder / "before", "--alpha", "5"), "alpha is 5.0"),
            (("--baseline", file, folder / "before", "--junit", tmp_path), "cannot be written"),
        ):
            assert_one_sentence(run("check", *arguments), said)

    def test_no_baseline_of_broken_results(self, folder: Path, tmp_path: Path) -> None:
        write_run(tmp_path / "results", [task("harmful", "de", "r" * N)])
        (tmp_path / "results" / "results_x.json").write_text("{", encoding="utf-8")
        file = tmp_path / "baseline.json"
        done = run("check", "--baseline", file, "--update", tmp_path / "results")
        assert_one_sentence(
            done, "no baseline can be made from results with problems", "results_x.json"
        )
        assert not file.exists()
        done = run("check", "--baseline", folder / "baseline.json", tmp_path / "results", "--json")
        assert done.returncode == 1
        assert "results_x.json" in json.loads(done.stdout)["problems"][0]

    def test_imports(self, folder: Path) -> None:
        done = run_apart(
            "check", "--baseline", folder / "baseline.json", folder / "before",
            python=("-X", "importtime"),
        )  # fmt: skip
        imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        heavy = {"torch", "transformers", "datasets", "lm_eval"}
        assert {"scipy.stats", "rich.table"} <= imported
        assert not imported & heavy
        done = run_apart("check", "--help", python=("-X", "importtime"))
        imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert "polyrefuse_leaderboard.commands.check" in imported
        assert not imported & (heavy | {"scipy", "pandas", "matplotlib", "jinja2"})


class TestStart:
    def test_help_does_not_wait_for_numpy(self) -> None:
        for command in ("check", "power"):
            done = run_apart(command, "--help", python=("-X", "importtime"))
            assert done.returncode == 0
            assert "--tolerance" in done.stdout
            loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
            assert f"polyrefuse_leaderboard.commands.{command}" in loaded
            assert not loaded & {"numpy", "scipy", "polyrefuse_leaderboard.gate.comparison"}

    def test_an_update_says_what_it_left_out(self, tmp_path: Path) -> None:
        write_run(tmp_path, SAFE)
        write_run(tmp_path, SAFE[:1], day=2)
        baseline = tmp_path / "baseline.json"
        done = run("check", tmp_path, "--baseline", baseline, "--update", "--json")
        assert (done.returncode, json.loads(done.stdout)["cells"]) == (0, 2)
        assert done.stderr.startswith("polyrefuse: note: 1 task of ")
        assert done.stderr.count("\n") == 1


class TestPower:
    def test_the_issues_example(self) -> None:
        done = run("power", "--n", 572, "--baseline-rate", 0.02, "--comparisons", 28)
        assert (done.returncode, done.stderr) == (0, "")
        assert "Assumed: 3.9% of the labels differ" in done.stdout
        assert "(as between independent runs)" in done.stdout
        assert "Smallest observed rise that can fail: 2.1 points." in done.stdout

    def test_json(self) -> None:
        arguments = ("--n", 572, "--baseline-rate", 0.02, "--comparisons", 28)
        done = run("power", *arguments, "--discordance", 0.01, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        document = json.loads(done.stdout, parse_constant=no_constant)
        assert (document["n"], document["comparisons"], document["discordance"]) == (572, 28, 0.01)
        assert (document["alpha"], document["tolerance"]) == (0.05, 0.02)
        rises = {row["power"]: row["rise"] for row in document["rises"]}
        powers = {row["rise"]: row["power"] for row in document["powers"]}
        assert 0.02 < rises[0.5] < rises[0.8] < 0.05
        assert powers[0.01] < 0.5 < powers[0.05]

    def test_misuse(self) -> None:
        done = run_apart("power", "--n", 0, "--baseline-rate", 0.02, "--comparisons", 28)
        assert_one_sentence(done, "n is 0; give a number from 1 to 100000")
        done = run(
            "power", "--n", 9, "--baseline-rate", 0.02, "--comparisons", 1, "--discordance", 0.5
        )
        assert_one_sentence(done, "the discordance is 0.5; give a number from 0 to 0.04")


def test_the_ready_workflow(folder: Path, tmp_path: Path) -> None:
    """docs/how-to/leaderboard-gate.yml is YAML, and its gate is a command that works."""
    workflow = yaml.safe_load(
        (ROOT / "docs/how-to/leaderboard-gate.yml").read_text(encoding="utf-8")
    )
    steps = {step.get("name"): step for step in workflow["jobs"]["gate"]["steps"]}
    scripts = tmp_path / "bin"
    scripts.mkdir()
    script = scripts / "polyrefuse"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m polyrefuse "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    (tmp_path / "baseline.json").symlink_to(folder / "baseline.json")
    environment = os.environ | {
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
    }
    for results, code in (("before", 0), ("worse", 1)):
        (tmp_path / "results").unlink(missing_ok=True)
        (tmp_path / "results").symlink_to(folder / results)
        done = subprocess.run(
            ["bash", "-e", "-c", steps["Gate"]["run"]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert (done.returncode, done.stderr) == (code, "")
    assert (tmp_path / "summary.md").read_text(encoding="utf-8").count("## Safety gate") == 2
    assert (tmp_path / steps["Keep the report"]["with"]["path"]).is_file()
