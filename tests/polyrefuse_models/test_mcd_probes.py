"""The basis and the probes, against scipy's minimiser and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from polyrefuse_models.mcd import probes
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
    told = measure.refusal(measure.coordinates(fresh)).sigmoid()
    assert (told - fresh_soft).abs().max() < 0.1


def test_soft_labels_are_fitted_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """One strength, and the weights of ten folds from scipy on the soft cross-entropy itself."""
    monkeypatch.setattr(probes, "STRENGTHS", (1.0,))
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
