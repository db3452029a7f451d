"""Harmfulness and refusal directions: angles against closed forms, states one prompt at a time."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from polyrefuse_models.directions.harmfulness import harmfulness
from polyrefuse_models.directions.states import Positions, see
from tests.polyrefuse_models.test_directions import make_chat

AXIS = torch.eye(4, dtype=torch.float64)


def means(angle: float, length: float = 3.0) -> torch.Tensor:
    """[kind, token, layer, d] of one layer: refusal along the first axis, harmfulness at an angle
    to it."""
    turned = math.cos(math.radians(angle)) * AXIS[0] + math.sin(math.radians(angle)) * AXIS[1]
    harmless = torch.full((2, 1, 4), 0.7, dtype=torch.float64)
    return torch.stack([harmless + torch.stack([length * turned, 2 * AXIS[0]])[:, None], harmless])


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 135.0, 180.0])
def test_angles(angle: float) -> None:
    positions = Positions(own=-2, user=-4)
    given = {"en": means(angle), "yo": means(60, length=0.01)}
    found = harmfulness(given, 0, AXIS[0], positions)
    assert (found["user"], found["last"]) == (-4, -1)
    english = found["languages"]["en"]
    assert english["angle"] == pytest.approx(angle, abs=1e-5)
    assert english["cosine"] == pytest.approx(math.cos(math.radians(angle)))
    assert english["refusal_against_direction"] == pytest.approx(1)
    assert english["harmfulness_against_direction"] == english["cosine"]
    assert english["harmfulness_against_english"] == pytest.approx(1)
    assert found["languages"]["yo"]["harmfulness_against_english"] == pytest.approx(
        math.cos(math.radians(angle - 60))
    )
    (layer,) = found["layers"]
    assert layer["languages"]["yo"]["angle"] == pytest.approx(60)


def test_what_does_not_differ_has_no_angle() -> None:
    alike = torch.ones(2, 2, 1, 4, dtype=torch.float64)
    found = harmfulness({"en": alike, "yo": means(20)}, 0, AXIS[0], Positions(-1, -3))
    assert set(found["languages"]["en"].values()) == {None}
    assert found["languages"]["yo"]["harmfulness_against_english"] is None
    assert found["languages"]["yo"]["angle"] == pytest.approx(20)


def test_without_a_template_there_is_one_token() -> None:
    chat = replace(make_chat(), render=str)
    positions = Positions.of(chat, -1)
    assert not positions.has_template
    found = harmfulness({"en": means(20)}, 0, AXIS[0], positions)
    assert found["languages"] is None and "cannot be told apart" in found["note"]


def test_means_and_projections_are_those_of_each_prompt_alone() -> None:
    chat = make_chat(batch_size=3)
    prompts = ["How?", "Where is the oven kept", "Tell me of a bench", "Why now?", "Who?", "Who?"]
    harmful = [True, False, False, True]
    unit = torch.nn.functional.normalize(torch.arange(32, dtype=torch.float64), dim=0)
    positions = Positions.of(chat, -2)
    assert (positions.user, positions.last) == (-4, -1)
    seen = see(chat, prompts, harmful, positions, unit, "en")
    alone = []
    for prompt in prompts:
        ids = chat.tokenizer(
            chat.render(prompt), add_special_tokens=False, return_tensors="pt"
        ).input_ids
        # The last token of the user's text is the last one in front of the template's three.
        assert chat.tokenizer.decode(ids[0, -4:-3]) == prompt[-1]
        with torch.no_grad():
            hidden = chat.model(ids, output_hidden_states=True).hidden_states[:4]
        alone.append(torch.stack([state[0] for state in hidden], 1)[[-4, -2, -1]].double())
    states = torch.stack(alone).numpy()  # [prompt, token, layer, d]
    assert seen.states.shape == (4, 4, 32)
    np.testing.assert_allclose(seen.states, states[:4, 1], atol=1e-5)
    np.testing.assert_allclose(seen.own, states[:, 1] @ unit.numpy(), atol=1e-4)
    np.testing.assert_allclose(seen.last, states[:, 2] @ unit.numpy(), atol=1e-4)
    for kind, rows in enumerate(([0, 3], [1, 2])):
        np.testing.assert_allclose(seen.means[kind, 0], states[rows, 0].mean(0), atol=1e-5)
        np.testing.assert_allclose(seen.means[kind, 1], states[rows, 2].mean(0), atol=1e-5)
    # The same prompt has the same projection, in whatever batch it was read.
    np.testing.assert_allclose(seen.own[4], seen.own[5], atol=1e-6)
