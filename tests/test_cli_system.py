"""`--system` and `--system-file` of the sub-commands that run a model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import polyrefuse
from polyrefuse_models.directions import artifact
from polyrefuse_models.directions.artifact import Direction
from tests.models import save_chat_model
from tests.polyrefuse_models.templates import BY_DEFAULT, LOSING, OWN_TEXT

Run = Any


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Calls `polyrefuse`; exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["polyrefuse", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            polyrefuse.main()
        return int(left.value.code or 0), *capsys.readouterr()

    return call


def extraction(folder: Path, *more: object) -> tuple[object, ...]:
    model = ("--model", folder / "model", "--dataset", "toyrefuse", "--device", "cpu")
    return ("direction", "extract", *model, *more)


def test_what_a_direction_was_extracted_under(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_chat_model(tmp_path / "model", BY_DEFAULT)
    (tmp_path / "s.txt").write_text("Mind the glorbons.")
    found = {}
    for name, option in {
        "own": (),
        "none": ("--system", "none"),
        "file": ("--system-file", tmp_path / "s.txt"),
    }.items():
        caplog.clear()
        code, _, err = run(*extraction(tmp_path, *option, "--output", tmp_path / name))
        assert code == 0, err
        assert (f"its own system text: {OWN_TEXT!r}" in caplog.text) == (name == "own")
        found[name] = artifact.load(tmp_path / name)
    told = {name: (d.metadata["system"], d.metadata["system_text"]) for name, d in found.items()}
    assert told == {
        "own": ("template", OWN_TEXT),
        "none": ("none", None),
        "file": ("file", "Mind the glorbons."),
    }
    assert len({direction.sha256 for direction in found.values()}) == 3

    given = extraction(tmp_path, "--system", "none", "--output", tmp_path / "report", "--json")
    given = [argument for argument in given if argument != "extract"]
    few = ("--limit", 2, "--langs", "en", "--direction", tmp_path / "none")
    code, out, err = run(given[0], "geometry", *given[1:], *few)
    assert code == 0, err
    assert (json.loads(out)["system"], json.loads(out)["system_text"]) == ("none", None)


def test_what_a_transfer_was_measured_under(run: Run, tmp_path: Path) -> None:
    save_chat_model(tmp_path / "model", BY_DEFAULT)
    few = ("--source-langs", "en", "--limit", 1, "--max-gen-toks", 2, "--json")
    given = extraction(tmp_path, *few, "--output", tmp_path / "report")
    code, out, err = run("direction", "transfer", *given[2:])
    assert code == 0, err
    assert (json.loads(out)["system"], json.loads(out)["system_text"]) == ("template", OWN_TEXT)


@pytest.mark.parametrize("command", ["extract", "transfer", "geometry", "mcd"])
@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--system", "nothing"), "system=nothing is not known; use system=template or"),
        (("--system-file", "/nowhere/s.txt"), "file /nowhere/s.txt cannot be read: No such file"),
        (("--system", "none", "--system-file", "/s.txt"), "but the system file /s.txt has one"),
    ],
)
def test_one_sentence_a_mistake(
    run: Run, tmp_path: Path, command: str, option: tuple[str, ...], said: str
) -> None:
    save_chat_model(tmp_path / "model")
    vector = torch.ones(32)
    place = {"position": -1, "layer": 0}
    artifact.save(Direction(vector, vector[None, None], metadata=place), tmp_path / "d")
    needed = {
        "extract": ("direction", "extract"),
        "transfer": ("direction", "transfer", "--source-langs", "en"),
        "geometry": ("direction", "geometry", "--langs", "en", "--direction", tmp_path / "d"),
        "mcd": ("mcd", "train", "--langs", "en"),
    }[command]
    given = extraction(tmp_path, *option, "--output", tmp_path / "new")[2:]
    code, out, err = run(*needed, *given)
    assert (code, out) == (2, "")
    (sentence,) = [line for line in err.splitlines() if line.startswith("polyrefuse: ")]
    assert said in sentence
    assert not (tmp_path / "new").exists()


def test_a_template_that_loses_prompts_is_refused(run: Run, tmp_path: Path) -> None:
    save_chat_model(tmp_path / "model", LOSING["parts"])
    code, out, err = run(*extraction(tmp_path, "--output", tmp_path / "new"))
    assert (code, out) == (2, "")
    assert f"The chat template of {tmp_path / 'model'} does not write what the user says" in err
    assert not (tmp_path / "new").exists()
