"""What a user's environment has after `pip install`, normal and editable, and after uninstalling.

CI installs into environments that borrow this one's dependencies; `pytest -m slow` installs
everything from nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import venv
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.conftest import ROOT

PROGRAM = """
import lm_eval, sys
results = lm_eval.simple_evaluate(
    model="ablated-hf", model_args={"pretrained": sys.argv[1]}, tasks=["polyrefuse_harmful_de"],
    limit=2, batch_size=32, gen_kwargs={"max_gen_toks": 4},
)
print("asr" , results["results"]["polyrefuse_harmful_de"]["asr,none"])
"""


class Environment:
    """A virtual environment with the plugin in it, and an empty directory to work in."""

    def __init__(self, folder: Path, editable: bool, own_dependencies: bool) -> None:
        self.empty = folder / "empty"
        self.empty.mkdir()
        # A copy, because building leaves files beside the sources.
        source = folder / "checkout"
        kept = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout.splitlines()  # fmt: skip
        for name in kept:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
        home = folder / "venv"
        venv.create(home, with_pip=True, symlinks=True)
        self.python = home / "bin/python"
        (self.packages,) = home.glob("lib/python*/site-packages")
        # pytest is for the project beside the plugin, whose tests run in this environment.
        options = ["-c", str(source / "constraints.txt"), "pytest"]
        if not own_dependencies:
            # A plain path in a .pth file, so that no hook of the lending environment runs here.
            (self.packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
            options = ["--no-deps"]
        editing = ["-e"] if editable else []
        self.run("pip", "install", "-q", *options, *editing, str(source))

    def run(self, module: str, *arguments: str, folder: Path | None = None) -> str:
        return self.python_run("-m", module, *arguments, folder=folder)

    def program(self, code: str, *arguments: str) -> str:
        return self.python_run("-c", code, *arguments)

    def python_run(self, *arguments: str, folder: Path | None = None) -> str:
        hidden = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PIP_CONSTRAINT")
        done = subprocess.run(
            [str(self.python), *arguments],
            cwd=folder or self.empty,
            env={name: value for name, value in os.environ.items() if name not in hidden},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout


def check_acceptance(environment: Environment, model: Path) -> None:
    listed = environment.run("lm_eval", "ls", "tasks")
    for name in (
        "polyrefuse_harmful_de",
        "polyrefuse_harmless_zh",
        "polyrefuse_oktest",
        "polyrefuse",
    ):
        assert f"|{name} " in listed
    assert "All tasks found and valid" in environment.run(
        "lm_eval", "validate", "--tasks", "polyrefuse"
    )
    assert "asr" in environment.program(PROGRAM, str(model))
    assert "fetch" in environment.run("polyrefuse", "data", "--help")
    check_beside_a_project(environment)
    check_the_start_file(environment)
    hooks = [environment.packages / f"polyrefuse.{ending}" for ending in ("pth", "start")]
    assert all(hook.is_file() for hook in hooks)
    environment.run("pip", "uninstall", "-q", "-y", "lm-eval-polyrefuse")
    assert not any(hook.exists() for hook in hooks)
    assert not list(environment.packages.glob("*polyrefuse*"))
    assert "True" in environment.program("import lm_eval.api.registry; print(True)")


def check_beside_a_project(environment: Environment) -> None:
    """A project whose folders are called as ours in a checkout runs its own tests with its own."""
    project = environment.empty.parent / "project"
    folders = ("benchmarks", "leaderboard", "task_configs", "tests")
    for name in folders:
        (project / name).mkdir(parents=True)
        (project / name / "__init__.py").write_text("OWN = True\n")
    (project / "tests/test_own.py").write_text(
        f"import {', '.join(folders)}\n"
        "def test_own(pytestconfig):\n"
        f"    assert all(module.OWN for module in ({', '.join(folders)}))\n"
        "    assert pytestconfig.pluginmanager.hasplugin('polyrefuse')\n"
        "def test_gate(pytestconfig):\n"
        "    assert pytestconfig.getoption('--polyrefuse-baseline') is None\n"
    )
    # Without -B, pytest would leave files of its own beside the plugin.
    assert "2 passed" in environment.python_run("-B", "-m", "pytest", "-q", folder=project)


LATER_PYTHON = """
import pkgutil, sys
from pathlib import Path
for line in Path(sys.argv[1]).read_text(encoding="utf-8-sig").splitlines():
    if line.strip() and not line.startswith("#"):
        module, callable = line.split(":")  # PEP 829 takes no other form
        pkgutil.resolve_name(line.strip())()
import lm_eval.models
from lm_eval.api.registry import model_registry
from lm_eval.tasks import TaskManager
print("ablated-hf" in model_registry, "polyrefuse" in TaskManager().all_groups)
"""


def check_the_start_file(environment: Environment) -> None:
    """A Python that ignores a `.pth` file's import lines, as 3.18 will, and reads `.start` files.

    That Python cannot be had yet: the line is taken away, and the file read as PEP 829 says.
    """
    pth, start = (environment.packages / f"polyrefuse.{ending}" for ending in ("pth", "start"))
    line = pth.read_text()
    pth.write_text("")
    assert environment.program(LATER_PYTHON, str(start)).split() == ["True", "True"]
    pth.write_text(line)
    # A Python that runs both puts one finder in place.
    both = LATER_PYTHON + (
        "print(sum(type(one).__module__.startswith('polyrefuse') for one in sys.meta_path))"
    )
    assert environment.program(both, str(start)).split() == ["True", "True", "1"]


def test_a_wheel_holds_our_names_alone(tmp_path: Path) -> None:
    environment = Environment(tmp_path, editable=False, own_dependencies=False)
    (record,) = environment.packages.glob("lm_eval_polyrefuse-*.dist-info/RECORD")
    files = [line.split(",")[0] for line in record.read_text().splitlines()]
    packages = ("shared", "tasks", "models", "leaderboard", "studies", "task_configs")
    tops = {name.partition("/")[0] for name in files if not name.startswith("..")}
    assert tops == {
        *(f"polyrefuse_{name}" for name in packages),
        *("polyrefuse.py", "polyrefuse.pth", "polyrefuse.start", "__pycache__"),
        record.parent.name,
    }
    # `polyrefuse.py` is a single module, which PEP 561 has no marker for.
    assert {f"polyrefuse_{name}/py.typed" for name in packages[:5]} <= set(files)
    tensors = [name for name in files if name.endswith(".safetensors")]
    assert sorted(Path(name).name for name in tensors) == [
        *("direction.safetensors", "direction.safetensors"),
        *("model.safetensors", "model.safetensors"),
        "soft_prompt.safetensors",
    ]


@pytest.mark.parametrize("editable", [False, True], ids=["normal", "editable"])
def test_an_installation(tmp_path: Path, mirror: Path, chat_model: Path, editable: bool) -> None:
    check_acceptance(Environment(tmp_path, editable, own_dependencies=False), chat_model)


@pytest.mark.slow
@pytest.mark.parametrize("editable", [False, True], ids=["normal", "editable"])
def test_an_installation_from_nothing(
    tmp_path: Path, mirror: Path, chat_model: Path, editable: bool
) -> None:
    check_acceptance(Environment(tmp_path, editable, own_dependencies=True), chat_model)


def test_every_folder_of_modules_is_installed() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    folders = dict(
        line.split(" = ") for line in config["options"]["package_dir"].split("\n") if line
    )
    listed = {
        name.replace(package, folder, 1).replace(".", "/")
        for name in config["options"]["packages"].split()
        for package, folder in [(name.partition(".")[0], folders.get(name.partition(".")[0]))]
        for folder in [folder or package]
    }
    tracked = subprocess.run(
        ["git", "ls-files", "*/__init__.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    there = {name.rpartition("/")[0] for name in tracked if not name.startswith("tests/")}
    assert listed == there


def test_the_package_says_what_it_is() -> None:
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        told = metadata("lm-eval-polyrefuse")
    except PackageNotFoundError:
        pytest.skip("the plugin is not installed here")
    assert told["License-Expression"] == "Apache-2.0"
    assert told["Requires-Python"] == ">=3.10"
    requirements = set(told.get_all("Requires-Dist"))
    assert {"lm-eval[hf]>=0.4.13", "transformers>=5.16", "torch>=2.6"} <= requirements
    assert {"test", "docs", "gguf", "ray", "slurm", "vllm"} == set(told.get_all("Provides-Extra"))
