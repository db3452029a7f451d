"""What a candidate direction does to a model: the three scores of 2406.11717, appendix C.

Several candidates share a forward pass, a row each, and all rows read the same prompt: nothing is
padded, and what the rows have in common is computed once.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from polyrefuse_models.anatomy import dissect, input_device
from polyrefuse_models.directions.refusal import refusal_scores
from polyrefuse_models.hooks import Hooks
from polyrefuse_models.interventions import ablated
from polyrefuse_models.key_value_cache import shared_cache, with_cache

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor
    from transformers import PreTrainedModel

    from polyrefuse_models.chat_model import ChatModel


class SideBySide:
    """Candidates that are ablated side by side, each in its own row of every forward pass.

    What all prompts begin with, the template's head, is read once: its keys and values under each
    candidate's ablation serve every prompt. Models that keep more than those read whole prompts.

    Args:
        chat: the model.
        directions: one a candidate, any scale.
        prompts: what will be asked.
    """

    def __init__(
        self, chat: ChatModel, directions: Float[Tensor, "candidate d"], prompts: list[str]
    ) -> None:
        self._model = chat.model
        self._directions = directions
        self._prompts = chat.token_ids(prompts)
        # The last token of the shortest prompt is left, since its logits are asked for.
        head = os.path.commonprefix([ids.tolist()[:-1] for ids in self._prompts])
        self._head = torch.tensor(head, dtype=torch.long)
        self._cache = shared_cache(self._forward(self._head, None)) if head else None
        if self._cache is None:
            self._head = self._head[:0]

    def keep(self, rows: Int[Tensor, "kept"]) -> None:
        """Go on with these candidates only."""
        self._directions = self._directions[rows]
        if self._cache is not None:
            self._cache.batch_select_indices(rows)  # each layer's cache may be on another device

    def logits(self, prompt: int) -> Float[Tensor, "candidate vocabulary"]:
        """Logits of the answer's first token after one of the prompts, in float32."""
        # A copy, since the model appends to the cache that it is given.
        rest, cache = self._prompts[prompt][len(self._head) :], copy.deepcopy(self._cache)
        return self._forward(rest, cache).logits[:, -1].float()

    @torch.inference_mode()
    def _forward(self, ids: Int[Tensor, "token"], cache: Any) -> Any:
        rows = ids.to(input_device(self._model)).expand(len(self._directions), -1)
        with ablated(self._model, self._directions):
            return self._model(
                input_ids=rows,
                **with_cache(self._model, cache),
                use_cache=len(self._head) > 0,
                logits_to_keep=1,
            )


def refusal_when_ablated(
    chat: ChatModel,
    directions: Float[Tensor, "candidate d"],
    prompts: list[str],
    tokens: list[int],
) -> list[float]:
    """Mean refusal score over `prompts` with each candidate ablated."""
    candidates = SideBySide(chat, directions, prompts)
    scores = [refusal_scores(candidates.logits(i), tokens) for i in range(len(prompts))]
    return torch.stack(scores).mean(0).tolist()


def divergences(
    chat: ChatModel,
    directions: Float[Tensor, "candidate d"],
    prompts: list[str],
    base_logits: Float[Tensor, "prompt vocabulary"],
    limit: float = math.inf,
) -> list[float | None]:
    """Mean KL(base || ablated) of the next token over `prompts` for each candidate, in nats.

    Args:
        base_logits: of the unablated model after each prompt.
        limit: a candidate is left as soon as its sum exceeds `limit` times the number of prompts.

    Returns:
        None for a candidate that was left.
    """
    candidates = SideBySide(chat, directions, prompts)
    sums = torch.zeros(len(directions), dtype=torch.float64)
    running = torch.arange(len(directions))
    for prompt, base in enumerate(base_logits):
        sums[running] += _divergence(base, candidates.logits(prompt)).cpu()
        # Not `<=`: a NaN is no reason to stop, it is the score.
        within = ~(sums[running] / len(prompts) > limit)
        if not within.any():
            return [None] * len(directions)
        if not within.all():
            candidates.keep(within.nonzero().flatten())
            running = running[within]
    means = (sums / len(prompts)).tolist()
    complete = set(running.tolist())
    return [mean if i in complete else None for i, mean in enumerate(means)]


def refusal_when_added(
    chat: ChatModel,
    directions: Float[Tensor, "candidate d"],
    layers: list[int],
    prompts: list[str],
    tokens: list[int],
) -> list[float]:
    """Mean refusal score over `prompts` with each candidate added at the input of its block.

    Args:
        directions: added as they are, not normalised, at every position.
        layers: of each candidate, ascending.
    """
    scores = []
    for ids in chat.token_ids(prompts):
        with joining(chat.model, directions, layers), torch.inference_mode():
            output = chat.model(
                input_ids=ids[None].to(input_device(chat.model)), use_cache=False, logits_to_keep=1
            )
        scores.append(refusal_scores(output.logits[1:, -1].float(), tokens))
    return torch.stack(scores).mean(0).tolist()


@contextmanager
def joining(
    model: PreTrainedModel, directions: Float[Tensor, "candidate d"], layers: list[int]
) -> Iterator[None]:
    """A batch of one row grows from block to block: each candidate joins it at its own layer.

    The row that joins is row 0, which nothing was added to, plus the direction. So the blocks below
    a candidate's layer are run for row 0 alone, whatever the number of candidates.

    Args:
        directions: added as they are.
        layers: of each candidate, ascending: the order in which the rows join after row 0.
    """

    def join(
        mine: Float[Tensor, "candidate d"], x: Float[Tensor, "row token d"]
    ) -> Float[Tensor, "row token d"]:
        return torch.cat([x, x[:1] + mine[:, None].to(x)])

    def alike(x: Float[Tensor, "1 token d"], rows: int) -> Float[Tensor, "row token d"]:
        return x.expand(rows, -1, -1)

    rows = 1
    with Hooks() as hooks:
        for at, block in enumerate(dissect(model).blocks):
            mine = directions[[i for i, layer in enumerate(layers) if layer == at]]
            rows += len(mine)
            if len(mine):
                hooks.on_input(block.module, partial(join, mine))
            if block.beside:
                hooks.on_others(block.module, partial(alike, rows=rows))
        yield


def _divergence(
    base: Float[Tensor, "vocabulary"], now: Float[Tensor, "candidate vocabulary"]
) -> Float[Tensor, "candidate"]:
    """KL(base || now) in float64, in nats."""
    log_p = base.to(now.device).double().log_softmax(-1)
    return (log_p.exp() * (log_p - now.double().log_softmax(-1))).sum(-1)
