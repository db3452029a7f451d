"""Filter the prompts of a direction by whether the model refuses or answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyrefuse_models.directions.refusal import refusal_scores

if TYPE_CHECKING:
    from polyrefuse_models.directions.extract import Observed

FEWEST = 16
"""The fewest prompts that the filter may leave; if fewer pass, all prompts are used."""


def filtered(
    which: str, observed: Observed, tokens: list[int] | None, above: bool, warnings: list[str]
) -> list[int]:
    """Select the prompts whose refusal score is above or below 0.

    Args:
        which: what the prompts are, for warnings: "harmful training".
        observed: what one forward pass over the prompts showed.
        tokens: the refusal tokens; None keeps all prompts.
        above: True keeps the prompts with a score above 0, False those with a score below 0.
        warnings: a list to which a sentence is added if few prompts pass.

    Returns:
        The indices of the selected prompts, or of all prompts if fewer than `FEWEST` pass.
    """
    if tokens is None:
        return list(range(len(observed.logits)))
    scores = refusal_scores(observed.logits, tokens)
    kept = ((scores > 0) if above else (scores < 0)).nonzero().flatten().tolist()
    if len(kept) == len(scores):  # however few they are
        return kept
    side = "above" if above else "below"
    passed = f"only {len(kept)} of {len(scores)} {which} prompts have a refusal score {side} 0"
    if len(kept) < FEWEST:
        warnings.append(
            f"{passed}, fewer than {FEWEST}. All of them were used, so the direction does not "
            "separate prompts that the model refuses from prompts that it answers"
        )
        return list(range(len(scores)))
    if 2 * len(kept) < len(scores):
        does = "answers" if above else "refuses"
        warnings.append(f"{passed}. The model {does} most of them, and only the others were used")
    return kept
