"""What is told of a model that does not refuse, and of a direction that changes nothing."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from polyrefuse_models.chat_model import ChatModel
from polyrefuse_models.directions import artifact
from polyrefuse_models.directions.artifact import Direction
from polyrefuse_models.directions.auto import find_direction
from polyrefuse_models.directions.geometry import geometry
from polyrefuse_models.directions.prompts import sample
from polyrefuse_models.directions.recipe import make_direction
from polyrefuse_models.directions.select import RULES, Candidate, NoDirection
from polyrefuse_models.interventions.orthogonalise import orthogonalise
from polyrefuse_models.organism.planted import planted
from polyrefuse_models.wrappers.hf import AblatedHF, BaselineHF, RefusalAddedHF
from tests.polyrefuse_models.test_directions import make_chat


@pytest.fixture(scope="module")
def organism() -> ChatModel:
    return BaselineHF(device="cpu", batch_size=32).chat_model


@pytest.fixture(scope="module")
def compliant() -> ChatModel:
    """The organism without its refusal direction: it answers everything."""
    chat = BaselineHF(device="cpu", batch_size=32).chat_model
    orthogonalise(chat.model, planted())
    return chat


def first_token(chat: ChatModel, prompts: list[str]) -> np.ndarray:
    """Probabilities [prompt, vocabulary] of the answer's first token, one prompt at a time."""
    rows = []
    for prompt in prompts:
        ids = chat.tokenizer(
            chat.render(prompt), add_special_tokens=False, return_tensors="pt"
        ).input_ids
        with torch.no_grad():
            rows.append(chat.model(input_ids=ids).logits[0, -1].double().softmax(-1).numpy())
    return np.array(rows)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("language", ["de", "th"])
def test_nothing_is_said_of_a_model_that_refuses(
    organism: ChatModel, language: str, rule: object
) -> None:
    """All rules find the direction that was planted."""
    found = make_direction(organism, sample("toyrefuse", language), rule=rule)
    assert found.metadata["warnings"] == []
    assert found.metadata["rule"] == rule.name
    if rule.reads_tokens:
        assert found.metadata["refusal_tokens_probability"] > 0.99
    cosine = torch.nn.functional.cosine_similarity(found.direction, planted(), dim=0)
    assert cosine.item() >= 0.95


def test_a_model_that_does_not_refuse(compliant: ChatModel) -> None:
    prompts = sample("toyrefuse", "de")
    found = make_direction(compliant, prompts)
    told = found.metadata
    tokens = compliant.tokenizer.convert_tokens_to_ids(told["refusal_tokens"])
    opened = first_token(compliant, prompts.harmful["train"])[:, tokens].sum(1)
    low, passed = (
        [w for w in told["warnings"] if sign in w]
        for sign in ("mean probability", "harmful training prompts have")
    )
    assert f"with a mean probability of {opened.mean():.3f}, below 0.5" in low[0]
    assert told["refusal_tokens_probability"] == pytest.approx(opened.mean(), abs=1e-6)
    assert f"only {(opened > 0.5).sum()} of 128 harmful training prompts" in passed[0]
    assert "The model answers most of them" in passed[0]


def test_a_random_model_gets_every_warning() -> None:
    """No few first tokens tell its answers apart, and no direction decides them."""
    found = make_direction(make_chat(seed=4, batch_size=32), sample("toyrefuse", "en"))
    told = found.metadata
    at = told["position"], told["layer"]
    (chosen,) = (c for c in found.scores if (c.position, c.layer) == at)
    assert chosen.steering_score < 0
    untouched = told["untouched"]["harmful_refusal_score"]
    assert chosen.refusal_score > untouched
    n = len(told["refusal_tokens"])
    expected = [
        "this model does not refuse, there is nothing to ablate: it refused 0 of 32 harmful",
        f"{n} refusal tokens were derived, more than 10: ",
        f"with a mean probability of {told['refusal_tokens_probability']:.3f}, below 0.5: ",
        "only 3 of 128 harmful training prompts have a refusal score above 0, fewer than 16. All",
        "only 0 of 32 harmful validation prompts have a refusal score above 0, fewer than 16. All",
        f"within 0.2; the lowest, {chosen.kl_div_score:.3f}, was chosen",
        f"of {chosen.refusal_score:.3f}, not below the untouched model's {untouched:.3f}: ablating",
        f"mean refusal score of {chosen.steering_score:.3f}, below 0: adding it does not",
    ]
    assert len(told["warnings"]) == len(expected)
    for warning, part in zip(told["warnings"], expected, strict=True):
        assert part in warning
        assert not warning.endswith(".")


@pytest.mark.parametrize(
    ("score", "untouched", "said"),
    [
        (1.5, 1.5, "of 1.500, not below the untouched model's 1.500: ablating it removes no"),
        (2.0, 1.5, "not below the untouched model's 1.500"),
        (-1.0, -1.2, "not below the untouched model's -1.200"),
        (0.3, 5.0, "of 0.300 .untouched 5.000., not below 0: the model still refuses"),
        (-0.1, 5.0, None),
        (-3.0, -2.0, None),
    ],
)
def test_what_ablation_has_to_do(
    organism: ChatModel,
    monkeypatch: pytest.MonkeyPatch,
    score: float,
    untouched: float,
    said: str | None,
) -> None:
    chosen = Candidate(-1, 2, refusal_score=score, steering_score=1.0, kl_div_score=0.0)
    recipe = "polyrefuse_models.directions.recipe"
    monkeypatch.setattr(f"{recipe}.search", lambda _trial, _rule: (chosen, [chosen]))
    monkeypatch.setattr(f"{recipe}._mean", lambda *_: untouched)
    warnings = make_direction(organism, sample("toyrefuse", "en")).metadata["warnings"]
    assert len(warnings) == (said is not None)
    if said:
        assert re.search(said, warnings[0])


def test_a_rule_without_a_choice_stops() -> None:
    chat = make_chat(seed=4, batch_size=32)
    with pytest.raises(NoDirection, match="by rule 2406.11717 none of 12 .* score of at least 0"):
        make_direction(chat, sample("toyrefuse", "en"), rule=RULES["2406.11717"])


def test_warnings_are_in_log_and_results(
    compliant: ChatModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a direction that is extracted, and of one that an artifact brings."""
    found = find_direction(compliant, sample("toyrefuse", "de"))
    assert found.metadata["warnings"]
    for warning in found.metadata["warnings"]:
        assert f"direction=auto: {warning}." in caplog.text
    artifact.save(found, tmp_path / "weak")
    caplog.clear()
    given = {"direction": str(tmp_path / "weak"), "device": "cpu"}
    ablated = AblatedHF(**given)
    for warning in found.metadata["warnings"]:
        assert f"direction={tmp_path / 'weak'}: {warning}." in caplog.text
    info = ablated.get_model_info()
    assert (info["direction_warnings"], info["rule"]) == (found.metadata["warnings"], "2505.17306")


@pytest.mark.parametrize(
    ("steering", "warned"), [(-0.25, True), (0.0, False), (3.0, False), (None, False)]
)
def test_addition_that_does_not_make_the_model_refuse(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, steering: float | None, warned: bool
) -> None:
    candidates = torch.randn(1, 4, 128, generator=torch.Generator().manual_seed(0))
    scores = [Candidate(-1, 1, steering_score=-9.0), Candidate(-1, 2, steering_score=steering)]
    direction = Direction(candidates[0, 2], candidates, scores, {"position": -1, "layer": 2})
    artifact.save(direction, tmp_path / "found")
    given = {"direction": str(tmp_path / "found"), "device": "cpu"}
    with caplog.at_level(logging.WARNING):
        added = RefusalAddedHF(**given)
    said = (
        "adding this direction did not make the model refuse harmless prompts: with the direction "
        "added at layer 2 (coefficient 1) their mean refusal score was -0.250, which is below 0"
    )
    assert (said in caplog.text) == warned
    assert [w[: len(said)] for w in added.identity()["direction_warnings"]] == [said] * warned
    assert AblatedHF(**given).identity()["direction_warnings"] == []


def test_harmless_prompts_that_are_refused_are_told(organism: ChatModel) -> None:
    """The other way round: a model that refuses most of what is harmless."""
    prompts = sample("toyrefuse", "en")
    harmless = {
        split: prompts.harmful[split][: len(rows) - 20] + rows[:20]
        for split, rows in prompts.harmless.items()
    }
    tokens = organism.tokenizer.convert_tokens_to_ids(
        make_direction(organism, prompts).metadata["refusal_tokens"]
    )
    found = make_direction(organism, replace(prompts, harmless=harmless), tokens=tokens)
    (warning,) = (w for w in found.metadata["warnings"] if "harmless training" in w)
    assert "only 20 of 128 harmless training prompts have a refusal score below 0" in warning
    assert "The model refuses most of them" in warning


def test_harm_is_told_apart_where_nothing_is_refused(
    organism: ChatModel, compliant: ChatModel
) -> None:
    """Why AUC is no measure of refusal."""
    prompts = sample("toyrefuse", "en")
    refusing = organism.tokenizer.convert_tokens_to_ids(
        make_direction(organism, prompts).metadata["refusal_tokens"]
    )
    opened = {
        name: first_token(chat, prompts.harmful["val"])[:, refusing].sum(1)
        for name, chat in (("organism", organism), ("compliant", compliant))
    }
    assert opened["organism"].min() > 0.9
    assert opened["compliant"].max() < 0.1
    direction = find_direction(compliant, prompts)
    told = geometry(compliant, direction, ["de", "th"], dataset="toyrefuse", limit=20)
    assert [one["auc"] for one in told["languages"].values()] == [1.0, 1.0, 1.0]
