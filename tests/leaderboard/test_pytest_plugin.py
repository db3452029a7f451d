"""The gate as tests of pytest, run inside of this one; what it costs others in a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import scipy.stats  # noqa: F401  # pytester drops what a run imports, and this bears it once only
from polyrefuse_leaderboard.gate import reports  # noqa: F401  # as above
from polyrefuse_leaderboard.gate.baseline import make_baseline, write_baseline
from polyrefuse_leaderboard.reading.results import read

from tests.conftest import ROOT
from tests.leaderboard.result_files import DIRECTION, task, write_run
from tests.waiting import PATIENCE

pytest_plugins = ["pytester"]

N = 30

GATE = "polyrefuse_leaderboard.gate"
PLUGIN = (
    "-p",
    "no:cacheprovider",
    "-p",
    "no:polyrefuse",
    "-p",
    f"{GATE}.pytest_plugin",
)
"""From this checkout, whether or not an installed one has registered it already."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results before, worse ones in German, and a baseline."""
    folder = tmp_path_factory.mktemp("plugin")
    safe = [task("harmful", lang, "r" * N) for lang in ("de", "en")]
    write_run(folder / "before", safe)
    worse = [task("harmful", "de", "c" * N), safe[1]]
    write_run(folder / "worse", worse, condition="ablation", info=DIRECTION)
    write_baseline(make_baseline(read([folder / "before"]).runs), folder / "baseline.json")
    return folder


class Folder:
    """Where a user has a test, links to results, and runs pytest."""

    def __init__(self, pytester: pytest.Pytester, results: Path) -> None:
        self.pytester = pytester
        pytester.makepyfile(test_own="def test_own():\n    pass\n")
        for name in ("before", "worse", "baseline.json"):
            (pytester.path / name).symlink_to(results / name)

    def run(self, *arguments: str) -> pytest.RunResult:
        return self.pytester.runpytest_inprocess(*PLUGIN, *arguments)


@pytest.fixture
def folder(pytester: pytest.Pytester, results: Path) -> Folder:
    return Folder(pytester, results)


def against(results: str) -> tuple[str, ...]:
    return "--polyrefuse-baseline", "baseline.json", "--polyrefuse-results", results


def test_passes_beside_other_tests(folder: Folder) -> None:
    done = folder.run(*against("before"))
    assert done.ret == 0
    done.stdout.fnmatch_lines("collected 3 items")
    done.assert_outcomes(passed=3)


def test_what_passes_unpaired_is_told(folder: Folder) -> None:
    safe = [task("harmful", lang, "r" * N) for lang in ("de", "en", "fr")]
    write_run(folder.pytester.path / "unpaired", safe, samples=False)
    done = folder.run(*against("unpaired"))
    done.assert_outcomes(passed=3)
    done.stdout.fnmatch_lines(
        [
            "*= polyrefuse =*",
            "note harmful asr in de, en: not paired, Fisher's exact test: *",
            "note asr of harmful by native in fr is not in the baseline and is not compared",
        ]
    )


def test_one_test_a_comparison(folder: Folder) -> None:
    done = folder.run(*against("worse"), "-v", "--junitxml", "junit.xml")
    assert done.ret == 1
    done.assert_outcomes(passed=2, failed=1)
    done.stdout.fnmatch_lines(
        [
            "*harmful[[]de-asr-native] FAILED*",
            "*harmful[[]en-asr-native] PASSED*",
            "asr rose from 0.0% to 100.0%*",
        ]
    )
    done.stdout.no_fnmatch_line("*Traceback*")
    (suite,) = ElementTree.parse(folder.pytester.path / "junit.xml").getroot()
    names = {case.get("name"): case.find("failure") is None for case in suite}
    assert names == {
        "test_own": True,
        "harmful[de-asr-native]": False,
        "harmful[en-asr-native]": True,
    }


def test_chosen_by_name(folder: Folder) -> None:
    done = folder.run(*against("worse"), "-k", "en and asr")
    assert done.ret == 0
    done.stdout.fnmatch_lines("collected 3 items / 2 deselected / 1 selected")
    assert folder.run(*against("worse"), "-k", "de and asr").ret == 1


def test_options_of_the_gate(folder: Folder) -> None:
    both = (*against("before"), "--polyrefuse-results", "worse")
    done = folder.run(*both)
    assert done.ret == 4
    done.stderr.fnmatch_lines("ERROR: the results have several models or conditions*")
    assert folder.run(*both, "--polyrefuse-condition", "baseline").ret == 0
    ablated = (*both, "--polyrefuse-condition", "ablation")
    assert folder.run(*ablated, "--polyrefuse-model", "invented/model-1").ret == 1
    assert folder.run(*ablated, "--polyrefuse-alpha", "1e-12").ret == 0
    assert folder.run(*ablated, "--polyrefuse-tolerance", "2").ret == 4


def test_a_file_that_cannot_be_used_fails(folder: Folder) -> None:
    write_run(
        folder.pytester.path / "now", [task("harmful", lang, "r" * N) for lang in ("de", "en")]
    )
    (folder.pytester.path / "now" / "results_x.json").write_text("{", encoding="utf-8")
    done = folder.run(*against("now"), "-v")
    assert done.ret == 1
    done.stdout.fnmatch_lines(["*results[[]problem 1] FAILED*", "*results_x.json is not JSON*"])


def test_misuse_is_one_sentence(folder: Folder) -> None:
    for arguments, said in (
        (against("nowhere"), "nowhere does not exist"),
        (
            against("before")[:2],
            "--polyrefuse-baseline and --polyrefuse-results need each other; give both or neither.",
        ),
        (
            against("before")[2:],
            "--polyrefuse-baseline and --polyrefuse-results need each other; give both or neither.",
        ),
        (("--polyrefuse-baseline", "none", *against("before")[2:]), "none cannot be read"),
    ):
        done = folder.run(*arguments)
        assert done.ret == 4
        (sentence,) = filter(None, done.stderr.lines)
        assert sentence.startswith("ERROR: ")
        assert said in sentence


def test_costs_nothing_without_its_options(tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text(
        "import sys\n"
        "def test_own():\n"
        "    packages = ('polyrefuse_leaderboard', 'polyrefuse_tasks')\n"
        "    ours = {name for name in sys.modules if name.split('.')[0] in packages}\n"
        f"    assert ours == {{'polyrefuse_leaderboard', '{GATE}', '{GATE}.pytest_plugin'}}\n"
        "    heavy = {'numpy', 'scipy', 'rich', 'typer', 'torch', 'lm_eval'}\n"
        "    assert not heavy & set(sys.modules)\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *PLUGIN],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_an_installed_plugin_warns_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--trace-config"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout
    assert f"{GATE}.pytest_plugin" in done.stdout or "pytest_plugin.py" in done.stdout
    assert "warnings summary" not in done.stdout
