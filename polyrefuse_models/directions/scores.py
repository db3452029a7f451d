"""Measure what each candidate direction does to a model.

The measures are the three scores of 2406.11717, appendix C, and the mean states that
`directions.cosmic` compares.

Each row of a forward pass is one candidate on one prompt. A pass takes as many prompts as the batch
has rows for. Shorter prompts are padded on the right, where no earlier token sees the padding. The
tokens that all prompts begin with are computed once for each candidate. All tokens are put on the
device before the first pass, and results are read as late as possible, so that the host runs ahead
of the device.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils.rnn import pad_sequence

from polyrefuse_models import cudnn_attention
from polyrefuse_models.anatomy import decoder_blocks, dissect, input_device
from polyrefuse_models.directions.refusal import refusal_scores
from polyrefuse_models.hooks import Hooks
from polyrefuse_models.interventions import Ablation, add_rows
from polyrefuse_models.interventions.projection import Copies
from polyrefuse_models.key_value_cache import lent, shared_cache, with_cache

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor
    from transformers import PreTrainedModel

    from polyrefuse_models.chat_model import ChatModel


def common_head(prompts: list[list[int]], left: int = 1) -> list[int]:
    """Find the tokens that all prompts begin with.

    Args:
        prompts: the token ids of each prompt.
        left: how many tokens at the end of every prompt cannot belong to the head, since their
            logits or states are needed.
    """
    return list(os.path.commonprefix([ids[:-left] for ids in prompts]))


class SideBySide:
    """Candidates that are tried side by side, each in its own rows of every forward pass.

    The tokens that all prompts begin with are read once: their keys and values under each candidate
    serve every prompt. Models that keep more than keys and values read whole prompts. The hooks are
    in the model during a `with` block.

    Args:
        chat: the model. Its `batch_size` is the largest number of rows, unless there are more
            candidates.
        directions: one direction for each candidate, of any length.
        prompts: the prompts that will be read.
        intervene: a function that makes the intervention in which each direction acts on its own
            equal part of a batch.
        positions: the number of tokens at the end of a prompt whose states `states` yields. No
            prompt may be shorter.

    Attributes:
        order: the indices of `prompts`, with the longest prompt first. `passes` yields slices of
            it.
    """

    def __init__(
        self,
        chat: ChatModel,
        directions: Float[Tensor, "candidate d"],
        prompts: list[str],
        intervene: Callable[[Tensor], Ablation | AddedRows] = Ablation,
        *,
        positions: int = 1,
    ) -> None:
        self._model = chat.model
        self._most_rows = chat.batch_size
        self._directions = directions
        self._intervene = intervene
        ids = chat.token_ids(prompts)
        self.order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        self._prompts = [ids[i] for i in self.order]
        self._intervention = intervene(directions)
        self._last = Hooks()
        self._positions = positions
        self._undo = ExitStack()

    def __enter__(self) -> SideBySide:
        try:
            self._undo.enter_context(cudnn_attention.without_cudnn_attention())
            self._undo.callback(lambda: self._intervention.remove())
            self._intervention.install(self._model)
            self._undo.callback(self._last.remove)
            unembedding: Any = self._model.get_output_embeddings()
            self._last.on_input(unembedding, self._last_states, name="input")
            self._read_head()
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def keep(self, candidates: list[int]) -> None:
        """Continue with these candidates only."""
        rows = torch.tensor(candidates)
        self._directions = self._directions[rows]
        self._intervention.remove()
        self._intervention = self._intervene(self._directions)
        self._intervention.install(self._model)
        if self._cache is not None:
            self._cache.batch_select_indices(rows)  # each layer's cache may be on another device

    def passes(self) -> Iterator[tuple[slice, Float[Tensor, "candidate prompt vocabulary"]]]:
        """Run the forward passes over all prompts one by one, with the longest prompts first.

        Yields:
            The slice of `order` that a pass read, and the logits of the first token of each answer
            in float32, on the model's device.
        """
        device = input_device(self._model)
        rests = [ids[self._n_head :] for ids in self._prompts]
        # Any token will do as padding, because the prompt's own tokens do not see it.
        padded = pad_sequence(rests, batch_first=True).to(device)
        lasts = torch.tensor([len(rest) - 1 for rest in rests], device=device)
        start = 0
        while start < len(rests):
            part = slice(start, start + max(1, self._most_rows // len(self._directions)))
            start = part.stop
            ids = padded[part, : len(rests[part.start])]
            logits = self._logits(ids, lasts[part])
            yield part, logits.unflatten(0, (len(self._directions), len(ids))).float()

    def states(
        self, layers: list[int]
    ) -> Iterator[Float[Tensor, "candidate prompt position layer d"]]:
        """Run the `passes` for the residual states at the ends of the prompts.

        Args:
            layers: the layers at whose inputs states are read, after anything that is added there.

        Yields:
            The states of one pass, in the model's precision, on the first layer's device.
        """
        seen: list[Tensor] = []

        def keep(x: Float[Tensor, "row token d"]) -> None:
            ends = self._lasts.to(x.device).unsqueeze(1) + torch.arange(
                1 - self._positions, 1, device=x.device
            )
            seen.append(x[torch.arange(len(x), device=x.device).unsqueeze(1), ends])

        blocks = decoder_blocks(self._model)
        with Hooks() as hooks:
            for layer in layers:
                hooks.on_input(blocks[layer], keep)
            for _ in self.passes():
                states = torch.stack([x.to(seen[0].device) for x in seen], dim=2)
                seen.clear()
                yield states.unflatten(0, (len(self._directions), -1))

    def _logits(
        self, ids: Int[Tensor, "prompt token"], lasts: Int[Tensor, "prompt"]
    ) -> Float[Tensor, "row vocabulary"]:
        # In a function of its own, so that the pass's cache is freed before the next pass begins.
        cache = None if self._cache is None else lent(self._cache, len(ids))
        return self._forward(ids, lasts, cache=cache, use_cache=cache is not None).logits[:, -1]

    def _read_head(self) -> None:
        head = common_head([ids.tolist() for ids in self._prompts], self._positions)
        self._cache = None
        if head:
            ids = torch.tensor([head], device=input_device(self._model))
            last = ids.new_zeros(1)  # Any place will do: the head's logits are not used.
            self._cache = shared_cache(self._forward(ids, last, cache=None, use_cache=True))
        self._n_head = 0 if self._cache is None else len(head)

    @torch.inference_mode()
    def _forward(
        self,
        ids: Int[Tensor, "prompt token"],
        lasts: Int[Tensor, "prompt"],
        *,
        cache: Any,
        use_cache: bool,
    ) -> Any:
        n = len(self._directions)
        self._lasts = lasts.repeat(n)
        return self._model(
            input_ids=ids.repeat(n, 1), **with_cache(self._model, cache), use_cache=use_cache
        )

    def _last_states(self, x: Float[Tensor, "row token d"]) -> Float[Tensor, "row 1 d"]:
        """Select the state of the last token of each row, since no other logits are needed."""
        lasts = self._lasts.to(x.device)
        return x[torch.arange(len(x), device=x.device), lasts].unsqueeze(1)


class AddedRows(Hooks):
    """Adds the direction of each candidate at the input of its own block (2505.17306, eq. 2).

    Args:
        directions: the directions, which are added without normalisation at every position.
        layers: the block of each candidate.
    """

    def __init__(self, directions: Float[Tensor, "candidate d"], layers: list[int]) -> None:
        super().__init__()
        self._directions = directions
        self._layers = torch.tensor(layers)

    def install(self, model: PreTrainedModel) -> None:
        """Put a hook into each block at which a candidate is added."""
        blocks = dissect(model).blocks
        for layer in self._layers.unique().tolist():
            here = (self._layers == layer).unsqueeze(-1)
            # `where`, not a product: 0 times NaN would spread one candidate's NaN to the others.
            added = Copies(torch.where(here, self._directions, 0.0))

            def change(x: Tensor, added: Copies = added) -> Tensor:
                return add_rows(x, added.at(x.device, x.dtype))

            self.on_input(blocks[layer].module, change)


def refusal_when_ablated(
    chat: ChatModel,
    directions: Float[Tensor, "candidate d"],
    prompts: list[str],
    tokens: list[int],
) -> list[float]:
    """Compute the mean refusal score (log-odds) with each candidate ablated.

    Args:
        chat: the model.
        directions: the candidates, of any length.
        prompts: the prompts to read.
        tokens: the ids of the refusal tokens.
    """
    with SideBySide(chat, directions, prompts) as candidates:
        return _mean_refusal(candidates, len(prompts), tokens)


def refusal_when_added(
    chat: ChatModel,
    directions: Float[Tensor, "candidate d"],
    layers: list[int],
    prompts: list[str],
    tokens: list[int],
) -> list[float]:
    """Compute the mean refusal score (log-odds) with each candidate added at its block.

    Args:
        chat: the model.
        directions: the directions, which are added without normalisation at every position.
        layers: the block of each candidate.
        prompts: the prompts to read.
        tokens: the ids of the refusal tokens.
    """
    intervene = partial(AddedRows, layers=layers)
    with SideBySide(chat, directions, prompts, intervene) as candidates:
        return _mean_refusal(candidates, len(prompts), tokens)


def states_when_ablated(
    chat: ChatModel,
    directions: Float[Tensor, "candidate d"],
    prompts: list[str],
    layers: list[int],
    positions: int,
) -> Float[Tensor, "candidate position layer d"]:
    """Compute the mean states over prompts with each candidate ablated, in float64 on the CPU.

    Args:
        chat: the model.
        directions: the candidates.
        prompts: the prompts to read.
        layers: the layers at whose inputs states are read.
        positions: the number of tokens at the end of each prompt at which states are read.
    """
    with SideBySide(chat, directions, prompts, positions=positions) as candidates:
        return _mean_states(candidates, len(prompts), layers)


def states_when_added(
    chat: ChatModel,
    directions: Float[Tensor, "candidate d"],
    added_at: list[int],
    prompts: list[str],
    layers: list[int],
    positions: int,
) -> Float[Tensor, "candidate position layer d"]:
    """Compute the mean states over prompts with each candidate added, in float64 on the CPU.

    Args:
        chat: the model.
        directions: the directions, which are added without normalisation at every position.
        added_at: the block of each candidate.
        prompts: the prompts to read.
        layers, positions: as in `states_when_ablated`.
    """
    intervene = partial(AddedRows, layers=added_at)
    with SideBySide(chat, directions, prompts, intervene, positions=positions) as candidates:
        return _mean_states(candidates, len(prompts), layers)


def _mean_states(
    candidates: SideBySide, n_prompts: int, layers: list[int]
) -> Float[Tensor, "candidate position layer d"]:
    total: Any = 0.0
    for states in candidates.states(layers):
        total = total + states.double().sum(1)
    return total.cpu() / n_prompts


def _mean_refusal(candidates: SideBySide, n_prompts: int, tokens: list[int]) -> list[float]:
    refusing = torch.tensor(tokens)
    total: Any = 0.0
    for _, logits in candidates.passes():
        refusing = refusing.to(logits.device)
        scores = refusal_scores(logits.flatten(0, 1), refusing).view(logits.shape[:2])
        total = total + scores.sum(-1)
    return (total / n_prompts).tolist()


def divergences(
    chat: ChatModel,
    directions: Float[Tensor, "candidate d"],
    prompts: list[str],
    base_logits: Float[Tensor, "prompt vocabulary"],
    limit: float = math.inf,
) -> list[float | None]:
    """Compute the mean KL(base || ablated) of the next token for each candidate, in nats.

    Args:
        chat: the model.
        directions: the candidates.
        prompts: the prompts to read.
        base_logits: the untouched model's logits of the first token after each prompt.
        limit: the mean divergence, in nats, above which a candidate is rejected. It is given up
            after the pass in which its sum exceeds `limit` times the number of prompts.

    Returns:
        The mean for each candidate; None for a candidate that was given up.
    """
    running = list(range(len(directions)))
    total: Any = 0.0
    with SideBySide(chat, directions, prompts) as candidates:
        base = base_logits[candidates.order].double().log_softmax(-1)
        for part, logits in candidates.passes():
            base = base.to(logits.device)
            total = total + _divergence(base[part], logits).sum(-1)
            if limit == math.inf:
                continue
            # `not >` instead of `<=`: a candidate whose divergence is NaN keeps NaN as its score.
            within = [i for i, kl in enumerate(total.tolist()) if not kl / len(prompts) > limit]
            if len(within) < len(running):
                running = [running[i] for i in within]
                if not running:
                    break
                total = total[within]
                candidates.keep(within)
    means = dict(zip(running, (total / len(prompts)).tolist(), strict=True)) if running else {}
    return [means.get(candidate) for candidate in range(len(directions))]


def _divergence(
    base: Float[Tensor, "prompt vocabulary"], now: Float[Tensor, "candidate prompt vocabulary"]
) -> Float[Tensor, "candidate prompt"]:
    """Compute KL(base || now) in nats, in float64. `base` has log-probabilities, `now` logits."""
    return (base.exp() * (base - now.double().log_softmax(-1))).sum(-1)
