"""Read the prompts of a language once, for their states and their projections.

The states of every layer at several tokens would not fit into memory. Only the states at the
direction's own token are kept for every layer. At the other tokens, only projections, means and the
states of one layer are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from polyrefuse_models.anatomy import decoder_blocks, width
from polyrefuse_models.hooks import Hooks
from polyrefuse_shared.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from polyrefuse_models.chat_model import ChatModel


@dataclass(frozen=True)
class Positions:
    """The tokens that are read, counted from the end of the input: -1 is the last one.

    Attributes:
        own: the token of the direction.
        last: the last token of the chat template, after which the answer begins.
        user: the last token of the user's text; the same as `last` without a template.
    """

    own: int
    user: int
    last: int = -1

    @property
    def has_template(self) -> bool:
        """Whether the template puts tokens after the user's text."""
        return self.user != self.last

    @classmethod
    def of(cls, chat: ChatModel, own: int) -> Positions:
        """Find the positions in the chat template of a model."""
        return cls(own, -len(chat.suffix) - 1)


@dataclass(frozen=True)
class Seen:
    """What one pass over the prompts of a language showed, on the CPU.

    Attributes:
        states: the states of the first prompts at the token of the direction.
        own: the projections of all prompts at that token on the unit vector, in float64.
        last: the projections of all prompts at the last token, in float64.
        means: the mean states of the harmful and of the harmless first prompts, in this order, at
            the last token of the user's text and at the last token of the input, in float64.
        noise: how far the choice of the first prompts moves the differences of these means: the
            covariance of the two differences, summed over the d coordinates, in float64.
        at_layer: the states of the first prompts at these two tokens, at one layer.

    The "first" prompts are those that `see` was given a label for.
    """

    states: Float[Tensor, "first layer d"]
    own: Float[Tensor, "prompt layer"]
    last: Float[Tensor, "prompt layer"]
    means: Float[Tensor, "kind=2 token=2 layer d"]
    noise: Float[Tensor, "token=2 token=2 layer"]
    at_layer: Float[Tensor, "first token=2 d"]


def see(
    chat: ChatModel,
    prompts: list[str],
    harmful: Sequence[bool],
    positions: Positions,
    unit: Float[Tensor, "d"],
    layer: int,
    language: str,
) -> Seen:
    """Read each prompt once.

    Args:
        chat: the model.
        prompts: the prompts of one language. Those at the beginning, as many as `harmful` has
            entries, are known to be harmful or harmless.
        harmful: whether each of these first prompts is harmful. There are at least two of each
            kind.
        positions: the tokens that are read.
        unit: a unit vector, in float64.
        layer: the layer of `Seen.at_layer`.
        language: the language of the prompts, for messages.

    Raises:
        UserError: a state is not finite.
    """
    n_layers = len(decoder_blocks(chat.model))
    first = len(harmful)
    sums = torch.zeros(2, 2, n_layers, width(chat.model), dtype=torch.float64)
    products = torch.zeros(2, 2, 2, n_layers, dtype=torch.float64)
    states, own, last, at_layer = [], [], [], []
    tokens = [positions.own, positions.last, positions.user]
    for part, seen in _batches(chat, prompts, tokens):
        _require_finite(seen, language)
        own.append(_projected(seen[:, 0], unit))
        last.append(_projected(seen[:, 1], unit))
        kept = max(0, min(first, part.stop) - part.start)
        states.append(seen[:kept, 0].clone())
        both = seen[:kept, [2, 1]]
        at_layer.append(both[:, :, layer])
        for row, is_harmful in zip(both, harmful[part], strict=True):
            kind, exact = 0 if is_harmful else 1, row.double()
            sums[kind] += exact
            products[kind] += _gram(exact)
    counts = torch.tensor([sum(harmful), first - sum(harmful)], dtype=torch.float64)
    counts = counts[:, None, None, None]
    means = sums / counts
    scatter = products - counts * torch.stack([_gram(kind) for kind in means])
    return Seen(
        torch.cat(states),
        torch.cat(own),
        torch.cat(last),
        means,
        (scatter / (counts * (counts - 1))).sum(0),
        torch.cat(at_layer),
    )


def _gram(vectors: Float[Tensor, "token layer d"]) -> Float[Tensor, "token token layer"]:
    return torch.einsum("tld,sld->tsl", vectors, vectors)


def _batches(
    chat: ChatModel, prompts: list[str], tokens: list[int]
) -> Iterator[tuple[slice, Float[Tensor, "batch token layer d"]]]:
    """Yield what every block reads at the given tokens of the prompts, by batch, on the CPU."""
    inputs: list[Tensor] = []

    def keep(x: Float[Tensor, "batch token d"]) -> None:
        inputs.append(x[:, tokens])  # Indexing by a list copies, so the rest can be freed.

    with Hooks() as hooks:
        for block in decoder_blocks(chat.model):
            hooks.on_input(block, keep)
        for part, logits in chat.next_token_logits(prompts):
            # One transfer for all layers waits for the device only once. Blocks may be on several.
            seen = torch.stack([x.to(inputs[0].device) for x in inputs], dim=2).cpu()
            inputs.clear()
            yield slice(part.start, part.start + len(logits)), seen


def _projected(
    states: Float[Tensor, "batch layer d"], unit: Float[Tensor, "d"]
) -> Float[Tensor, "batch layer"]:
    # Unlike a matrix product, row by row gives equal states exactly equal projections.
    return torch.stack([(row.double() * unit).sum(-1) for row in states])


def _require_finite(seen: Float[Tensor, "batch token layer d"], language: str) -> None:
    whole = seen.isfinite().all(dim=3).all(dim=1).all(dim=0)
    if not whole.all():
        raise UserError(
            f"The model's states for {language} have NaN or infinite entries at layer "
            f"{whole.int().argmin().item()}; load it with another dtype, such as float32."
        )
