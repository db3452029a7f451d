"""`polyrefuse doctor` where all is there, and where one thing after another is missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import GatedRepoError

from polyrefuse_models import registration
from polyrefuse_models.doctor import (
    browser,
    checks,
    disk,
    hardware,
    hub,
    packages,
    plug_in,
    prompts,
)
from polyrefuse_models.doctor.finding import Finding, State
from tests.commands import run_in_process
from tests.conftest import ROOT

BREAKS = """
import sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            raise {error}
sys.meta_path.insert(0, Broken())
sys.argv = ["polyrefuse", "doctor", *{arguments!r}]
import polyrefuse
polyrefuse.main()
"""


def doctor(*arguments: str, code: str | None = None, **env: str) -> tuple[int, str, str]:
    """In a process of its own, as a user starts it: exit code and what it prints."""
    asked = ["-c", code] if code else ["-m", "polyrefuse", "doctor", *arguments]
    done = subprocess.run(
        [sys.executable, *asked], env=os.environ | env, cwd=ROOT, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def by_name(out: str) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in json.loads(out)["checks"]}


def broken(name: str, error: str, *arguments: str) -> str:
    return BREAKS.format(name=name, error=error, arguments=list(arguments))


class TestInAProcess:
    def test_with_much_missing(self, tmp_path: Path) -> None:
        """No prompts, no hook, and no Chromium: a line each, and those that fail say a command."""
        empty = tmp_path / "mirror"
        empty.mkdir()
        code, out, err = doctor(
            POLYREFUSE_AUTOLOAD="0", POLYREFUSE_DATA_DIR=str(empty), PATH=str(tmp_path)
        )
        assert code == 1
        assert "Traceback" not in err
        lines = out.splitlines()
        assert [line[9:].partition(":")[0] for line in lines] == list(checks.CHECKS)
        said = dict(zip(checks.CHECKS, lines, strict=True))
        assert said["plug-in"].startswith("missing  plug-in: not registered with lm_eval")
        assert "POLYREFUSE_AUTOLOAD=0 turns the hook off" in said["plug-in"]
        assert said["data"].startswith("missing  data: 107 of 107 files of prompts are not in ")
        assert str(empty) in said["data"]
        fetch = "to fix this, run: env -u HF_HUB_OFFLINE polyrefuse data fetch"
        assert said["data"].endswith(fetch)
        chromium = said["Chromium for the tests"]
        assert chromium.startswith("warning")
        assert chromium.endswith("to fix this, run: sudo apt-get install chromium")
        assert said["gated judges"].startswith("unknown")
        assert all("to fix this, run: " in line for line in lines if line.startswith("missing"))

    def test_a_package_that_cannot_be_imported(self) -> None:
        code, out, err = doctor(code=broken("torch", "OSError('no libcudart')", "--json"))
        assert (code, "Traceback" in err) == (1, False)
        found = by_name(out)
        assert found["torch"]["state"] == "missing"
        assert "cannot be imported (OSError: no libcudart)" in found["torch"]["seen"]
        assert "-m pip install --force-reinstall --no-deps torch==" in found["torch"]["mend"]
        assert found["GPU"]["seen"] == "the check failed (OSError: no libcudart)"
        assert found["other packages"]["state"] == "ok"

    def test_a_broken_part_of_ours(self) -> None:
        name = "polyrefuse_tasks.data.registry"
        code, out, err = doctor(code=broken(name, "ImportError('half a file')", "--json"))
        assert (code, "Traceback" in err) == (1, False)
        found = by_name(out)
        assert found["data"]["state"] == "missing"
        assert "half a file" in found["data"]["seen"]
        assert "pip install" in found["data"]["mend"]
        assert set(found) == set(checks.CHECKS)


def test_exit_codes_and_json(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Finding("a", State.OK, "there"), Finding("b", State.WARNING, "old", "mend b"),
             Finding("c", State.UNKNOWN, "no network", "again")]  # fmt: skip

    def instead(*more: Finding) -> None:
        table = {one.name: (lambda one=one: one) for one in (*found, *more)}
        monkeypatch.setattr(checks, "CHECKS", table)

    instead()
    assert run_in_process("doctor") == (
        0,
        "ok       a: there\nwarning  b: old; to fix this, run: mend b\n"
        "unknown  c: no network; to fix this, run: again\n",
        "",
    )
    instead(Finding("d", State.MISSING, "gone", "mend d"))
    code, out, _ = run_in_process("doctor", "--json")
    assert code == 1
    document = json.loads(out)
    assert document["ok"] is False
    last = {"name": "d", "state": "missing", "seen": "gone", "mend": "mend d"}
    assert document["checks"][-1] == last


class TestPackages:
    @pytest.mark.parametrize(
        ("found", "state", "said"),
        [
            ("2.5.9", State.MISSING, "too old"),
            ("2.6.0", State.OK, "tested: 2.6.0 to 2.15.0"),
            ("2.15.0+cu130", State.OK, "tested"),
            ("2.15.1", State.WARNING, "newer than the tested versions"),
            ("10.0", State.WARNING, "newer than the tested versions"),
        ],
    )
    def test_the_tested_range(
        self, found: str, state: State, said: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(packages, "version", lambda _: found)
        one = packages.package("torch")
        assert one.state is state
        assert said in one.seen
        assert (one.mend is None) == (state is State.OK)

    def test_an_old_python(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(packages, "OLDEST_PYTHON", (4, 0))
        one = packages.python()
        assert one.state is State.MISSING
        assert one.mend

    def test_an_untested_python(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(packages, "TRIED_PYTHON", (3, 99))
        one = packages.python()
        assert one.state is State.WARNING
        assert one.seen.endswith("(tested: 3.99)")

    def test_what_is_required(self, monkeypatch: pytest.MonkeyPatch) -> None:
        wanted = ["no-such-package>=3", "numpy<0.1", "pyyaml", 'ray; extra == "ray"']
        monkeypatch.setattr(packages, "requires", lambda _: wanted)
        one = packages.requirements()
        assert one.state is State.MISSING
        assert "no-such-package is not installed; numpy " in one.seen
        assert "pyyaml" not in one.seen and "ray" not in one.seen
        assert one.mend is not None
        assert one.mend.endswith("-m pip install 'no-such-package>=3' 'numpy<0.1'")


class TestPlugIn:
    def test_it_is_registered(self) -> None:
        assert plug_in.plug_in().state is State.OK

    def test_no_hook(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Installed by copying: no file beside the packages, and the variable is not the reason."""
        monkeypatch.setattr(plug_in, "HOOKS", ())
        monkeypatch.setattr(plug_in, "_known_models", set)
        one = plug_in.plug_in()
        assert one.state is State.MISSING
        assert f"lacks {len(registration.MODELS)} of {len(registration.MODELS)} models" in one.seen
        assert "no hook" in one.seen
        assert one.mend is not None and "--force-reinstall" in one.mend


class TestPrompts:
    def test_a_file_that_is_not_as_published(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("POLYREFUSE_CACHE_DIR", str(tmp_path))
        monkeypatch.delenv("HF_HUB_OFFLINE")
        wrong = tmp_path / "polyrefuse/harmful_train_en.json"
        wrong.parent.mkdir()
        wrong.write_text("[]")
        one = prompts.prompts()
        assert one.state is State.MISSING
        assert f"files that were changed: 1, the first is {wrong}" in one.seen
        assert one.mend == f"rm {wrong} && polyrefuse data fetch"

    def test_a_mirror_that_is_not_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("POLYREFUSE_DATA_DIR", str(tmp_path / "none"))
        one = prompts.prompts()
        assert (one.state, one.mend) == (State.MISSING, "unset POLYREFUSE_DATA_DIR")


class TestDisk:
    def test_room(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("POLYREFUSE_CACHE_DIR", str(tmp_path / "new/folder"))
        free = shutil.disk_usage(tmp_path).free / 1e9
        assert disk.own_cache().state is State.OK
        monkeypatch.setattr(disk, "PROMPTS_GB", free * 2)
        one = disk.own_cache()
        assert one.state is State.MISSING
        assert one.seen.endswith(f"but the prompts take about {free * 2:g} GB")
        assert not (tmp_path / "new").exists()

    def test_a_file_in_the_way(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("POLYREFUSE_CACHE_DIR", str(tmp_path / "file"))
        one = disk.own_cache()
        assert one.state is State.MISSING
        assert one.mend is not None and "POLYREFUSE_CACHE_DIR" in one.mend


class TestHardware:
    def test_a_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        there = {
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "mem_get_info": lambda _: (5e9, 80e9),
            "get_device_name": lambda _: "H100",
        }
        monkeypatch.setattr(torch, "cuda", SimpleNamespace(**there))
        assert hardware.gpu().seen == "H100, 5.0 of 80.0 GB free"

    def test_memory(self) -> None:
        assert hardware.memory().state is State.OK


class TestHub:
    @pytest.fixture(autouse=True)
    def online(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("HF_HUB_OFFLINE")

    def test_the_gated_judges_are_those_of_the_cards(self) -> None:
        models = hub.gated_models()
        assert models["wildguard"] == "allenai/wildguard"
        assert "polyguard" not in models

    def test_access(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []
        monkeypatch.setattr(huggingface_hub, "auth_check", asked.append)
        assert hub.gated_judges().state is State.OK
        assert sorted(asked) == sorted(hub.gated_models().values())

    def test_no_access(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(model: str) -> None:
            if model == "allenai/wildguard":
                # What its constructor wants of a response is the library's own.
                raise GatedRepoError.__new__(GatedRepoError)

        monkeypatch.setattr(huggingface_hub, "auth_check", refuse)
        one = hub.gated_judges()
        assert (one.state, one.mend) == (State.WARNING, "hf auth login")
        assert "no access to wildguard: " in one.seen
        assert "https://huggingface.co/allenai/wildguard" in one.seen

    def test_no_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_: str) -> NoReturn:
            raise OSError("no route to host")

        monkeypatch.setattr(huggingface_hub, "auth_check", fail)
        assert hub.gated_judges().state is State.UNKNOWN

    def test_a_hub_that_never_answers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before, over = set(threading.enumerate()), threading.Event()
        monkeypatch.setattr(huggingface_hub, "auth_check", lambda _: over.wait(600))
        monkeypatch.setattr(hub, "SECONDS", 0.2)
        asking = []
        try:
            assert hub.gated_judges().state is State.UNKNOWN
            asking = [one for one in threading.enumerate() if one not in before]
            assert asking
        finally:
            over.set()
            # No later test may find them.
            for thread in asking:
                thread.join()


def test_chromium_without_playwright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "chromium").write_text("#!/bin/sh\n")
    (tmp_path / "chromium").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(browser.importlib.util, "find_spec", lambda _: None)
    one = browser.chromium()
    assert one.state is State.WARNING
    assert one.mend is not None and one.mend.endswith("-m pip install playwright")
