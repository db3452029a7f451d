"""Harmfulness and refusal directions: angles against closed forms, states one prompt at a time."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from polyrefuse_models.directions.harmfulness import angle_interval, harmfulness
from polyrefuse_models.directions.harmfulness_pictures import angle_text
from polyrefuse_models.directions.states import Positions, see
from tests.polyrefuse_models.test_directions import make_chat

AXIS = torch.eye(4, dtype=torch.float64)


def means(angle: float, length: float = 3.0) -> torch.Tensor:
    """[kind, token, layer, d] of one layer: refusal along the first axis, harmfulness at an angle
    to it."""
    turned = math.cos(math.radians(angle)) * AXIS[0] + math.sin(math.radians(angle)) * AXIS[1]
    harmless = torch.full((2, 1, 4), 0.7, dtype=torch.float64)
    return torch.stack([harmless + torch.stack([length * turned, 2 * AXIS[0]])[:, None], harmless])


def between(means: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The document of such means, where every prompt of a kind has the same state."""
    states = {name: tuple(of[:, :, 0, None].transpose(1, 2)) for name, of in means.items()}
    alike = {name: tuple(kind.repeat(2, 1, 1) for kind in of) for name, of in states.items()}
    noise = {name: torch.zeros(2, 2, 1, dtype=torch.float64) for name in means}
    return harmfulness(means, noise, alike, 0, AXIS[0], Positions(own=-2, user=-4))


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 135.0, 180.0])
def test_angles(angle: float) -> None:
    found = between({"en": means(angle), "yo": means(60, length=0.01)})
    assert (found["user"], found["last"]) == (-4, -1)
    english = found["languages"]["en"]
    assert english["angle"] == pytest.approx(angle, abs=1e-5)
    assert english["cosine"] == pytest.approx(math.cos(math.radians(angle)))
    assert english["refusal_against_direction"] == pytest.approx(1)
    assert english["harmfulness_against_direction"] == pytest.approx(english["cosine"])
    assert english["harmfulness_against_english"] == pytest.approx(1)
    assert found["languages"]["yo"]["harmfulness_against_english"] == pytest.approx(
        math.cos(math.radians(angle - 60))
    )
    (layer,) = found["layers"]
    assert layer["languages"]["yo"]["angle"] == pytest.approx(60)


def test_what_does_not_differ_has_no_angle() -> None:
    alike = torch.ones(2, 2, 1, 4, dtype=torch.float64)
    found = between({"en": alike, "yo": means(20)})
    assert set(found["languages"]["en"].values()) == {None}
    assert found["languages"]["yo"]["harmfulness_against_english"] is None
    assert found["languages"]["yo"]["angle"] == pytest.approx(20)


D = 128


def noisy(random: np.random.Generator, n: int, length: float) -> torch.Tensor:
    """[prompt, token, d]: states whose means are directions at an angle of 60 degrees, from which a
    prompt deviates partly alike at both tokens."""
    mean = np.zeros((2, D))
    mean[0, :2], mean[1, 0] = (length / 2, length * math.sqrt(0.75)), length
    shared = 0.5 * random.normal(size=(n, 1, D)) * np.linspace(0.1, 2, D)
    return torch.from_numpy(mean + shared + random.normal(size=(n, 2, D)))


def angle_of(harmful: np.ndarray, harmless: np.ndarray) -> float:
    """The unbiased angle in degrees between the two directions of states [prompt, token, d]."""
    directions = harmful.mean(0) - harmless.mean(0)

    def product(one: int, other: int) -> float:
        covered = sum(
            np.cov(kind[:, one].T, kind[:, other].T)[:D, D:].trace() / len(kind)
            for kind in (harmful, harmless)
        )
        return float(directions[one] @ directions[other] - covered)

    return math.degrees(math.acos(product(0, 1) / math.sqrt(product(0, 0) * product(1, 1))))


def test_an_interval_is_that_of_the_jackknife() -> None:
    random = np.random.default_rng(1)
    kinds = [noisy(random, 9, 20).numpy(), noisy(random, 7, 0).numpy()]
    variance = 0.0
    for kind, n in enumerate(map(len, kinds)):
        without = []
        for row in range(n):
            left = list(kinds)
            left[kind] = np.delete(kinds[kind], row, axis=0)
            without.append(angle_of(*left))
        variance += (n - 1) / n * ((np.array(without) - np.mean(without)) ** 2).sum()
    half, angle = 1.959963984540054 * math.sqrt(variance), angle_of(*kinds)
    ends = angle_interval(*map(torch.from_numpy, kinds))
    assert ends == pytest.approx((angle - half, angle + half), abs=1e-9)


def test_an_interval_holds_the_true_angle_19_times_in_20() -> None:
    """With few prompts and many dimensions, where the angle of the plain means is too large."""
    random = np.random.default_rng(0)
    held, middles, plain = [], [], []
    for _ in range(600):
        harmful, harmless = noisy(random, 40, 5), noisy(random, 30, 0)
        low, high = angle_interval(harmful, harmless)
        assert low is not None and high is not None
        held.append(low < 60 < high)
        middles.append((low + high) / 2)
        one, other = (harmful.mean(0) - harmless.mean(0)).numpy()
        plain.append(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
    # Three standard errors of a share of 95% of 600 are 2.7%, and the jackknife is a little wide.
    assert 0.925 < np.mean(held) < 0.99
    assert np.mean(middles) == pytest.approx(60, abs=0.7)
    assert np.degrees(np.arccos(plain)).mean() > 64


def test_an_interval_stays_between_0_and_180_degrees() -> None:
    random = np.random.default_rng(2)
    kinds = [noisy(random, 30, 16), noisy(random, 30, 0)]
    # Both tokens nearly agree, so the angle is nearly 0 degrees.
    alike = [kind[:, [1, 1]] + 0.1 * noisy(random, 30, 0) for kind in kinds]
    low, high = angle_interval(*alike)
    assert low == 0 < high
    low, high = angle_interval(*(kind * torch.tensor([[1.0], [-1.0]]) for kind in alike))
    assert low < 180 == high


def test_a_difference_that_chance_explains_has_no_angle() -> None:
    random = np.random.default_rng(3)
    ends = {angle_interval(noisy(random, 20, 0), noisy(random, 20, 0)) for _ in range(20)}
    assert ends == {(None, None)}
    assert angle_interval(noisy(random, 2, 50), noisy(random, 20, 0)) == (None, None)


def test_an_angle_is_written_with_its_interval() -> None:
    assert angle_text(86.7, 84.6, 89.2) == "87 [85, 89]"
    assert (angle_text(30.2, None, None), angle_text(None, None, None)) == ("30", "-")


def test_without_a_template_there_is_one_token() -> None:
    chat = replace(make_chat(), render=str)
    positions = Positions.of(chat, -1)
    assert not positions.has_template
    found = harmfulness({"en": means(20)}, {}, {}, 0, AXIS[0], positions)
    assert found["languages"] is None and "cannot be distinguished" in found["note"]


def test_means_and_projections_are_those_of_each_prompt_alone() -> None:
    chat = make_chat(batch_size=3)
    prompts = ["How?", "Where is the oven kept", "Tell me of a bench", "Why now?", "Who?", "Who?"]
    harmful = [True, False, False, True]
    unit = torch.nn.functional.normalize(torch.arange(32, dtype=torch.float64), dim=0)
    positions = Positions.of(chat, -2)
    assert (positions.user, positions.last) == (-4, -1)
    seen = see(chat, prompts, harmful, positions, unit, 1, "en")
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
    np.testing.assert_allclose(seen.at_layer, states[:4, [0, 2], 1], atol=1e-5)
    np.testing.assert_allclose(seen.own, states[:, 1] @ unit.numpy(), atol=1e-4)
    np.testing.assert_allclose(seen.last, states[:, 2] @ unit.numpy(), atol=1e-4)
    for kind, rows in enumerate(([0, 3], [1, 2])):
        np.testing.assert_allclose(seen.means[kind, 0], states[rows, 0].mean(0), atol=1e-5)
        np.testing.assert_allclose(seen.means[kind, 1], states[rows, 2].mean(0), atol=1e-5)
    harm, safe = states[[0, 3]], states[[1, 2]]
    for one, at in enumerate((0, 2)):
        for other, too in enumerate((0, 2)):
            covered = [
                np.sum(
                    [np.cov(kind[:, at, layer, i], kind[:, too, layer, i])[0, 1] for i in range(32)]
                )
                for kind in (harm, safe)
                for layer in range(states.shape[2])
            ]
            both = np.reshape(covered, (2, -1)).sum(0) / 2
            np.testing.assert_allclose(seen.noise[one, other], both, atol=1e-4)
    # The same prompt has the same projection, in whatever batch it was read.
    np.testing.assert_allclose(seen.own[4], seen.own[5], atol=1e-6)
