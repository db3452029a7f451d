"""docs/explanation/real-model.md and its sample leaderboard hold what was recorded, no more."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.real_model import effects, tables
from benchmarks.real_model.runs import LIMIT, arguments_of
from polyrefuse_models.directions.control import random_direction
from polyrefuse_models.interventions import ablated
from polyrefuse_models.wrappers.hf import BaselineHF
from tests.commands import run_in_process
from tests.conftest import ROOT
from tests.evaluations import evaluate
from tests.real.checkpoint import NAME

RECORDED = ROOT / "docs" / "real-model"
PAGE = ROOT / "docs" / "explanation" / "real-model.md"
NOTHING = "this model does not refuse, there is nothing to ablate"


def test_the_page_has_the_recorded_numbers() -> None:
    page = PAGE.read_text(encoding="utf-8")
    sections = tables.sections(RECORDED)
    assert set(sections) | {"end"} == set(re.findall("<!-- (\\w+) -->", page))
    assert "rates" in sections
    for name, made in sections.items():
        assert f"<!-- {name} -->\n\n{made}\n\n<!-- end -->" in page


def test_the_page_s_pictures_are_there() -> None:
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", PAGE.read_text(encoding="utf-8"))
    assert shown
    assert [name for name in shown if not (PAGE.parent / name).is_file()] == []


def test_nothing_of_prompts_answers_or_this_machine_is_recorded() -> None:
    paths = [path for path in RECORDED.rglob("*") if path.is_file()]
    assert not [path for path in paths if path.name.startswith("samples")]
    for path in RECORDED.rglob("results_*.json"):
        found = json.loads(path.read_text(encoding="utf-8"))
        assert "samples" not in found
        assert found["config"]["model_name"] == NAME
        assert not re.search(r'"(?:/|~|[A-Z]:\\)', path.read_text(encoding="utf-8"))


def site(folder: Path) -> dict[str, Any]:
    code, _, err = run_in_process("leaderboard", "build", RECORDED / "results", "--output", folder)
    assert code == 0, err
    document: dict[str, Any] = json.loads((folder / "leaderboard.json").read_text(encoding="utf-8"))
    return document


def test_the_sample_site_says_that_there_is_nothing_to_ablate(tmp_path: Path) -> None:
    document = site(tmp_path / "site")
    conditions = {record["condition"] for record in document["records"]}
    assert conditions == {
        "baseline",
        "ablation",
        "addition",
        "random-ablation",
        "random-addition",
        "system-prompt",
        "mcd",
    }
    assert {record["model"] for record in document["records"]} == {NAME}
    told = [one["text"] for one in document["warnings"] if one["condition"] == "ablation"]
    assert any(text.startswith(f"The direction: {NOTHING}") for text in told)
    assert any("There is no refusal to ablate" in text for text in told)
    assert any("not shown to come from the refusal direction" in text for text in told)
    markdown = (tmp_path / "site" / "leaderboard.md").read_text(encoding="utf-8")
    rows = [line for line in markdown.splitlines() if line.startswith(f"| {NAME} | ablation")]
    assert "(of 5)" in rows[0]


# --- measured again


@pytest.mark.real
def test_rates_are_those_of_another_run(smollm2: Path, real_data: Path, tmp_path: Path) -> None:
    """Greedy answers in float32 differ between machines by a tie at most now and then."""
    wrapper, given = arguments_of("baseline", smollm2, tmp_path)
    tasks = ["polyrefuse_harmful_en", "polyrefuse_harmless_zh"]
    found = evaluate(
        wrapper,
        tasks,
        model_args={**given, "device": "cpu", "batch_size": 50},
        limit=LIMIT,
        gen_kwargs="max_gen_toks=64",
    )["results"]
    (path,) = (RECORDED / "results" / "baseline").glob("results_*.json")
    recorded = json.loads(path.read_text(encoding="utf-8"))["results"]
    for task in tasks:
        ends = ("rate,none", "asr,none")
        rates = {name: rate for name, rate in recorded[task].items() if name.endswith(ends)}
        assert len(rates) == 5
        for name, rate in rates.items():
            assert found[task][name] == pytest.approx(rate, abs=0.03), (task, name)


@pytest.mark.real
def test_side_effects_are_those_of_another_run(real_lm: BaselineHF) -> None:
    """Ablation looks at an orientation alone, so that this control needs no extraction."""
    recorded = json.loads((RECORDED / "effects.json").read_text(encoding="utf-8"))
    assert recorded["baseline"]["kl"] == 0
    found = {"baseline": effects.perplexity(real_lm)}
    with ablated(real_lm.model, random_direction(torch.ones(576), seed=0)):
        found["random-ablation-0"] = effects.perplexity(real_lm)
    for name, effect in found.items():
        assert effect["perplexity"] == pytest.approx(recorded[name]["perplexity"], rel=1e-3)
