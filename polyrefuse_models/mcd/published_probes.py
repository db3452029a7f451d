"""Fit probes as the published code does (2505.11835): by gradient descent, stopped early.

The steepness of such a probe depends on the scale of the states, because the learning rate is fixed
and training stops once three steps together lower the held-out loss by less than `LEAST_GAIN`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import expit

from polyrefuse_models.mcd.probes import LEAST_GAIN, SPLITS, Probe, cross_entropy

if TYPE_CHECKING:
    from jaxtyping import Float, Int

LEARNING_RATE, WEIGHT_DECAY = 1e-4, 1e-2
DECAYS, EPSILON = (0.9, 0.999), 1e-8
"""The settings of AdamW. The published code sets the learning rate, and the others are the defaults
of torch."""

MOST_STEPS = 10_000
PATIENCE = 3
"""The number of successive steps without a gain of `LEAST_GAIN` that ends training."""


def published(
    points: Float[np.ndarray, "n 4"],
    not_refused: Float[np.ndarray, "n"],
    harmless: Float[np.ndarray, "n"],
    seed: int,
) -> tuple[Probe, Probe]:
    """Fit the refusal probe as a mean over ten splits, and the harmfulness probe on the last split.

    Args:
        points: states in the basis.
        not_refused: soft labels between 0 and 1.
        harmless: labels 0 or 1.
        seed: the seed of the splits and of the initial weights of the probes.
    """
    order = list(range(len(points)))
    random.Random(seed).shuffle(order)
    splits = np.array_split(np.array(order), min(SPLITS, len(order)))
    beginnings = _beginnings(points.shape[1], seed)
    refusal = [descend(points, not_refused, held, next(beginnings)) for held in splits]
    harmfulness = descend(points, harmless, splits[-1], next(beginnings))
    return _mean(refusal), _mean([harmfulness])


def descend(
    points: Float[np.ndarray, "n d"],
    labels: Float[np.ndarray, "n"],
    held_out: Int[np.ndarray, "m"],
    beginning: Float[np.ndarray, "d+1"],
) -> tuple[Float[np.ndarray, "d+1"], float]:
    """Fit one probe by gradient descent.

    Args:
        points: the points in the basis.
        labels: soft or hard labels between 0 and 1.
        held_out: indices of the points that are not trained on.
        beginning: the weights and the bias to start from.

    Returns:
        The weights, followed by the bias, after the last step with a gain; and their held-out loss
        in nats.
    """
    inputs = np.column_stack([points, np.ones(len(points))])
    held_inputs, held_labels = inputs[held_out], labels[held_out]
    kept = np.setdiff1d(np.arange(len(points)), held_out)
    inputs, labels = inputs[kept], labels[kept]
    weights, best, best_loss = beginning, beginning, math.inf
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    without_gain = 0
    for step in range(1, MOST_STEPS + 1):
        gradient = inputs.T @ (expit(inputs @ weights) - labels) / len(labels)
        first = DECAYS[0] * first + (1 - DECAYS[0]) * gradient
        second = DECAYS[1] * second + (1 - DECAYS[1]) * gradient**2
        unbiased = [m / (1 - decay**step) for m, decay in zip((first, second), DECAYS, strict=True)]
        move = unbiased[0] / (np.sqrt(unbiased[1]) + EPSILON)
        weights = (1 - LEARNING_RATE * WEIGHT_DECAY) * weights - LEARNING_RATE * move
        loss = cross_entropy(held_inputs @ weights, held_labels)
        if loss < best_loss - LEAST_GAIN:
            best, best_loss, without_gain = weights, loss, 0
            continue
        without_gain += 1
        if without_gain == PATIENCE:
            break
    return best, best_loss


def _beginnings(dimensions: int, seed: int) -> Iterator[Float[np.ndarray, "d+1"]]:
    """Yield initial weights and biases as `torch.nn.Linear(dimensions, 1)` draws them."""
    generator = torch.Generator().manual_seed(seed)
    bound = 1 / math.sqrt(dimensions)
    while True:
        parts = [
            torch.empty(size).uniform_(-bound, bound, generator=generator)
            for size in (dimensions, 1)
        ]
        yield torch.cat(parts).double().numpy()


def _mean(fitted: list[tuple[Float[np.ndarray, "d+1"], float]]) -> Probe:
    weights = np.mean([weights for weights, _ in fitted], axis=0)
    return Probe(
        weight=torch.from_numpy(weights[:-1]).float(),
        bias=float(weights[-1]),
        held_out_loss=float(np.mean([loss for _, loss in fitted])),
    )
