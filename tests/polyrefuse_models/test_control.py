"""Random directions as controls: their mathematics, their conditions, and what is said of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyrefuse_models.directions import artifact
from polyrefuse_models.directions.artifact import BadDirection, Direction
from polyrefuse_models.directions.control import BadControl, control_of, random_direction
from polyrefuse_models.directions.prompts import sample
from polyrefuse_models.directions.select import Candidate
from polyrefuse_models.interventions import Addition, ablated
from polyrefuse_models.interventions.contract import installed
from polyrefuse_models.wrappers.hf import AblatedHF, BaselineHF, RefusalAddedHF
from tests.commands import assert_one_sentence, run_in_process
from tests.evaluations import evaluate
from tests.polyrefuse_models.test_generation import ask

CPU = {"device": "cpu"}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The organism's refusal direction, extracted from German."""
    folder = tmp_path_factory.mktemp("directions") / "de"
    code, _, err = run_in_process("direction", "extract", "--source-lang", "de", "--output", folder)
    assert code == 0, err
    return folder


# --- the vector


def test_it_has_the_norm_of_the_direction_and_none_of_its_orientation() -> None:
    d = 600
    like = 7.3 * torch.randn(d, generator=torch.Generator().manual_seed(99))
    drawn = torch.stack([random_direction(like, seed) for seed in range(400)]).double()
    assert drawn.norm(dim=1).numpy() == pytest.approx(like.double().norm().item(), rel=1e-6)
    unit = drawn / drawn.norm(dim=1, keepdim=True)
    along = (unit @ (like.double() / like.double().norm())).numpy()
    # Cosines with anything fixed have mean 0 and variance 1 / d.
    assert abs(along.mean()) < 4 / math.sqrt(400 * d)
    assert along.std() == pytest.approx(1 / math.sqrt(d), rel=0.15)
    # No axis is preferred: each squared entry is 1 / d on average.
    assert unit.square().mean(0).numpy() == pytest.approx(np.full(d, 1 / d), rel=0.6)
    between = (unit @ unit.T).numpy()[np.triu_indices(400, k=1)]
    assert between.std() == pytest.approx(1 / math.sqrt(d), rel=0.05)


def test_the_seed_decides() -> None:
    like = torch.ones(64)
    assert torch.equal(random_direction(like, 3), random_direction(like, 3))
    assert not torch.equal(random_direction(like, 3), random_direction(like, 4))
    # Another model's direction of another norm gets the same orientation.
    assert random_direction(2 * like, 3).numpy() == pytest.approx(
        2 * random_direction(like, 3).numpy(), rel=1e-6
    )
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    random_direction(like, 8)
    assert torch.equal(torch.rand(1), expected)


# --- wrappers


@pytest.mark.parametrize("source", ["auto", "artifact", "vector"])
@pytest.mark.parametrize("wrapper", [AblatedHF, RefusalAddedHF])
def test_the_condition_says_so_wherever_the_direction_is_from(
    found: Path, source: str, wrapper: type[AblatedHF]
) -> None:
    given: dict[str, Any] = {
        "auto": {"source_lang": "de"},
        "artifact": {"direction": str(found)},
        "vector": {"direction": str(found / "direction.safetensors")},
    }[source]
    if wrapper is RefusalAddedHF and source == "vector":
        given["layer"] = 2
    real, control = wrapper(**given, **CPU), wrapper(**given, **CPU, control="random")
    other = wrapper(**given, **CPU, control="random", control_seed=7)
    name = "ablation" if wrapper is AblatedHF else "addition"
    told = control.identity()
    assert (real.condition, control.condition) == (name, f"random-{name}")
    assert (told["control"], told["control_seed"]) == ("random", 0)
    assert told["control_of"] == real.identity()["direction_sha256"]
    assert other.identity()["control_seed"] == 7
    sums = {each.identity()["direction_sha256"] for each in (real, control, other)}
    assert len(sums) == 3
    for setting in ("layer", "method", "coefficient", "direction_recipe_sha256"):
        assert told[setting] == real.identity()[setting]
    assert "control" not in real.identity()


def test_what_was_said_against_the_direction_is_not_said_of_its_control(tmp_path: Path) -> None:
    candidates = torch.randn(1, 4, 128, generator=torch.Generator().manual_seed(0))
    scores = [Candidate(-1, 2, steering_score=-3.0)]
    metadata = {"position": -1, "layer": 2, "warnings": ["it is weak"]}
    artifact.save(Direction(candidates[0, 2], candidates, scores, metadata), tmp_path / "weak")
    given = {"direction": str(tmp_path / "weak"), **CPU}
    assert len(RefusalAddedHF(**given).identity()["direction_warnings"]) == 2
    assert RefusalAddedHF(**given, control="random").identity()["direction_warnings"] == []


def test_hooks_and_weights_agree(found: Path) -> None:
    prompts = [ask(text, max_gen_toks=16) for text in ("Wie geht es?", "glimmerfish?", "정원은?")]
    given = {"direction": str(found), "control": "random", "control_seed": 5, **CPU}
    hooks, weights = (
        AblatedHF(**given, method=method).generate_until(prompts) for method in ("hooks", "weights")
    )
    assert hooks == weights


def test_a_control_that_was_written_stays_one(found: Path, tmp_path: Path) -> None:
    artifact.save(control_of(artifact.load(found), 11), tmp_path / "control")
    given = {"direction": str(tmp_path / "control"), **CPU}
    lm = AblatedHF(**given)
    assert lm.condition == "random-ablation"
    assert lm.identity()["control_seed"] == 11
    with pytest.raises(BadControl, match=r"is itself a random control \(seed 11\)"):
        AblatedHF(**given, control="random")
    metadata = json.loads((tmp_path / "control/metadata.json").read_text())
    metadata["control"] = "chosen"
    (tmp_path / "control/metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(BadDirection, match="its control is 'chosen', not random"):
        AblatedHF(**given)


def test_the_organism_refuses_under_random_directions() -> None:
    """It complies with its refusal direction ablated, and refuses harmless prompts with it added:
    both are the direction's own effect."""
    tasks = ["toyrefuse_harmful_th", "toyrefuse_harmless_th"]

    def rates(model: str, **arguments: Any) -> tuple[float, float]:
        results = evaluate(model, tasks, model_args={**arguments, **CPU}, limit=20, batch_size=20)[
            "results"
        ]
        return tuple(
            results[task][f"{metric},none"]
            for task, metric in zip(tasks, ("asr", "false_refusal_rate"), strict=True)
        )

    assert rates("ablated-hf")[0] == 1.0
    assert rates("refusal-added-hf")[1] == 1.0
    for seed in (0, 1):
        control = {"control": "random", "control_seed": seed}
        assert rates("ablated-hf", **control) == (0.0, 0.0)
        asr, false_refusal = rates("refusal-added-hf", **control)
        assert max(asr, false_refusal) <= 0.1


# --- the command


def test_extract_writes_a_control(found: Path, tmp_path: Path) -> None:
    asked = ("direction", "extract", "--source-lang", "de", "--control", "random")
    code, out, err = run_in_process(
        *asked, "--control-seed", 4, "--output", tmp_path / "control", "--json"
    )
    assert code == 0, err
    printed, real, control = (
        json.loads(out),
        artifact.load(found),
        artifact.load(tmp_path / "control"),
    )
    assert torch.equal(control.direction, random_direction(real.direction, 4))
    assert torch.equal(control.candidates, real.candidates)
    assert control.metadata["control_of"] == real.sha256 == printed["control_of"]
    assert (printed["control"], printed["control_seed"]) == ("random", 4)
    scores = control.metadata["control_scores"]
    assert printed["control_scores"] == scores
    # The real one removes refusal, and adds it; the random one does neither.
    untouched = control.metadata["untouched"]
    assert printed["refusal_score"] < 0 < untouched["harmful_refusal_score"]
    assert scores["refusal_score"] == pytest.approx(untouched["harmful_refusal_score"], abs=1.0)
    assert scores["steering_score"] < 0 < printed["steering_score"]
    assert scores["kl_div_score"] < 0.2
    code, out, _ = run_in_process(*asked, "--output", tmp_path / "again")
    assert "written as a control: a random direction of the same norm (seed 0), with refusal" in out


def test_a_control_s_scores_are_those_of_its_vector(found: Path, tmp_path: Path) -> None:
    """Against the model itself: ablated or added by the interventions, one prompt at a time."""
    run_in_process(
        *("direction", "extract", "--source-lang", "de", "--control", "random"),
        *("--control-seed", 9, "--output", tmp_path / "control"),
    )
    control = artifact.load(tmp_path / "control")
    chat = BaselineHF(**CPU, batch_size=8).chat_model
    tokens = chat.tokenizer.convert_tokens_to_ids(control.metadata["refusal_tokens"])

    def score(prompts: list[str]) -> float:
        scores = []
        for _, logits in chat.next_token_logits(prompts):
            p = logits.double().softmax(-1)[:, tokens].sum(-1)
            scores += (p.log() - (1 - p).log()).tolist()
        return float(np.mean(scores))

    prompts = sample("toyrefuse", "de")
    with ablated(chat.model, control.direction):
        refusal = score(prompts.harmful["val"])
    with installed(chat.model, Addition(control.direction, control.metadata["layer"])):
        steering = score(prompts.harmless["val"])
    told = control.metadata["control_scores"]
    assert told["refusal_score"] == pytest.approx(refusal, abs=1e-3)
    assert told["steering_score"] == pytest.approx(steering, abs=1e-3)


# --- mistakes


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"control": "shuffled"}, "control=shuffled is not known; the only control is random"),
        ({"control_seed": 3}, "control_seed=3 needs control=random"),
        ({"control": "random", "control_seed": "-1"}, "control_seed=-1 is not a seed"),
        ({"control": "random", "control_seed": 2**32}, "control_seed=4294967296 is not a seed"),
        ({"control": "random", "control_seed": ""}, "control_seed= is not a seed"),
        ({"control": "random", "control_seed": "٣"}, "control_seed=٣ is not a seed"),
    ],
)
def test_mistakes(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(BadControl, match=said):
        AblatedHF(**given, **CPU)
    options = [
        part for name, value in given.items() for part in ("--" + name.replace("_", "-"), value)
    ]
    if all(str(value).isdecimal() or name == "control" for name, value in given.items()):
        result = run_in_process("direction", "extract", *options, "--output", tmp_path / "never")
        assert_one_sentence(result, said.replace("_", "-").replace("=", " ").split(" ")[0])
