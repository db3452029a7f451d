"""The basis and the probes, against scipy's minimiser and closed forms."""

from __future__ import annotations

import random
from copy import deepcopy

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch.nn.functional import binary_cross_entropy_with_logits

from polyrefuse_models.mcd import probes, published_probes
from polyrefuse_models.mcd.probes import fit, fit_probe

D = 12
ONE = ["en"] * 240


def cloud(n: int = 240, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """States that vary along four axes, soft labels by the second and hard ones by the first."""
    generator = torch.Generator().manual_seed(seed)
    x = 0.1 * torch.randn(n, D, generator=generator) + 3.0
    harmless = (torch.arange(n) % 2).float()
    wide = torch.randn(n, 4, generator=generator) * torch.tensor([1.0, 4.0, 3.0, 2.0])
    wide[:, 0] += 12 * harmless
    x[:, :4] += wide
    return x, torch.sigmoid(wide[:, 1]), harmless


def test_the_basis_is_orthonormal_and_begins_with_the_components() -> None:
    x, soft, harmless = cloud()
    measure = fit(x, ONE, soft, harmless, 0)
    basis = measure.basis.double()
    torch.testing.assert_close(basis.T @ basis, torch.eye(D).double(), atol=1e-6, rtol=0)
    values, vectors = np.linalg.eigh(np.cov(x.double().numpy().T))
    for index in range(4):
        cosine = abs(vectors[:, -1 - index] @ basis[:, index].numpy())
        assert cosine == pytest.approx(1, abs=1e-6)
    assert measure.explained == pytest.approx(values[::-1][:4] / values.sum(), rel=1e-5)
    mean = measure.coordinates(x).mean(dim=0)
    torch.testing.assert_close(mean, torch.zeros(D), atol=1e-5, rtol=0)


def test_what_tells_languages_apart_is_outside_of_the_components() -> None:
    x, soft, harmless = cloud()
    languages = ["en", "de", "de"] * 80
    far = x.clone()
    far[:, -1] += 50 * torch.tensor([lang == "de" for lang in languages])
    alone, apart = fit(x, ONE, soft, harmless, 0), fit(far, languages, soft, harmless, 0)
    within = apart.basis[:, :4].T @ alone.basis[:, :4]  # The same four axes, in any rotation.
    torch.testing.assert_close(within @ within.T, torch.eye(4), atol=0.01, rtol=0)
    assert fit(far, ONE, soft, harmless, 0).basis[-1, 0].abs() > 0.99
    mean = apart.coordinates(far).mean(dim=0)
    torch.testing.assert_close(mean, torch.zeros(D), atol=1e-4, rtol=0)


def test_probes_say_what_the_labels_say() -> None:
    x, soft, harmless = cloud()
    measure = fit(x, ONE, soft, harmless, 0)
    coordinates = measure.coordinates(x)
    assert (measure.refusal(coordinates).sigmoid() - soft).abs().max() < 0.1
    assert torch.equal(measure.harmfulness(coordinates) > 0, harmless.bool())
    fresh, fresh_soft, _ = cloud(seed=1)
    predicted = measure.refusal(measure.coordinates(fresh)).sigmoid()
    assert (predicted - fresh_soft).abs().max() < 0.1


def test_soft_labels_are_fitted_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """One strength, and the weights of ten folds from scipy on the soft cross-entropy itself."""
    monkeypatch.setattr(probes, "INVERSE_STRENGTHS", (1.0,))
    generator = np.random.default_rng(0)
    points = generator.normal(size=(60, 4))
    labels = 1 / (1 + np.exp(-points @ [1.0, -2.0, 0.5, 0.0] - 0.3))
    found = fit_probe(points, labels, seed=3)
    scale = points.std()
    order = np.arange(60)
    np.random.RandomState(3).shuffle(order)  # as scikit-learn's KFold does
    expected = []
    for fold in np.split(order, 10):
        kept = np.setdiff1d(np.arange(60), fold)
        x, y = points[kept] / scale, labels[kept]

        def loss(w: np.ndarray, x: np.ndarray = x, y: np.ndarray = y) -> float:
            z = x @ w[:4] + w[4]
            return np.sum(np.logaddexp(0, z) - y * z) + w[:4] @ w[:4] / 2

        best = minimize(loss, np.zeros(5), tol=1e-12).x
        expected.append([*best[:4] / scale, best[4]])
    weight = np.mean(expected, axis=0)
    np.testing.assert_allclose([*found.weight.tolist(), found.bias], weight, atol=1e-3)


def test_noise_stops_a_probe_early() -> None:
    generator = np.random.default_rng(0)
    points, labels = generator.normal(size=(40, 4)), generator.integers(0, 2, 40).astype(float)
    stopped = fit_probe(points, labels, 0)
    assert stopped.weight.norm() < 0.1
    assert stopped.held_out_loss < 0.75


# --- as the published code fits them


def plainly(
    points: torch.Tensor, labels: torch.Tensor, held: list[int], most: int
) -> tuple[list[float], int]:
    """A linear layer that torch trains, and the step at which it stopped."""
    kept = sorted(set(range(len(points))) - set(held))
    layer = torch.nn.Linear(4, 1)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-4)
    best, least, idle, step = deepcopy(layer), 1e5, 0, 0
    while idle < 3 and step < most:
        step += 1
        optimizer.zero_grad()
        logits = layer(points[kept])[:, 0]
        binary_cross_entropy_with_logits(logits, labels[kept]).backward()
        optimizer.step()
        with torch.no_grad():
            loss = binary_cross_entropy_with_logits(layer(points[held])[:, 0], labels[held])
        if loss < least - 1e-4:
            best, least, idle = deepcopy(layer), loss, 0
        else:
            idle += 1
    return [*best.weight.detach()[0].tolist(), best.bias.item()], step


@pytest.mark.parametrize(("scale", "seed"), [(0.5, 3), (8.0, 11)])
def test_published_probes_are_those_that_torch_trains(
    scale: float, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 150  # of 10,000: some stop by themselves long before it, others do not
    monkeypatch.setattr(published_probes, "MOST_STEPS", most)
    generator = np.random.default_rng(seed)
    harmless = generator.permutation(np.repeat([0.0, 1.0], 40))
    points = scale * generator.normal(size=(80, 4)) * [4, 3, 2, 1]
    points[:, 0] += 3 * scale * (harmless - 0.5)
    not_refused = harmless / (1 + np.exp(-points[:, 1] / scale))
    refusal, harmfulness = published_probes.published(points, not_refused, harmless, seed)

    order = list(range(80))
    random.Random(seed).shuffle(order)
    splits = [order[start : start + 8] for start in range(0, 80, 8)]
    x, soft, hard = (torch.tensor(part).float() for part in (points, not_refused, harmless))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        trained = [plainly(x, soft, held, most) for held in splits]
        last, _ = plainly(x, hard, splits[-1], most)
    steps = {step for _, step in trained}
    assert most in steps and min(steps) < most
    mean = np.mean([weights for weights, _ in trained], axis=0)
    np.testing.assert_allclose([*refusal.weight.tolist(), refusal.bias], mean, atol=1e-3)
    np.testing.assert_allclose([*harmfulness.weight.tolist(), harmfulness.bias], last, atol=1e-3)


def test_published_probes_are_less_steep() -> None:
    """So much for early stopping: on states as far apart as a model's, the same is told less."""
    x, soft, harmless = cloud()
    ours, theirs = (
        fit(0.2 * x, ONE, soft, harmless, 0, how)
        for how in (probes.regularised, published_probes.published)
    )
    coordinates = ours.coordinates(0.2 * x)
    for name in ("refusal", "harmfulness"):
        steep, flat = getattr(ours, name), getattr(theirs, name)
        assert steep.weight.norm() > 1.3 * flat.weight.norm()
    predicted = theirs.harmfulness(coordinates) > 0
    assert (predicted == harmless.bool()).float().mean() > 0.95


def test_labels_that_never_differ_say_nothing() -> None:
    probe = fit_probe(np.random.default_rng(0).normal(size=(40, 4)), np.ones(40), 0)
    assert not probe.weight.any()
    assert probe.bias > 3


def test_the_scale_of_the_states_does_not_matter() -> None:
    x, soft, harmless = cloud()
    one, other = fit(x, ONE, soft, harmless, 0), fit(1000 * x, ONE, soft, harmless, 0)
    for probe in ("refusal", "harmfulness"):
        torch.testing.assert_close(
            getattr(one, probe)(one.coordinates(x)),
            getattr(other, probe)(other.coordinates(1000 * x)),
            atol=1e-2,
            rtol=1e-2,
        )
