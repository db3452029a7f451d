"""Refusal directions as the code of arXiv 2505.17306 finds them, written anew from what it does.

Nothing of this package is imported, and nothing is shared between candidates: every candidate has
forward passes of its own, over prompts that are padded on the left, with hooks at every block's
input and every attention and MLP output (3 a layer). That code sits on that of arXiv 2406.11717.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

KL_LIMIT = 0.2
PRUNED_LAYERS = 0.2
EPSILON_OF_ODDS = 1e-8
EPSILON_OF_KL = 1e-6


@dataclass(frozen=True)
class Scored:
    """A candidate's three scores; `kl_published` is the KL divergence as the published code has it,
    which adds 1e-6 to each of the vocabulary's probabilities."""

    position: int
    layer: int
    refusal: float
    steering: float
    kl: float
    kl_published: float


class Reference:
    """A Llama, its tokenizer, and what stands around a prompt.

    Args:
        model: a `LlamaForCausalLM` in float32.
        tokenizer: pads with any token.
        template: a prompt goes in the place of `{instruction}`.
        refusal_tokens: ids of the tokens that open a refusal.
    """

    def __init__(
        self, model: Any, tokenizer: Any, template: str, refusal_tokens: Sequence[int]
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.template = template
        self.refusal_tokens = list(refusal_tokens)
        self.layers = list(model.model.layers)
        behind = template.split("{instruction}")[-1]
        self.n_positions = len(tokenizer(behind, add_special_tokens=False).input_ids)

    # --- forward passes

    def _inputs(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        rows = [
            self.tokenizer(
                self.template.replace("{instruction}", prompt), add_special_tokens=False
            ).input_ids
            for prompt in prompts
        ]
        longest = max(map(len, rows))
        ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        return {"input_ids": ids, "attention_mask": mask}

    @torch.no_grad()
    def last_logits(self, prompts: Sequence[str]) -> Tensor:
        """Logits after each prompt, float64."""
        return self.model(**self._inputs(prompts)).logits[:, -1].double()

    @torch.no_grad()
    def mean_states(self, prompts: Sequence[str]) -> Tensor:
        """Mean residual state [position, layer, d] at each block's input, float64."""
        total = torch.zeros(
            self.n_positions, len(self.layers), self.model.config.hidden_size, dtype=torch.float64
        )
        hooks = []
        for index, layer in enumerate(self.layers):

            def add(_module: Any, args: Any, kwargs: Any, index: int = index) -> None:
                states = args[0] if args else kwargs["hidden_states"]
                total[:, index] += states[:, -self.n_positions :].double().sum(0)

            hooks.append(layer.register_forward_pre_hook(add, with_kwargs=True))
        try:
            for prompt in prompts:
                self.model(**self._inputs([prompt]))
        finally:
            for hook in hooks:
                hook.remove()
        return total / len(prompts)

    # --- interventions

    @contextmanager
    def ablating(self, direction: Tensor) -> Iterator[None]:
        """The unit direction projected out at 3 places of every layer."""
        unit = (direction.double() / direction.double().norm()).float()

        def without(states: Tensor) -> Tensor:
            return states - (states @ unit)[..., None] * unit

        with self._hooked(range(len(self.layers)), without, outputs=True):
            yield

    @contextmanager
    def adding(self, direction: Tensor, layer: int) -> Iterator[None]:
        """The direction added at one layer's input, at every token."""
        with self._hooked([layer], lambda states: states + direction.float(), outputs=False):
            yield

    @contextmanager
    def _hooked(
        self, layers: Sequence[int], change: Callable[[Tensor], Tensor], outputs: bool
    ) -> Iterator[None]:
        def before(_module: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
            if args:
                return (change(args[0]), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

        def after(_module: Any, _args: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (change(output[0]), *output[1:])
            return change(output)

        hooks = []
        for index in layers:
            layer = self.layers[index]
            hooks.append(layer.register_forward_pre_hook(before, with_kwargs=True))
            if outputs:
                hooks += [m.register_forward_hook(after) for m in (layer.self_attn, layer.mlp)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    # --- scores

    def refusal_scores(self, prompts: Sequence[str]) -> list[float]:
        """Log-odds of a refusal token, a prompt."""
        p = self.last_logits(prompts).softmax(-1)[:, self.refusal_tokens].sum(-1)
        return ((p + EPSILON_OF_ODDS).log() - (1 - p + EPSILON_OF_ODDS).log()).tolist()

    def filtered(self, prompts: Sequence[str], *, refused: bool) -> list[str]:
        """The prompts whose refusal score is above 0, or below it."""
        sign = 1 if refused else -1
        scores = self.refusal_scores(prompts)
        return [p for p, score in zip(prompts, scores, strict=True) if sign * score > 0]

    def candidates(self, harmful: Sequence[str], harmless: Sequence[str]) -> Tensor:
        """Differences of mean states [position, layer, d], float64."""
        return self.mean_states(harmful) - self.mean_states(harmless)

    def score(
        self,
        candidates: Tensor,
        places: Sequence[tuple[int, int]],
        harmful: Sequence[str],
        harmless: Sequence[str],
    ) -> list[Scored]:
        """The scores of the candidates at some places (position, layer)."""
        untouched = self.last_logits(harmless).log_softmax(-1)
        scored = []
        for position, layer in places:
            direction = candidates[position, layer]
            with self.ablating(direction):
                refusal = self.refusal_scores(harmful)
                now = self.last_logits(harmless).log_softmax(-1)
            with self.adding(direction, layer):
                steering = self.refusal_scores(harmless)
            p, q = untouched.exp(), now.exp()
            published = p * ((p + EPSILON_OF_KL).log() - (q + EPSILON_OF_KL).log())
            scored.append(
                Scored(
                    position=position,
                    layer=layer,
                    refusal=sum(refusal) / len(refusal),
                    steering=sum(steering) / len(steering),
                    kl=(p * (untouched - now)).sum(-1).mean().item(),
                    kl_published=published.sum(-1).mean().item(),
                )
            )
        return scored

    def choose(self, scored: Sequence[Scored], *, published_kl: bool) -> tuple[int, int] | None:
        """The place of the lowest refusal score within the limits; None where there is none."""
        kept = [
            one
            for one in scored
            if not any(map(math.isnan, (one.refusal, one.steering, one.kl)))
            and one.layer < int(len(self.layers) * (1 - PRUNED_LAYERS))
            and (one.kl_published if published_kl else one.kl) <= KL_LIMIT
        ]
        best = min(kept, key=lambda one: one.refusal, default=None)
        return None if best is None else (best.position, best.layer)
