"""What passes through a model's blocks in one forward pass, and what their modules add to it."""

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
    """What a module gave, the first tensor of it."""

    module: nn.Module
    gave: Tensor


@dataclass(eq=False)
class Passage:
    """What passed through a block, as copies: a model may write into its tensors later.

    `entered` and `left` are the stream before and behind the block; `beside` says that the block
    took another tensor of the same shape. Of the `watched` modules, `read` is what they took and
    `calls` what they gave, where it is as large as the stream.
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
        model: with these `blocks`.
        ids: of the tokens.
        blocks: of the model.
        watched: for each block, the modules in it whose calls are kept.
        noise: put noise in the place of each block's input and of what the modules give.
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
            return None  # dropout gives back the tensor that it took: as if it were not there
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
