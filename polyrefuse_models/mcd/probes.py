"""Fit four principal components of the states, and two logistic probes on them.

The `refusal` probe predicts the probability that a prompt is not refused, and the `harmfulness`
probe the probability that it is harmless (2401.18018, sec. 3).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

DIMENSIONS = 4
SPLITS = 10
INVERSE_STRENGTHS = tuple(10.0**exponent for exponent in np.arange(-3, 3.01, 0.5))
"""Inverse strengths of regularisation, the strongest first. A probe is fitted with one after the
other until its held-out loss stops falling. This is early stopping as in gradient descent, but does
not depend on the scale of the states."""
LEAST_GAIN = 1e-4
"""The nats by which the held-out loss has to fall before the next strength is tried, as in the
paper's code."""


@dataclass(frozen=True)
class Probe:
    """A logistic probe on the first `DIMENSIONS` components.

    Attributes:
        weight: the weight of each component.
        bias: the bias of the logit.
        held_out_loss: the binary cross-entropy, in nats, on the held-out parts, averaged over the
            splits.
    """

    weight: Float[Tensor, "4"]
    bias: float
    held_out_loss: float

    def __call__(self, coordinates: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        """Compute the logits of states in the basis."""
        return coordinates[:, : len(self.weight)] @ self.weight + self.bias


@dataclass(frozen=True)
class Measure:
    """A basis of the space of states, and the probes on its first four dimensions.

    Attributes:
        mean: the mean of the states.
        basis: an orthonormal basis, whose first `DIMENSIONS` columns are the principal components.
        explained: the share of the variance that each component explains.
        refusal: the probe whose logit is high if a prompt is not refused.
        harmfulness: the probe whose logit is high if a prompt is harmless.
    """

    mean: Float[Tensor, "d"]
    basis: Float[Tensor, "d d"]
    explained: tuple[float, ...]
    refusal: Probe
    harmfulness: Probe

    def coordinates(self, states: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Transform states into the basis."""
        return (states - self.mean) @ self.basis

    def not_refused(self, states: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        """Predict, by the refusal probe, the share of answers that are not refusals."""
        return self.refusal(self.coordinates(states)).sigmoid()

    def to(self, device: torch.device) -> Measure:
        """Move basis and probes to a device."""
        probes = [
            Probe(probe.weight.to(device), probe.bias, probe.held_out_loss)
            for probe in (self.refusal, self.harmfulness)
        ]
        return Measure(self.mean.to(device), self.basis.to(device), self.explained, *probes)


def regularised(
    points: Float[np.ndarray, "n 4"],
    not_refused: Float[np.ndarray, "n"],
    harmless: Float[np.ndarray, "n"],
    seed: int,
) -> tuple[Probe, Probe]:
    """Fit the refusal and the harmfulness probe, each as a mean over splits.

    Args:
        points: states in the basis.
        not_refused: soft labels between 0 and 1.
        harmless: labels 0 or 1.
        seed: the seed of the splits.
    """
    return fit_probe(points, not_refused, seed), fit_probe(points, harmless, seed)


def fit(
    states: Float[Tensor, "n d"],
    languages: Sequence[str],
    not_refused: Float[Tensor, "n"],
    harmless: Float[Tensor, "n"],
    seed: int,
    probes: Callable[..., tuple[Probe, Probe]] = regularised,
) -> Measure:
    """Fit the basis and both probes.

    Args:
        states: the states under every condition.
        languages: the language of each state. The components are computed after the mean of each
            language has been subtracted. The difference between languages therefore lies outside
            them, where the norm term keeps it unchanged.
        not_refused: soft labels between 0 and 1.
        harmless: labels 0 or 1.
        seed: the seed of the splits.
        probes: a function that fits both probes from the states in the basis, their soft and hard
            labels, and the seed.
    """
    from sklearn.decomposition import PCA

    points = states.double().numpy()
    mean = points.mean(axis=0)
    apart = points.copy()
    for language in set(languages):
        rows = np.array(languages) == language
        apart[rows] -= points[rows].mean(axis=0)
    pca = PCA(DIMENSIONS, svd_solver="full").fit(apart)
    first = pca.components_.T
    # QR keeps the first columns up to their signs, which the next line restores.
    basis, _ = np.linalg.qr(first, mode="complete")
    basis[:, :DIMENSIONS] = first
    coordinates = (points - mean) @ first
    labels = (part.double().numpy() for part in (not_refused, harmless))
    refusal, harmfulness = probes(coordinates, *labels, seed)
    return Measure(
        mean=torch.from_numpy(mean).float(),
        basis=torch.from_numpy(basis).float(),
        explained=tuple(pca.explained_variance_ratio_.tolist()),
        refusal=refusal,
        harmfulness=harmfulness,
    )


def fit_probe(points: Float[np.ndarray, "n 4"], labels: Float[np.ndarray, "n"], seed: int) -> Probe:
    """Average ten probes, each of them stopped early on another held-out tenth of the points.

    A soft label becomes two rows, one of each class, with the two shares of the label as weights.
    The loss is then exactly the cross-entropy with the soft label.

    Args:
        points: the points in the basis.
        labels: soft or hard labels between 0 and 1.
        seed: the seed of the splits.
    """
    from sklearn.model_selection import KFold

    scale = points.std()
    folds = KFold(min(SPLITS, len(points)), shuffle=True, random_state=seed)
    fitted = [
        _stopped_early(points[kept] / scale, labels[kept], points[out] / scale, labels[out])
        for kept, out in folds.split(points)
    ]
    weights, biases, losses = (np.array(part) for part in zip(*fitted, strict=True))
    return Probe(
        weight=torch.from_numpy(weights.mean(axis=0) / scale).float(),
        bias=float(biases.mean()),
        held_out_loss=float(losses.mean()),
    )


def cross_entropy(logits: Float[np.ndarray, "n"], labels: Float[np.ndarray, "n"]) -> float:
    """Compute the mean binary cross-entropy with soft labels, in nats."""
    return float(np.mean(np.logaddexp(0, logits) - labels * logits))


def _stopped_early(
    points: Float[np.ndarray, "n 4"],
    labels: Float[np.ndarray, "n"],
    held_points: Float[np.ndarray, "m 4"],
    held_labels: Float[np.ndarray, "m"],
) -> tuple[Float[np.ndarray, "4"], float, float]:
    """Fit the last probe before the held-out loss stops falling.

    Returns:
        Its weights, its bias, and its held-out loss in nats.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    twice = np.concatenate([points, points])
    classes = np.repeat([1, 0], len(points))
    shares = np.concatenate([labels, 1 - labels])
    share = labels.mean().clip(1 / (2 * len(labels)), 1 - 1 / (2 * len(labels)))
    bias = float(np.log(share / (1 - share)))
    best = (
        np.zeros(points.shape[1]),
        bias,
        cross_entropy(np.full(len(held_labels), bias), held_labels),
    )
    if np.ptp(labels) == 0:
        return best
    for inverse_strength in INVERSE_STRENGTHS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=inverse_strength, max_iter=1000).fit(
                twice, classes, shares
            )
        weight, bias = model.coef_[0], float(model.intercept_[0])
        loss = cross_entropy(held_points @ weight + bias, held_labels)
        if loss > best[2] - LEAST_GAIN:
            break
        best = weight, bias, loss
    return best
