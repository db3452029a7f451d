"""How much a direction depends on which prompts it was extracted from.

A difference of means is an estimate. What another choice of prompts would have given is told by
directions of disjoint halves of the training prompts, and of bootstrap samples of them.
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
"""Random splits of the prompts into halves."""

SAMPLES = 50
"""Bootstrap samples; every two of them are compared."""

FEWEST = 4
"""Prompts of each kind, at least: of fewer, a half would be a single prompt."""


def stability(
    harmful: Float[Tensor, "prompt d"], harmless: Float[Tensor, "prompt d"], seed: int
) -> dict[str, dict[str, Any]] | None:
    """Cosines between directions of halves of the prompts, and of bootstrap samples of them.

    Args:
        harmful: the states whose mean the direction was made of, at its position and layer.
        harmless: the same.
        seed: of splits and samples.

    Returns:
        `halves` (the two halves of a split, each against each other) and `bootstrap` (every two
        samples, of as many prompts as there are, with replacement), each with the `mean`, `low`
        and `high` (2.5 and 97.5%) of its cosines and their number `n`. None with fewer than
        `FEWEST` prompts of a kind.
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
