"""A real model that refuses next to nothing, as a negative control: the tool says so."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from polyrefuse_models.directions.prompts import Prompts, sample
from polyrefuse_models.directions.recipe import make_direction
from polyrefuse_models.directions.refusals import refusals
from polyrefuse_models.directions.select import DEFAULT, RULES, NoDirection
from polyrefuse_models.wrappers.hf import BaselineHF

NOTHING = "this model does not refuse, there is nothing to ablate: it refused"


def test_it_is_known_by_its_answers(real_lm: BaselineHF) -> None:
    prompts = sample("polyrefuse", "en").harmful["val"][:21]
    found = refusals(real_lm.chat_model, prompts, "en")
    assert found is not None
    assert found.refused <= 1
    doubt = found.doubt()
    assert doubt is not None
    assert doubt.startswith(NOTHING)


def test_a_plain_chatml_template_is_no_sign_of_reasoning(real_lm: BaselineHF) -> None:
    assert [text for text in real_lm.warnings if "may reason" in text] == []
    assert real_lm.prompting.system_identity()["system_text"] == (
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    )


def few(train: int, val: int) -> Prompts:
    """The first of the usual prompts, for time's sake."""
    prompts = sample("polyrefuse", "en")
    harmful, harmless = (
        {"train": kind["train"][:train], "val": kind["val"][:val]}
        for kind in (prompts.harmful, prompts.harmless)
    )
    return replace(prompts, harmful=harmful, harmless=harmless)


@pytest.mark.real
def test_extraction_says_it_first(real_lm: BaselineHF) -> None:
    found = make_direction(real_lm.chat_model, few(train=64, val=21))
    warnings = found.metadata["warnings"]
    assert warnings[0].startswith(NOTHING)
    assert any("refusal tokens were derived, more than 10" in text for text in warnings)
    # Harmful prompts differ from harmless ones in the same way in both halves, refused or not.
    assert found.metadata["stability"]["halves"]["mean"] > 0.5
    print(json.dumps(found.metadata["stability"]))


@pytest.mark.real
def test_no_candidate_within_the_kl_limit(real_lm: BaselineHF) -> None:
    """The default rule takes the candidate that moves least, and says so."""
    strict = replace(DEFAULT, kl_limit=1e-4)
    found = make_direction(real_lm.chat_model, few(train=32, val=4), rule=strict)
    at = found.metadata["position"], found.metadata["layer"]
    known = {(c.position, c.layer): c.kl_div_score for c in found.scores if c.kl_div_score}
    assert known[at] == min(known.values())
    assert known[at] > strict.kl_limit
    told = [text for text in found.metadata["warnings"] if text.startswith("no candidate kept")]
    assert len(told) == 1
    assert f"within 0.0001; the lowest, {known[at]:.3f}, was chosen" in told[0]


@pytest.mark.real
def test_no_candidate_within_the_limits_of_a_rule_that_stops(real_lm: BaselineHF) -> None:
    with pytest.raises(NoDirection, match=r"the highest steering score among them is -\d"):
        make_direction(real_lm.chat_model, few(train=32, val=4), rule=RULES["2406.11717"])
