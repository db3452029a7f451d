"""The prompts that a direction is made from: those that the model refuses, or answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyrefuse_models.directions.refusal import refusal_scores

if TYPE_CHECKING:
    from polyrefuse_models.directions.extract import Observed

FEWEST = 16
"""Where the filter by refusal score leaves fewer prompts than this, all are used."""


def filtered(
    which: str, observed: Observed, tokens: list[int] | None, above: bool, warnings: list[str]
) -> list[int]:
    """Indices of the prompts whose refusal score is above, or below, 0; all of them if too few, or
    if there are no tokens to tell.
    """
    if tokens is None:
        return list(range(len(observed.logits)))
    scores = refusal_scores(observed.logits, tokens)
    kept = ((scores > 0) if above else (scores < 0)).nonzero().flatten().tolist()
    if len(kept) == len(scores):  # however few they are
        return kept
    side = "above" if above else "below"
    passed = f"only {len(kept)} of {len(scores)} {which} prompts got a refusal score {side} 0"
    if len(kept) < FEWEST:
        warnings.append(
            f"{passed}, fewer than {FEWEST}: all were used, so the direction is not one between "
            "prompts that the model refuses and prompts that it answers"
        )
        return list(range(len(scores)))
    if 2 * len(kept) < len(scores):
        does = "answers" if above else "refuses"
        warnings.append(f"{passed}: the model {does} most of them, and the others alone were used")
    return kept
