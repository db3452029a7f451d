"""How far a condition moves a model's answers to harmless prompts, by their first token.

The measure is that by which Arditi et al. (arXiv 2406.11717, sec. 2.4 and app. C) reject directions
with side effects: KL(p || q) of the next token after the prompt, where p is the untouched model's
distribution and q that under the condition, in nats.
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
"""Of the bootstrap."""


@dataclass(frozen=True)
class Drift:
    """Two models on the same prompts of a language.

    Attributes:
        divergences: KL of each prompt, in nats.
        same: whether each prompt's most likely first token is the same.
    """

    divergences: NDArray[np.float64]
    same: NDArray[np.bool_]

    def record(self, seed: int) -> dict[str, Any]:
        """Mean with its 95% interval, median, largest, and the share of prompts with one token."""
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
    """Logarithms of the probabilities of the first token after each prompt, float32, on the CPU."""
    parts = [
        logits.double().log_softmax(-1).float().cpu()
        for _, logits in chat.next_token_logits(list(prompts))
    ]
    return torch.cat(parts)


def drift(
    base: Float[Tensor, "prompt vocabulary"], chat: ChatModel, prompts: Sequence[str]
) -> Drift:
    """Compare a model with what another one said of the same prompts.

    Args:
        base: `log_probabilities` of the untouched model.
        chat: the model under the condition.
        prompts: of one language.
    """
    divergences, same = [], []
    for part, logits in chat.next_token_logits(list(prompts)):
        before = base[part].to(logits.device).double()
        now = logits.double().log_softmax(-1)
        # Rounding may leave a divergence of nothing a little below zero.
        divergences.append((before.exp() * (before - now)).sum(-1).clamp(min=0).cpu())
        same.append((before.argmax(-1) == now.argmax(-1)).cpu())
    return Drift(torch.cat(divergences).numpy(), torch.cat(same).numpy())


def mean_interval(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """The 95% interval of a mean of skewed values: bias-corrected and accelerated bootstrap.

    Efron, Better bootstrap confidence intervals, J. Am. Statist. Assoc. 82 (1987) 171-185.

    Args:
        values: at least one.
        seed: of the bootstrap.
    """
    from scipy.stats import bootstrap

    if len(values) < 2 or np.ptp(values) == 0:
        return float(values.mean()), float(values.mean())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of intervals that are a point
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
    """What `drift.json` holds.

    Args:
        drifts: by language.
        dataset: whose prompts.
        seed: of the intervals.
        facts: what tells the model, the condition and the prompts from others.
    """
    return {
        "schema": SCHEMA,
        "dataset": dataset,
        "languages": {language: one.record(seed) for language, one in drifts.items()},
        "seed": seed,
        **facts,
    }
