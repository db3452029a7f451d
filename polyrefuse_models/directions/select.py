"""Which candidate is the refusal direction: the published rule (2406.11717, appendix C)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from polyrefuse_models.directions.refusal import refusal_scores
from polyrefuse_models.interventions import ablated
from polyrefuse_tasks.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from polyrefuse_models.chat import ChatModel

KL_LIMIT = 0.2
"""Most that ablation may move the answers to harmless prompts, in nats."""

KEPT_LAYERS = 0.8
"""Share of the layers that are looked at: the last ones are too close to the unembedding."""


class NoDirection(UserError):
    """No candidate can be chosen."""


@dataclass(frozen=True)
class Candidate:
    """The scores of the direction at one position and layer; None where it was not needed.

    Attributes:
        position: token, counted from the end: -1 is the last input token.
        layer: the block at whose input the states were read.
        refusal_score: mean refusal score on harmful prompts with the direction ablated.
        steering_score: the same on harmless prompts with it added.
        kl_div_score: mean KL(base || ablated) of the next token on harmless prompts, in nats.
    """

    position: int
    layer: int
    refusal_score: float | None = None
    steering_score: float | None = None
    kl_div_score: float | None = None

    def record(self) -> dict[str, int | float | None]:
        """As `scores.json` has it."""
        return asdict(self)


def eligible(candidates: Iterable[Candidate], n_layers: int) -> list[Candidate]:
    """The candidates of the layers looked at whose refusal score is a number, the lowest first."""
    kept = (
        candidate
        for candidate in candidates
        if candidate.layer < int(KEPT_LAYERS * n_layers) and _is_number(candidate.refusal_score)
    )
    return sorted(kept, key=lambda candidate: candidate.refusal_score)


def choose(candidates: Iterable[Candidate], n_layers: int) -> Candidate | None:
    """The candidate with the lowest refusal score within the KL limit; None where there is none."""
    for candidate in eligible(candidates, n_layers):
        if _is_number(candidate.kl_div_score) and candidate.kl_div_score <= KL_LIMIT:
            return candidate
    return None


def search(
    chat: ChatModel,
    directions: Float[Tensor, "position layer d"],
    harmful: list[str],
    harmless: list[str],
    harmless_logits: Float[Tensor, "prompt vocabulary"],
    tokens: list[int],
) -> tuple[Candidate, list[Candidate]]:
    """Score candidates until the published rule's choice is certain.

    Refusal scores of the layers looked at come first; then the KL divergence, in order of refusal
    score, until one candidate passes. Where none does, the one with the lowest KL is chosen.

    Args:
        directions: candidates, position -1 last.
        harmful: validation prompts.
        harmless: validation prompts.
        harmless_logits: of the unablated model after `harmless`.
        tokens: the refusal tokens.

    Returns:
        the choice, and every candidate with the scores that were computed.

    Raises:
        NoDirection: every score is NaN, or the model has too few layers to look at any.
    """
    n_positions, n_layers = directions.shape[:2]
    scored = {
        (position, layer): Candidate(position, layer)
        for position in range(-n_positions, 0)
        for layer in range(n_layers)
    }
    looked_at = [at for at in scored if at[1] < int(KEPT_LAYERS * n_layers)]
    for at in tqdm(looked_at, desc="Scoring candidate directions"):
        with ablated(chat.model, directions[at]):
            scores = [
                refusal_scores(logits, tokens) for _, logits in chat.next_token_logits(harmful)
            ]
        scored[at] = replace(scored[at], refusal_score=torch.cat(scores).mean().item())
    for candidate in eligible(scored.values(), n_layers):
        at = (candidate.position, candidate.layer)
        with ablated(chat.model, directions[at]):
            moved = divergence(chat, harmless, harmless_logits)
        scored[at] = replace(candidate, kl_div_score=moved)
        if moved <= KL_LIMIT:
            break
    chosen = choose(scored.values(), n_layers) or _least_moving(scored.values())
    return chosen, list(scored.values())


def divergence(
    chat: ChatModel, prompts: list[str], base_logits: Float[Tensor, "prompt vocabulary"]
) -> float:
    """Mean KL(base || now) of the next token over `prompts`, in nats."""
    total = 0.0
    for part, logits in chat.next_token_logits(prompts):
        base = base_logits[part].double().log_softmax(-1)
        now = logits.cpu().double().log_softmax(-1)
        total += (base.exp() * (base - now)).sum().item()
    return total / len(prompts)


def _least_moving(candidates: Iterable[Candidate]) -> Candidate:
    known = [candidate for candidate in candidates if _is_number(candidate.kl_div_score)]
    if not known:
        raise NoDirection(
            "No direction can be chosen: every candidate of the layers looked at (the first "
            f"{KEPT_LAYERS:.0%}) scored NaN or there is none; check the model's outputs and depth."
        )
    return min(known, key=lambda candidate: candidate.kl_div_score)


def _is_number(score: float | None) -> bool:
    return score is not None and not math.isnan(score)
