"""A real model that refuses next to nothing, as a negative control: the tool says so."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from polyrefuse_models.directions.prompts import sample
from polyrefuse_models.directions.recipe import make_direction
from polyrefuse_models.directions.refusals import refusals
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


@pytest.mark.real
def test_extraction_says_it_first(real_lm: BaselineHF) -> None:
    """With half of the usual training prompts, for time's sake."""
    prompts = sample("polyrefuse", "en")
    harmful, harmless = (
        {"train": kind["train"][:64], "val": kind["val"][:21]}
        for kind in (prompts.harmful, prompts.harmless)
    )
    found = make_direction(real_lm.chat_model, replace(prompts, harmful=harmful, harmless=harmless))
    warnings = found.metadata["warnings"]
    assert warnings[0].startswith(NOTHING)
    assert any("refusal tokens were derived, more than 10" in text for text in warnings)
    # Harmful prompts differ from harmless ones in the same way in both halves, refused or not.
    assert found.metadata["stability"]["halves"]["mean"] > 0.5
    print(json.dumps(found.metadata["stability"]))
