"""Record what passes through a model's blocks in a forward pass, and what their modules return."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from polyrefuse_models.hooks import Hooks

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor, nn
    from transformers import PreTrainedModel

_NOTHING = torch.empty(0)


class Call(NamedTuple):
    """The first tensor that a module returned."""

    module: nn.Module
    gave: Tensor


@dataclass(eq=False)
class Passage:
    """The tensors that passed through a block, copied because a model may write into them later.

    Attributes:
        watched: the modules of the block whose calls are kept.
        entered: the residual stream before the block.
        left: the residual stream after the block.
        beside: whether the block took a second tensor of the stream's shape.
        read: the tensors as large as the stream that the watched modules took.
        calls: the tensors as large as the stream that the watched modules returned.
    """

    watched: Collection[nn.Module]
    entered: Tensor = _NOTHING
    left: Tensor = _NOTHING
    beside: bool = False
    read: list[Tensor] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    @property
    def reached(self) -> bool:
        """Whether the pass went through the block."""
        return self.left is not _NOTHING


def trace(
    model: PreTrainedModel,
    ids: Int[Tensor, "row token"],
    blocks: nn.ModuleList,
    watched: Sequence[Collection[nn.Module]],
    *,
    noise: bool = False,
) -> list[Passage]:
    """Follow the residual stream through the blocks, in one forward pass over a few tokens.

    Args:
        model: the model that these `blocks` are part of.
        ids: the token ids.
        blocks: the model's decoder blocks.
        watched: for each block, the modules in it whose calls are kept.
        noise: whether to replace each block's input, and what the modules return, with noise.

    Returns:
        What passed through each block, in the order of the blocks.
    """
    passages = [Passage(modules) for modules in watched]
    at: list[Passage] = []
    took: dict[nn.Module, list[Tensor]] = {}
    random = torch.Generator().manual_seed(0)

    def replaced(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=random).to(x) if noise else x

    def as_large(x: Any, passage: Passage) -> bool:
        return isinstance(x, torch.Tensor) and x.numel() == passage.entered.numel()

    def arrive(passage: Passage, _: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        first, *others = _tensors(args, kwargs)
        passage.beside = any(other.shape == first.shape for other in others)

    def enter(passage: Passage, x: Tensor) -> Tensor:
        at.append(passage)
        x = replaced(x)
        passage.entered = x.clone()
        return x

    def leave(passage: Passage, x: Tensor) -> None:
        at.pop()
        passage.left = x.clone()

    def before(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        took[module] = _tensors(args, kwargs)
        if at and module in at[-1].watched:
            at[-1].read += [x.clone() for x in took[module] if as_large(x, at[-1])]

    def after(module: nn.Module, x: Any) -> Tensor | None:
        taken = took.pop(module)
        if not at or module not in at[-1].watched or not as_large(x, at[-1]):
            return None
        if any(x is tensor for tensor in taken):
            return None  # In evaluation mode, dropout returns the very tensor that it took.
        x = replaced(x)
        at[-1].calls.append(Call(module, x.clone()))
        return x

    with Hooks() as hooks:
        for passage, block in zip(passages, blocks, strict=True):
            hooks.before(block, partial(arrive, passage))
            hooks.on_input(block, partial(enter, passage))
            hooks.on_output(block, partial(leave, passage))
        for module in set().union(*watched):
            hooks.before(module, before)
            hooks.on_output(module, partial(after, module))
        model(input_ids=ids, use_cache=False)
    return passages


def _tensors(args: tuple, kwargs: dict[str, Any]) -> list[Tensor]:
    return [x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor)]
