"""How `polyrefuse` ends and prints, whatever it prints to and whatever goes wrong in it."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from polyrefuse_tasks.commands import judge
from tests.commands import assert_one_sentence, run_in_process, usual_signals
from tests.conftest import ROOT
from tests.terminals import open_terminal, printed
from tests.waiting import PATIENCE

POLYREFUSE = str(Path(sys.executable).parent / "polyrefuse")
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


@pytest.fixture
def cache(tmp_path: Path) -> dict[str, str]:
    """An environment whose data folder has a name with an umlaut."""
    folder = tmp_path / "mödel"
    folder.mkdir()
    return os.environ | {"POLYREFUSE_CACHE_DIR": str(folder), "POLYREFUSE_OFFLINE": "1"}


def polyrefuse(*arguments: str, env: dict[str, str], **more: Any) -> subprocess.CompletedProcess:
    return subprocess.run([POLYREFUSE, *arguments], env=env, text=True, encoding="utf-8", **more)


def test_output_never_fails_for_its_encoding(cache: dict[str, str]) -> None:
    done = polyrefuse("data", "path", "--json", env=cache | ASCII, capture_output=True)
    assert done.returncode == 0, done.stderr
    done.stdout.encode("ascii")
    assert (
        json.loads(done.stdout)["cache"].encode("utf-8", "surrogateescape")
        == cache["POLYREFUSE_CACHE_DIR"].encode()
    )
    for arguments in (["data", "path"], ["data", "status"], ["data", "--help"]):
        done = polyrefuse(*arguments, env=cache | ASCII, capture_output=True)
        assert (done.returncode, done.stderr) == (0, "")
    done = polyrefuse("judge", "agreement", "mödel", env=cache | ASCII, capture_output=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("redirected", "code", "said"),
    [
        ("> /dev/full", 3, "The output could not be written (No space left on device)"),
        ("2> /dev/full", 0, ""),
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        (">&- 2>&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        ("| true", 141, ""),
    ],
)
@pytest.mark.parametrize("command", ["data status", "data path --json"])
def test_where_output_cannot_go(
    command: str, redirected: str, code: int, said: str, cache: dict[str, str]
) -> None:
    script = f"set -o pipefail; {POLYREFUSE} {command} {redirected}"
    done = subprocess.run(
        ["bash", "-c", script], env=cache, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.stderr.count("\n") == bool(said)
    assert said in done.stderr


def test_a_mistake_keeps_its_code_where_nothing_can_be_said(cache: dict[str, str]) -> None:
    for redirected in ("2> /dev/full", "2>&-", "> /dev/full 2>&-"):
        script = f"{POLYREFUSE} judge agreement missing {redirected}"
        done = subprocess.run(
            ["bash", "-c", script], env=cache, capture_output=True, timeout=PATIENCE
        )
        assert done.returncode == 2


@pytest.mark.parametrize(
    "error", [RuntimeError("one\ntwo"), KeyError("x"), MemoryError(), RecursionError("deep"),
              UnicodeEncodeError("ascii", "ö", 0, 1, "ordinal not in range"), OSError(5, "I/O")]
)  # fmt: skip
def test_an_internal_error_has_a_code_of_its_own(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(judge, "compare", fails)
    (tmp_path / "rows").write_text("")
    code, out, err = run_in_process("judge", "agreement", tmp_path / "rows")
    assert (code, out, err.count("\n")) == (3, "", 1)
    if not isinstance(error, OSError):
        assert f"internal error, {type(error).__name__}" in err
    code, _, err = run_in_process("judge", "agreement", tmp_path / "rows", POLYREFUSE_TRACEBACK="1")
    assert code == 3
    assert ("Traceback" in err) == (not isinstance(error, OSError))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("dat",), ("no command 'dat': did you mean 'data'?", "`polyrefuse --help`")),
        (("directon", "extract"), ("no command 'directon': did you mean 'direction'?",)),
        (("data", "fetsh"), ("no command 'fetsh': did you mean 'fetch'?", "`polyrefuse data --")),
        (("judge", "agrement"), ("no command 'agrement': did you mean 'agreement'?",)),
        (("xyzzy",), ("no command 'xyzzy': use one of data, demo, direction, doctor,",)),
        (("data", "fetch", "--hlep"), ("No such option: --hlep", "`polyrefuse data fetch --help`")),
        (("direction", "extract"), ("Missing option '--output'",)),
        (("direction", "choose"), ("SCORES.json",)),
        (("direction", "choose", "x", "--n-layers", "many"), ("'--n-layers'", "(given: many)")),
        (("direction", "choose", "x", "--n-layers=0"), ("'--n-layers'", "(given: 0)")),
        (("organism", "make", "--output", "x", "--seed", "9" * 30), ("--seed", "4294967295")),
        (("mcd", "train", "--output", "x", "--langs", "en", "--norm-weight", "nan"), ("nan",)),
        (("leaderboard", "power"), ("Missing option",)),
        (("judge", "agreement", "x", "y"), ("y",)),
    ],
)
def test_a_usage_error_is_one_sentence(arguments: tuple[str, ...], named: tuple[str, ...]) -> None:
    assert_one_sentence(run_in_process(*arguments), *named)


def test_without_arguments_there_is_help() -> None:
    for arguments in ((), ("data",)):
        code, out, err = run_in_process(*arguments)
        assert code == 2
        assert "Usage: polyrefuse" in out + err


SLOW_IMPORT = """
import sys, time
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            print("importing", flush=True)
            time.sleep(60)
sys.meta_path.insert(0, Slow())
sys.argv = ["polyrefuse", "direction", "extract", "--output", "x"]
import polyrefuse
polyrefuse.main()
"""


@pytest.mark.parametrize("name", ["typer", "torch", "polyrefuse_models.commands.direction"])
def test_ctrl_c_while_it_imports(name: str, cache: dict[str, str], tmp_path: Path) -> None:
    code = SLOW_IMPORT.format(name=name)
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=cache, cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=usual_signals,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert err == "polyrefuse: interrupted.\n"


@pytest.mark.parametrize("command", ["--help", "data status", "doctor --help", "data path --json"])
def test_a_reader_that_has_seen_enough(command: str, cache: dict[str, str]) -> None:
    script = f"set -o pipefail; {POLYREFUSE} {command} | head -1"
    done = subprocess.run(
        ["bash", "-c", script], env=cache, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode in (0, 141)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


def test_version(cache: dict[str, str]) -> None:
    """Of the distribution, without an import of what takes long."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "polyrefuse", "--version"],
        env=cache, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"polyrefuse {version('lm-eval-polyrefuse')}\n"
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "polyrefuse_shared.versions" in imported
    assert not imported & {"torch", "transformers", "lm_eval", "polyrefuse_tasks"}


class TestCompletion:
    def test_it_is_installed(self, cache: dict[str, str], tmp_path: Path) -> None:
        """bash reads it, and then completes `polyrefuse dir` as a terminal would ask it to."""
        home = tmp_path / "home"
        home.mkdir()
        shell = f"{POLYREFUSE} --install-completion; exit $?"
        env = cache | {"HOME": str(home)}
        done = subprocess.run(["bash", "-c", shell], env=env, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        asked = (
            "shopt -s expand_aliases; source ~/.bashrc; COMP_WORDS=(polyrefuse dir); COMP_CWORD=1; "
            '$(complete -p polyrefuse | sed "s/.*-F \\([^ ]*\\) .*/\\1/") polyrefuse; '
            'echo "${COMPREPLY[@]}"'
        )
        path = f"{Path(POLYREFUSE).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", asked], env=env | {"PATH": path}, capture_output=True, text=True
        )
        assert (done.stdout, done.stderr) == ("direction\n", "")

    @pytest.mark.parametrize(
        ("words", "said"),
        [("d", "data\ndemo\ndirection\ndoctor\ndrift"), ("direction ex", "extract"),
         ("data path --l", "--lang"), ("study ", "init\nplan\nrun")],
    )  # fmt: skip
    def test_commands_and_options(self, words: str, said: str, cache: dict[str, str]) -> None:
        asked = {
            "_POLYREFUSE_COMPLETE": "complete_bash",
            "COMP_WORDS": f"polyrefuse {words}",
            "COMP_CWORD": str(len(f"polyrefuse {words}".split(" ")) - 1),
        }
        done = polyrefuse(env=cache | asked, capture_output=True)
        assert (done.returncode, done.stdout.strip(), done.stderr) == (0, said, "")

    def test_a_home_that_cannot_be_written_to(self, cache: dict[str, str]) -> None:
        shell = f"{POLYREFUSE} --install-completion; exit $?"
        done = subprocess.run(
            ["bash", "-c", shell], env=cache | {"HOME": "/proc/1"}, capture_output=True, text=True
        )
        assert_one_sentence((done.returncode, done.stdout, done.stderr), "--show-completion")


class TestProgressBars:
    def test_each_of_ours_asks_whether_there_is_a_terminal(self) -> None:
        """tqdm is silent beside a terminal where `disable` is None, which is not its default."""
        bars = 0
        for path in ours():
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "tqdm":
                    disable = [word.value for word in node.keywords if word.arg == "disable"]
                    assert disable, f"{path}, line {node.lineno}"
                    last = (
                        disable[0].values[-1] if isinstance(disable[0], ast.BoolOp) else disable[0]
                    )
                    assert isinstance(last, ast.Constant), f"{path}, line {node.lineno}"
                    assert last.value is None, f"{path}, line {node.lineno}"
                    bars += 1
        assert bars > 8

    def test_those_of_others_are_silent_too(self, cache: dict[str, str]) -> None:
        """As transformers shows when it loads weights: a bar with no `disable`, on its own tqdm."""
        code = (
            "import sys, types, typer; from polyrefuse_shared.command_line import run\n"
            "app = typer.Typer()\n"
            "@app.command()\n"
            "def load() -> None:\n"
            "    from tqdm import tqdm\n"
            "    list(tqdm(range(3), desc='Loading weights'))\n"
            "sys.argv = ['polyrefuse']\n"
            "run(app, 'polyrefuse')\n"
        )
        plain = {name: value for name, value in cache.items() if name != "TQDM_DISABLE"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=plain, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        terminal, end = open_terminal()
        subprocess.run([sys.executable, "-c", code], env=plain, stderr=end, check=True)
        os.close(end)
        assert "Loading weights" in printed(terminal)
        os.close(terminal)


def ours() -> list[Path]:
    folders = (
        "polyrefuse_shared",
        "polyrefuse_tasks",
        "polyrefuse_models",
        "leaderboard",
        "studies",
    )
    return [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
