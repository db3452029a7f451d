"""Score candidates: all of them, or only as many as a rule needs for its choice."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from polyrefuse_models.directions.scores import (
    divergences,
    refusal_when_ablated,
    refusal_when_added,
    states_when_ablated,
    states_when_added,
)
from polyrefuse_models.directions.select import (
    DEFAULT,
    Candidate,
    Rule,
    choose,
    eligible,
    least_moving,
)

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from polyrefuse_models.chat_model import ChatModel
    from polyrefuse_models.directions.cosmic import Poles

WAVE = 8
"""The number of candidates whose KL divergence is computed together. In the published scores the
first candidate within the limit is the 4th to 11th, and a candidate above the limit is usually
given up after a few prompts. If a pass has more rows than this, it takes more prompts at a time.
"""


@dataclass(frozen=True)
class Trial:
    """Candidates, and the prompts that they are tried on.

    Attributes:
        chat: the model. Its `batch_size` is the largest number of rows in a forward pass, which has
            one row for each candidate and prompt.
        directions: the candidates, not normalised, with position -1 last.
        harmful: the harmful validation prompts.
        harmless: the harmless validation prompts.
        harmless_logits: the logits of the untouched model after `harmless`.
        tokens: the refusal tokens; empty if `poles` are given.
        poles: the states to compare with, for a rule that reads no tokens.
    """

    chat: ChatModel
    directions: Float[Tensor, "position layer d"]
    harmful: list[str]
    harmless: list[str]
    harmless_logits: Float[Tensor, "prompt vocabulary"]
    tokens: list[int]
    poles: Poles | None = None

    @property
    def n_layers(self) -> int:
        return self.directions.shape[1]

    def candidates(self) -> list[Candidate]:
        """List every candidate without scores, position by position."""
        positions, layers, _ = self.directions.shape
        return [Candidate(p, layer) for p in range(-positions, 0) for layer in range(layers)]

    def ranked(self, candidates: list[Candidate]) -> list[Candidate]:
        """Compute the scores that candidates are ranked by.

        These are COSMIC scores if there are `poles`, and refusal scores otherwise.
        """
        return (
            self.refusals(candidates) if self.poles is None else self.turns(candidates, self.poles)
        )

    def complete(self, candidates: list[Candidate]) -> list[Candidate]:
        """Compute every score that a rule of this kind has."""
        moved = self.moves(self.ranked(candidates))
        return self.steers(moved) if self.poles is None else moved

    def turns(self, candidates: list[Candidate], poles: Poles) -> list[Candidate]:
        """Compute the cosines and COSMIC scores."""
        comply: list[float] = []
        refuse: list[float] = []
        at = poles.layers, poles.positions
        for part in self._batches(candidates, "COSMIC scores"):
            rows, layers = self._rows(part), [candidate.layer for candidate in part]
            comply += poles.comply(states_when_ablated(self.chat, rows, self.harmful, *at))
            refuse += poles.refuse(states_when_added(self.chat, rows, layers, self.harmless, *at))
        return [
            replace(c, comply_cosine=a, refuse_cosine=b, cosmic_score=a + b)
            for c, a, b in zip(candidates, comply, refuse, strict=True)
        ]

    def refusals(self, candidates: list[Candidate]) -> list[Candidate]:
        """Compute the refusal scores."""
        scores: list[float] = []
        for part in self._batches(candidates, "refusal scores"):
            scores += refusal_when_ablated(self.chat, self._rows(part), self.harmful, self.tokens)
        return [replace(c, refusal_score=s) for c, s in zip(candidates, scores, strict=True)]

    def moves(self, candidates: list[Candidate], limit: float = math.inf) -> list[Candidate]:
        """Compute the KL divergences; None for a candidate above the limit."""
        scores: list[float | None] = []
        for part in self._batches(candidates, "KL divergence"):
            scores += divergences(
                self.chat, self._rows(part), self.harmless, self.harmless_logits, limit
            )
        return [replace(c, kl_div_score=s) for c, s in zip(candidates, scores, strict=True)]

    def steers(self, candidates: list[Candidate]) -> list[Candidate]:
        """Compute the steering scores."""
        scores: list[float] = []
        for part in self._batches(candidates, "steering scores"):
            layers = [candidate.layer for candidate in part]
            scores += refusal_when_added(
                self.chat, self._rows(part), layers, self.harmless, self.tokens
            )
        return [replace(c, steering_score=s) for c, s in zip(candidates, scores, strict=True)]

    def _batches(self, candidates: list[Candidate], what: str) -> tqdm[list[Candidate]]:
        """Divide candidates into equal batches of at most `chat.batch_size`."""
        n = -(-len(candidates) // self.chat.batch_size)
        bounds = [len(candidates) * i // max(n, 1) for i in range(n + 1)]
        parts = [candidates[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]
        return tqdm(
            parts, desc=f"{len(candidates)} candidate directions, {what}", leave=False, disable=None
        )

    def _rows(self, candidates: list[Candidate]) -> Float[Tensor, "candidate d"]:
        return torch.stack([self.directions[c.position, c.layer] for c in candidates])


def search(trial: Trial, rule: Rule = DEFAULT) -> tuple[Candidate, list[Candidate]]:
    """Score candidates until the choice of the rule is certain.

    The search first computes the scores that rank the candidates, in the layers that the rule
    considers. It then goes through the candidates in this order and computes the KL divergence, and
    the steering score if the rule reads it, until one candidate is within the limits. If none is,
    it chooses the candidate with the lowest KL divergence, provided that the rule falls back to it.
    For a rule that reads tokens, it always computes the steering score of the choice, and does not
    choose a candidate for which this is NaN.

    Returns:
        The choice, and every candidate with the scores that were computed on all prompts.

    Raises:
        NoDirection: no candidate is within the limits of a rule that does not fall back, every
            score is NaN, or the model has too few layers for the rule to consider any.
    """
    n_layers = trial.n_layers
    scored = {_at(candidate): candidate for candidate in trial.candidates()}

    def record(candidates: list[Candidate]) -> None:
        scored.update((_at(candidate), candidate) for candidate in candidates)

    record(trial.ranked([c for c in scored.values() if c.layer < rule.layers(n_layers)]))
    ordered = eligible(scored.values(), n_layers, rule)
    size = min(WAVE, trial.chat.batch_size)
    waves = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    for wave in waves:
        moved = trial.moves(wave, rule.kl_limit)
        record(moved)
        # A divergence of None is above the limit. For the rest, only steering scores are missing.
        if left := [c for c in moved if c.kl_div_score is not None and rule.admits(c) is None]:
            record(trial.steers(left))
        while chosen := choose(scored.values(), n_layers, rule):
            if rule.reports(chosen):
                return chosen, list(scored.values())
            record(trial.steers([chosen]))
    if rule.falls_back:
        # To find the lowest divergence, give up each candidate once it is above the lowest so far.
        lowest = math.inf
        for wave in waves:
            moved = trial.moves(wave, lowest)
            record(moved)
            lowest = min([lowest, *(c.kl_div_score for c in moved if c.kl_div_score is not None)])
    least = least_moving(scored.values(), n_layers, rule)
    while not rule.reports(least):
        record(trial.steers([least]))
        least = least_moving(scored.values(), n_layers, rule)
    return least, list(scored.values())


def score_all(trial: Trial, rule: Rule = DEFAULT) -> tuple[Candidate, list[Candidate]]:
    """Compute every score of every candidate, and choose as `search` does.

    Returns:
        The choice, and every candidate with its scores.

    Raises:
        NoDirection: as in `search`.
    """
    scored = sorted(
        trial.complete(trial.candidates()),
        key=lambda candidate: (candidate.position, candidate.layer),
    )
    chosen = choose(scored, trial.n_layers, rule) or least_moving(scored, trial.n_layers, rule)
    return chosen, scored


def _at(candidate: Candidate) -> tuple[int, int]:
    return candidate.position, candidate.layer
