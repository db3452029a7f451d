"""Measure how much a direction depends on the prompts that it was extracted from.

A difference of means is an estimate. Directions from disjoint halves of the training prompts, and
from bootstrap samples of them, show how much another choice of prompts would have changed it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from polyrefuse_models.directions.extract import cosines

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

SPLITS = 100
"""The number of random splits of the prompts into halves."""

SAMPLES = 50
"""The number of bootstrap samples. Every pair of them is compared."""

FEWEST = 4
"""The fewest prompts of each kind: with fewer, a half would be a single prompt."""


def stability(
    harmful: Float[Tensor, "prompt d"], harmless: Float[Tensor, "prompt d"], seed: int
) -> dict[str, dict[str, Any]] | None:
    """Compute the cosines between directions from halves and from bootstrap samples of the prompts.

    Args:
        harmful: the states of the harmful prompts that the direction was made from, at its
            position and layer.
        harmless: the states of the harmless prompts, likewise.
        seed: the seed of the splits and samples.

    Returns:
        `halves` compares the two halves of each split, and `bootstrap` every pair of samples, which
        are drawn with replacement and are as large as the whole. Each has the `mean` of its
        cosines, their 2.5% and 97.5% quantiles `low` and `high`, and their number `n`. None if
        there are fewer than `FEWEST` prompts of a kind.
    """
    if min(len(harmful), len(harmless)) < FEWEST:
        return None
    random = np.random.default_rng(seed)
    states = [kind.double() for kind in (harmful, harmless)]
    halves = []
    for _ in range(SPLITS):
        shuffled = [kind[random.permutation(len(kind))] for kind in states]
        first = _direction(*(kind[: len(kind) // 2] for kind in shuffled))
        second = _direction(*(kind[len(kind) // 2 :] for kind in shuffled))
        halves.append(cosines(torch.stack([first, second]))[0, 1].item())
    samples = torch.stack(
        [
            _direction(*(kind[random.integers(len(kind), size=len(kind))] for kind in states))
            for _ in range(SAMPLES)
        ]
    )
    above = np.triu_indices(SAMPLES, k=1)
    return {
        "halves": _summary(np.array(halves)),
        "bootstrap": _summary(cosines(samples).numpy()[above]),
    }


def _direction(
    harmful: Float[Tensor, "prompt d"], harmless: Float[Tensor, "prompt d"]
) -> Float[Tensor, "d"]:
    return harmful.mean(0) - harmless.mean(0)


def _summary(values: np.ndarray) -> dict[str, Any]:
    low, high = np.quantile(values, [0.025, 0.975])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high), "n": len(values)}
