"""The import hook, in interpreters of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from polyrefuse_models import registration
from polyrefuse_models.registration import MODELS, refuse_folder_names, register_tasks
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.log import warn_once
from polyrefuse_tasks import translated_tasks
from tests.conftest import ROOT

HOOK = "from polyrefuse_models.registration import install; install()\n"


def run(code: str, *, hook: str = HOOK, **environment: str) -> subprocess.CompletedProcess[str]:
    """`code` in an interpreter where nothing but `hook` has run; an installed hook stays off."""
    program = "import os; os.environ.pop('POLYREFUSE_AUTOLOAD', None)\n"
    program += f"os.environ.update({environment!r})\n{hook}{code}"
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"POLYREFUSE_AUTOLOAD": "0"},
    )


def printed(code: str, **options: str) -> str:
    done = run(code, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# A later lm-eval fills its registry when its models are imported, or asked for.
NAMES = """
import lm_eval.models
from lm_eval.api.registry import model_registry
print(*model_registry)
"""


def test_our_models_are_registered_beside_those_of_lm_eval() -> None:
    names = printed(NAMES).split()
    assert set(MODELS) <= set(names)
    assert {"hf", "vllm", "dummy"} <= set(names)


def test_registering_imports_neither_torch_nor_our_wrappers() -> None:
    code = f"""{NAMES}
import sys
print([module for module in ("torch", "polyrefuse_models.wrappers") if module in sys.modules])
"""
    assert printed(code).endswith("[]")


def test_the_hook_itself_imports_nothing_of_lm_eval() -> None:
    assert (
        printed("import sys; print([m for m in sys.modules if m.startswith(('lm_eval', 'torch'))])")
        == "[]"
    )


def test_autoload_can_be_turned_off() -> None:
    finders = "import sys; print([type(finder).__module__ for finder in sys.meta_path])"
    assert "polyrefuse_models.registration" in printed(finders)
    assert "polyrefuse_models.registration" not in printed(finders, POLYREFUSE_AUTOLOAD="0")


def test_a_release_that_reads_entry_points_is_left_alone() -> None:
    code = """
import polyrefuse_models.registration as registration
import types
calls = []
models = types.SimpleNamespace(register=lambda *a, **k: calls.append(a))
registry = types.SimpleNamespace(load_plugins=None, model_registry=models)
registration.register_models(registry)
print(calls)
"""
    assert printed(code) == "[]"


def test_entry_points_and_hook_name_the_same_models() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    declared = dict(
        line.split(" = ")
        for line in config["options.entry_points"]["lm_eval.models"].split("\n")
        if line
    )
    assert declared == MODELS


def test_a_hook_that_fails_is_a_warning_and_not_an_exception() -> None:
    broken = HOOK + (
        "import polyrefuse_models.registration as r\n"
        "def fail(module): raise RuntimeError('invented')\n"
        "r._ACTIONS['lm_eval.api.registry'] = fail\n"
    )
    done = run(NAMES, hook=broken)
    assert done.returncode == 0
    assert "could not register" in done.stderr


def test_modules_keep_their_own_loader() -> None:
    code = """
import inspect, lm_eval.api.registry as m
print(type(m.__loader__).__name__, len(inspect.getsource(m)) > 0)
"""
    assert printed(code) == "SourceFileLoader True"


TASKS = "from lm_eval.tasks import TaskManager\n"


def test_the_task_manager_scans_our_folder_and_keeps_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("task: my_own_task\ndataset_path: none\n")
    code = f"""{TASKS}
manager = TaskManager(include_path={str(tmp_path)!r})
print("polyrefuse" in manager.all_groups, "my_own_task" in manager.all_tasks, manager.include_path)
print(*sorted(TaskManager(include_defaults=False).all_tasks))
"""
    scanned, *without_defaults = printed(code).splitlines()
    assert scanned == f"True True {tmp_path}"
    bare = f"{TASKS}print(*sorted(TaskManager(include_defaults=False).all_tasks))"
    assert "\n".join(without_defaults) == printed(bare, hook="")


def test_folder_names_as_tasks_say_what_happened() -> None:
    with pytest.raises(UserError, match="shell expanded .* --tasks 'polyrefuse_\\*'"):
        refuse_folder_names(["polyrefuse_models", "polyrefuse_tasks"])
    refuse_folder_names(["polyrefuse_*", "polyrefuse"])
    done = run(TASKS + "TaskManager().match_tasks(['polyrefuse_models', 'polyrefuse_tasks'])")
    assert done.returncode != 0
    assert "polyrefuse_models is a folder and not a task" in done.stderr


def task_manager(**names: str) -> SimpleNamespace:
    """A module like lm_eval.tasks.manager, whose TaskManager keeps what it is told to scan."""

    class TaskManager:
        def __init__(self, include_path: object = None, include_defaults: bool = True) -> None:
            self.scanned = include_path

        def match_tasks(self, task_list: list[str]) -> list[str]:
            return task_list

    return SimpleNamespace(TaskManager=TaskManager, **names)


def test_a_release_that_scans_tasks_of_plugins_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As of lm-eval's pull request 4015, whose module has this constant."""
    monkeypatch.setattr(registration, "translated_folders", lambda: ["translated"])
    before, after = task_manager(), task_manager(TASKS_ENTRY_POINT_GROUP="lm_eval.tasks")
    for module in (before, after):
        register_tasks(module)
    assert before.TaskManager("mine").scanned == [str(ROOT / "task_configs"), "translated", "mine"]
    assert after.TaskManager("mine").scanned == ["translated", "mine"]
    assert after.TaskManager("mine", include_defaults=False).scanned == "mine"


def test_tasks_are_declared_as_such_a_release_reads_them() -> None:
    """It scans the folder of the package that an entry point names."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    (line,) = config["options.entry_points"]["lm_eval.tasks"].split("\n")[1:]
    package = importlib.util.find_spec(line.split(" = ")[1])
    assert package is not None and package.submodule_search_locations is not None
    (folder,) = package.submodule_search_locations
    assert (Path(folder) / "groups/polyrefuse.yaml").is_file()


@pytest.mark.parametrize("wrong", ["nowhere", "a-file", "relative/nowhere", "\0"])
def test_a_wrong_data_folder_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    wrong: str,
) -> None:
    (tmp_path / "a-file").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", os.environ | {"POLYREFUSE_DATA_DIR": wrong})
    warn_once.cache_clear()
    for _ in range(2):
        assert registration.task_folders() == [str(ROOT / "task_configs")]
    (record,) = caplog.records
    assert record.exc_info is None and "\n" not in record.getMessage()
    assert "Your own translations are not tasks in this run: " in record.getMessage()


def test_a_cache_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file, where the cache would be")
    monkeypatch.setenv("POLYREFUSE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(translated_tasks, "translated_files", lambda: {"invented_da.yaml": "a: b"})
    warn_once.cache_clear()
    assert registration.translated_folders() == []
    (record,) = caplog.records
    assert record.exc_info is None and "cannot be written" in record.getMessage()


def test_a_task_manager_of_another_shape_is_left_alone() -> None:
    class TaskManager:
        def __init__(self, folders: list[str]) -> None:
            self.folders = folders

        def match_tasks(self, names: list[str]) -> list[str]:
            return names

    module = SimpleNamespace(TaskManager=TaskManager)
    with pytest.raises(RuntimeError, match="include_path"):  # the loader turns it into a warning
        register_tasks(module)
    assert TaskManager(["a"]).match_tasks(["polyrefuse_tasks"]) == ["polyrefuse_tasks"]


TABLES = """
from lm_eval.utils import make_table
config = {"dataset_kwargs": {"family": "harmful", "lang": "en"}}
told = {
    "results": {"a": {"asr,none": .5, "asr_stderr,none": .1}, "g": {"asr,none": .5}},
    "groups": {"g": {"asr,none": .5, "asr_stderr,none": .1}},
    "group_subtasks": {"g": ["a", "b"]},
    "configs": {"a": config, "b": config},
    "versions": {},
    "n-shot": {},
}
print(make_table(told).count("languages share their prompts"))
print(make_table(told, "groups").strip().splitlines()[-1])
told["configs"] = {}
print(make_table(told, column="groups").count("languages share their prompts"))
"""


def test_a_line_stands_under_our_groups_alone() -> None:
    before, line, after = printed(TABLES).splitlines()
    assert (before, after) == ("0", "0")
    assert "languages share their prompts" in line
    assert "`polyrefuse leaderboard build RESULTS --output FOLDER`" in line
    unchanged = printed(TABLES, hook="").splitlines()
    assert [unchanged[0], unchanged[2]] == ["0", "0"]
    assert "languages share their prompts" not in unchanged[1]
