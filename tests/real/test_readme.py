"""Every command of the README, with a real model in place of the hub's, as a newcomer types it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.real.checkpoint import FILE

INSTALLS = ("pip install", "pytest")
"""What begins a command that makes the environment which the tests run in."""

SERVED = "lm_eval --model local-chat-completions"
"""What begins the command that needs a server; `tests/test_servers.py` runs it."""

FEW = "--limit 4"


def commands() -> list[str]:
    """The commands in the README's blocks, one by one, in their order."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    lines = [part for block in blocks for line in block.splitlines() for part in line.split("&&")]
    stripped = [line.strip() for line in lines]
    return [line for line in stripped if line and not line.startswith((*INSTALLS, SERVED))]


def with_the_model(command: str, model: Path) -> str:
    """A command on the real model and on few prompts.

    Commands on a bundled organism stay as they are, but for the number of prompts.
    """
    command = re.sub(r"pretrained=[\w-]+/[\w.-]+", f"pretrained={model},gguf_file={FILE}", command)
    command = re.sub(r"--model M\b", f"--model {model} --gguf-file {FILE}", command)
    few = command.startswith("lm_eval") or re.search(
        r"direction (transfer|geometry|compare|sweep|rank)", command
    )
    return f"{command} {FEW}" if few else command


def test_commands_are_found_and_changed() -> None:
    """What runs for an hour below is checked here in no time."""
    found = commands()
    programs = [" ".join(command.split()[:3]) for command in found]
    assert [name for name in programs if not name.startswith("lm_eval --tasks")] == [
        "polyrefuse demo",
        "polyrefuse leaderboard build",
        "polyrefuse direction extract",
        "polyrefuse direction transfer",
        "polyrefuse direction geometry",
        "polyrefuse direction compare",
        "polyrefuse direction sweep",
        "polyrefuse direction rank",
        "polyrefuse mcd train",
        "polyrefuse study run",
        "polyrefuse leaderboard check",
        "polyrefuse leaderboard check",
        "polyrefuse leaderboard published",
    ]
    changed = [with_the_model(command, Path("/models/smol")) for command in found]
    assert not [command for command in changed if "Qwen" in command or " M " in command]
    assert sum("/models/smol" in command for command in changed) == 8
    assert sum(FEW in command for command in changed) == 9


@pytest.mark.real
def test_every_command(smollm2: Path, real_data: Path, shared: Path, tmp_path: Path) -> None:
    """One after the other in an empty folder; what one writes is what the next reads."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "POLYREFUSE_CACHE_DIR": str(tmp_path / "cache"),
    }
    run = tmp_path / "run"
    run.mkdir()
    for published in (shared / "oracles" / "published").glob("*.csv"):
        shutil.copy(published, run)
    shutil.copytree(ROOT / "studies", run / "studies")
    for command in commands():
        if "new-results" in command:
            # The README takes the results of a later release.
            shutil.copytree(run / "results", run / "new-results")
        ran = subprocess.run(
            with_the_model(command, smollm2),
            shell=True, cwd=run, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert ran.returncode == 0, f"{command}\n{ran.stderr[-3000:]}"
        assert "Traceback" not in ran.stderr
        print(command, "\n", ran.stdout[-1500:])
    written = [json.loads(file.read_text()) for file in (run / "results").rglob("results_*.json")]
    (told,) = [one for one in written if one["config"]["model"] == "ablated-hf"]
    assert told["config"]["model_arguments"] == {"gguf_file": FILE}
    first = told["config"]["direction_warnings"][0]
    assert first.startswith("this model does not refuse, there is nothing to ablate: it refused")
    assert json.loads((run / "direction-de/metadata.json").read_text())["gguf_file"] == FILE
    cells = json.loads((run / "transfer/transfer.json").read_text())["cells"]
    assert len(cells) == 9
    assert all(cell["n"] == 4 for cell in cells)
