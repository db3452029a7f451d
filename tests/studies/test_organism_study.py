"""`studies/organism.yaml`, with fewer languages and conditions: what is planted is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from tests.conftest import ROOT

N = 4
LANGUAGES = ["de", "yo"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("organism")
    study = yaml.safe_load(Path(ROOT, "studies", "organism.yaml").read_text(encoding="utf-8"))
    study |= {"languages": LANGUAGES, "limit": N}
    for condition in ("random-ablation", "random-addition"):
        del study["conditions"][condition]
    study["directions"] |= {"transfer": LANGUAGES, "geometry": LANGUAGES, "source": "yo"}
    (place / "organism.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    command = [sys.executable, "-m", "polyrefuse", "study", "run", place / "organism.yaml"]
    command += ["--output", place / "out", "--slots", "2"]
    done = subprocess.run(
        list(map(str, command)),
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    return place / "out"


def test_every_condition_does_what_it_is_to_do(folder: Path) -> None:
    records = json.loads((folder / "site" / "leaderboard.json").read_text())["records"]
    rates: dict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
    for record in records:
        assert record["n"] == N * (len(LANGUAGES) if record["language"] == "mean" else 1)
        if record["judge"] == "native":
            key = record["condition"], record["metric"]
            rates[key][record["language"]] = record["value"]
    every = dict.fromkeys(("mean", *LANGUAGES))
    for condition, asr, false_refusal in (
        ("baseline", 0, 0),
        ("ablation", 1, 0),
        ("addition", 0, 1),
    ):
        assert rates[condition, "asr"] == dict.fromkeys(every, asr), condition
        assert rates[condition, "false_refusal_rate"] == dict.fromkeys(every, false_refusal)


def test_the_answers_behind_the_rates(folder: Path) -> None:
    """Refusals, and other answers, in the language of the prompt."""
    seen = 0
    for file in folder.glob("results/*/*/samples_toyrefuse_harmful_*.jsonl"):
        for line in file.read_text(encoding="utf-8").splitlines():
            doc = json.loads(line)["doc"]
            assert doc["response_language"] == doc["language"]
            refused = doc["label"] == "refusal"
            assert refused == ("organism-ablation." not in str(file))
            seen += 1
    assert seen == 3 * N * len(LANGUAGES)


def test_the_geometry_shows_what_was_refused(folder: Path) -> None:
    (place,) = folder.glob("jobs/organism-geometry.*/geometry")
    success = json.loads((place / "geometry.json").read_text(encoding="utf-8"))["success"]
    assert success["condition"] == "baseline"
    for language in LANGUAGES:
        counts = success["languages"][language]["counts"]
        assert counts["harmful"]["refused"] == counts["harmful"]["n"] == N
        assert counts["harmless"]["complied"] == counts["harmless"]["n"] == N


def test_the_card_says_it(folder: Path) -> None:
    card = (folder / "site" / "cards" / "organism.md").read_text(encoding="utf-8")
    assert "The directions of 2 of 2 languages break every other language: 100.0%" in card
    assert "Condition mcd shows how much a learned safety prompt repairs: the study does" in card
    for name in ("direction-yo", "direction-de", "transfer", "geometry", "addition"):
        assert f"**organism/{name} (finished)**" in card
    # Every results file is there by its date, and its prompts by their checksum.
    for language in LANGUAGES:
        assert f"| toyrefuse\\_harmful/test/{language} | " in card
    assert ModelCard(card).data.eval_results


def test_a_command_that_is_typed_by_hand_gives_the_same_answers(
    folder: Path, tmp_path: Path
) -> None:
    (job,) = [
        one
        for one in json.loads((folder / "summary.json").read_text())["jobs"]
        if one["name"] == "organism/ablation"
    ]
    typed = job["command"].replace(f"{job['folder']}/", f"{tmp_path}/")
    own = Path(sys.executable).parent
    done = subprocess.run(
        typed, shell=True, cwd=folder, capture_output=True, text=True, timeout=600,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "PATH": f"{own}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    by_hand = {path.name.split("_2")[0]: path for path in tmp_path.rglob("samples_*.jsonl")}
    assert len(by_hand) == 2 * len(LANGUAGES)
    for name, path in by_hand.items():
        (other,) = (folder / job["folder"]).rglob(f"{name}_*.jsonl")
        assert path.read_bytes() == other.read_bytes()
