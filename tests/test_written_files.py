"""What `docs/written-files.yaml` says of files is what the commands write into them.

One evaluation is a sample; `pytest -m slow` has every command write its file on the organism.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from polyrefuse_models.directions import artifact
from polyrefuse_models.directions.artifact import Direction
from tests.commands import run_in_process
from tests.conftest import ROOT
from tests.evaluations import lm_eval_run

DESCRIBED = yaml.safe_load((ROOT / "docs/written-files.yaml").read_text(encoding="utf-8"))["files"]
FEW = ("--langs", "en", "--limit", "2", "--max-gen-toks", "4")


def compared(name: str, document: Any, *, file: str | None = None) -> None:
    """Hold the parts of a description to a document, but for those of a class or another file."""
    parts = [part for part in DESCRIBED[name]["parts"] if part.get("file") == file]
    seen = [part for part in parts if "fields" in part]
    assert seen
    for part in seen:
        written, said = set(at(document, part["at"])), set(part["fields"])
        assert said - written == set(), f"{name}, {part['about']} these are not written"
        if not part.get("partly"):
            assert written - said == set(), f"{name}, {part['about']} these are not described"


def at(document: Any, place: list[str | int]) -> Any:
    for step in place:
        document = next(iter(document.values())) if step == "*" else document[step]
    return document


def read(folder: Path, pattern: str) -> Any:
    (file,) = folder.rglob(pattern)
    text = file.read_text(encoding="utf-8")
    return json.loads(text.splitlines()[0] if file.suffix == ".jsonl" else text)


def test_each_meaning_that_is_shared_is_used() -> None:
    whole = yaml.safe_load((ROOT / "docs/written-files.yaml").read_text(encoding="utf-8"))
    without = {
        field
        for one in whole["files"].values()
        for part in one["parts"]
        for field, meaning in part.get("fields", {}).items()
        if meaning is None
    }
    assert without == set(whole["common"])


def test_an_evaluation(tmp_path: Path) -> None:
    """With a direction that was not extracted: what it is does not matter here."""
    vector = torch.nn.functional.one_hot(torch.tensor(3), 128).float()
    artifact.save(Direction(vector, vector[None, None]), tmp_path / "direction")
    lm_eval_run(
        *("--tasks", "toyrefuse_harmful_en", "--model", "ablated-hf", "--limit", "1"),
        *("--model_args", f"direction={tmp_path / 'direction'}", "--log_samples"),
        *("--gen_kwargs", "max_gen_toks=4", "--output_path", str(tmp_path / "results")),
    )
    compared("results_*.json", read(tmp_path / "results", "results_*.json"))
    compared("samples_*.jsonl", read(tmp_path / "results", "samples_*.jsonl"))


@pytest.fixture(scope="module")
def direction(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extracted") / "direction"
    written("direction", "extract", "--rank", "3", "--output", str(folder))
    return folder


def written(*command: str) -> None:
    code, _, err = run_in_process(*command)
    assert code == 0, err


@pytest.mark.slow
class TestTheCommands:
    def test_extract(self, direction: Path) -> None:
        metadata = json.loads((direction / "metadata.json").read_text(encoding="utf-8"))
        compared("direction.safetensors", metadata, file="metadata.json")
        tensors = artifact.load(direction)
        described = DESCRIBED["direction.safetensors"]["tensors"]["direction.safetensors"]
        assert all(getattr(tensors, name) is not None for name in described)

    @pytest.mark.parametrize("name", ["compare", "sweep", "rank", "geometry", "transfer", "drift"])
    def test_a_measurement(self, name: str, direction: Path, tmp_path: Path) -> None:
        out = tmp_path / name
        command: dict[str, tuple[str, ...]] = {
            "transfer": ("direction", "transfer", "--directions", str(direction), *FEW[2:]),
            "geometry": ("direction", "geometry", "--direction", str(direction), *FEW[:4]),
            "drift": (
                *("drift", "--model", "ablated-hf", *FEW[:4]),
                *("--model_args", f"direction={direction}"),
            ),
        }
        usual = ("direction", name, "--direction", str(direction), *FEW)
        written(*command.get(name, usual), "--output", str(out))
        compared(f"{name}.json", read(out, f"{name}.json"))

    def test_train(self, tmp_path: Path) -> None:
        few = ("--epochs", "1", "--answers", "2", "--max-gen-toks", "4")
        written("mcd", "train", "--langs", "en", *few, "--output", str(tmp_path / "prompt"))
        compared(
            "soft_prompt.safetensors",
            read(tmp_path / "prompt", "metadata.json"),
            file="metadata.json",
        )

    def test_study(self, tmp_path: Path) -> None:
        from tests import small_study

        study = small_study.write(tmp_path)
        written("study", "run", str(study), "--output", str(tmp_path / "study"))
        compared("summary.json", read(tmp_path / "study", "summary.json"))
