"""Measure how far a condition moves the first token of a model's answers to harmless prompts.

The measure is the one by which Arditi et al. (arXiv 2406.11717, sec. 2.4 and app. C) reject
directions with side effects: KL(p || q) of the next token after the prompt, in nats. p is the
untouched model's distribution, and q the distribution under the condition.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from polyrefuse_shared.intervals import CONFIDENCE, wilson

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import NDArray
    from torch import Tensor

    from polyrefuse_models.chat_model import ChatModel

SCHEMA = 1
FILE = "drift.json"

RESAMPLES = 9999
"""The number of resamples of the bootstrap."""


@dataclass(frozen=True)
class Drift:
    """How two models differ on the same prompts of a language.

    Attributes:
        divergences: the KL divergence of each prompt, in nats, [prompt].
        same: whether each prompt's most likely first token is the same, [prompt].
    """

    divergences: NDArray[np.float64]
    same: NDArray[np.bool_]

    def record(self, seed: int) -> dict[str, Any]:
        """Return the divergences' mean, median and maximum, and the share of equal first tokens.

        The mean has a bootstrap interval and the share Wilson's interval, both of 95%.

        Args:
            seed: the seed of the bootstrap.
        """
        n = len(self.divergences)
        low, high = mean_interval(self.divergences, seed)
        agreeing = int(self.same.sum())
        agreeing_low, agreeing_high = wilson(agreeing, n)
        return {
            "n": n,
            "kl_mean": float(self.divergences.mean()),
            "kl_low": low,
            "kl_high": high,
            "kl_median": float(np.median(self.divergences)),
            "kl_max": float(self.divergences.max()),
            "first_token_agreement": agreeing / n,
            "first_token_low": float(agreeing_low),
            "first_token_high": float(agreeing_high),
        }


def log_probabilities(
    chat: ChatModel, prompts: Sequence[str]
) -> Float[Tensor, "prompt vocabulary"]:
    """Compute the log-probabilities of the first token after each prompt, in float32 on the CPU."""
    parts = [
        logits.double().log_softmax(-1).float().cpu()
        for _, logits in chat.next_token_logits(list(prompts))
    ]
    return torch.cat(parts)


def drift(
    base: Float[Tensor, "prompt vocabulary"], chat: ChatModel, prompts: Sequence[str]
) -> Drift:
    """Compare a model under a condition with the untouched one on the same prompts.

    Args:
        base: `log_probabilities` of the untouched model.
        chat: the model under the condition.
        prompts: the prompts, of one language.
    """
    divergences, same = [], []
    for part, logits in chat.next_token_logits(list(prompts)):
        before = base[part].to(logits.device).double()
        now = logits.double().log_softmax(-1)
        # Rounding may put a divergence of zero a little below zero.
        divergences.append((before.exp() * (before - now)).sum(-1).clamp(min=0).cpu())
        same.append((before.argmax(-1) == now.argmax(-1)).cpu())
    return Drift(torch.cat(divergences).numpy(), torch.cat(same).numpy())


def mean_interval(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Compute the 95% interval of a mean of skewed values by the BCa bootstrap.

    BCa is the bias-corrected and accelerated bootstrap: Efron, Better bootstrap confidence
    intervals, J. Am. Statist. Assoc. 82 (1987) 171-185. If there is a single value, or all values
    are equal, the interval is a point.

    Args:
        values: at least one value, [prompt].
        seed: the seed of the bootstrap.
    """
    from scipy.stats import bootstrap

    if len(values) < 2 or np.ptp(values) == 0:
        return float(values.mean()), float(values.mean())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy warns if an interval is a point.
        found = bootstrap(
            (values,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="BCa",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return float(found.low), float(found.high)


def document(
    drifts: Mapping[str, Drift], *, dataset: str, seed: int, **facts: Any
) -> dict[str, Any]:
    """Make the content of `drift.json`.

    Args:
        drifts: the measurement of each language.
        dataset: the dataset of the prompts.
        seed: the seed of the intervals.
        facts: further entries, which identify the model, the condition and the prompts.
    """
    return {
        "schema": SCHEMA,
        "dataset": dataset,
        "languages": {language: one.record(seed) for language, one in drifts.items()},
        "seed": seed,
        **facts,
    }
