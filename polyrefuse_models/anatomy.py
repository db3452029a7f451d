"""Where a decoder-only model keeps its blocks, and what writes to its residual stream.

Nothing here knows a model by name. The blocks are the decoder's list of as many modules as the
configuration has layers; a block's attention and MLP are told by their classes' names; and how
they are wired is read off one forward pass over a few tokens, by following tensors from the module
that returned them to the one that took them: a norm that takes an attention's output as it is lies
between it and the residual stream, and an MLP that reads the block's own input is parallel to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from polyrefuse_tasks.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

# How a class's name ends: "Qwen3MoeAttention" is no mixture of experts.
_ATTENTION = re.compile(r"(Attention|Attn)\d*$")
_MLP = re.compile(r"(MLP|Mlp|MoE|Moe|MoeBlock|FeedForward|FFN)$")
_NORM = re.compile(r"Norm$")


class UnknownArchitecture(UserError):
    """A module that an intervention needs was not found in the model."""


@dataclass(frozen=True)
class Branch:
    """An attention or MLP of a block.

    Attributes:
        module: the attention or MLP.
        norm: what normalises its output before it reaches the residual stream (post-norm designs:
            Gemma 2 and 3, OLMo 2), or None.
        projection: the linear layer whose output it returns, or None (a mixture of experts).
    """

    module: nn.Module
    norm: nn.Module | None
    projection: nn.Linear | None

    @property
    def write(self) -> nn.Module:
        """The module whose output is added to the residual stream."""
        return self.norm or self.module


@dataclass(frozen=True)
class Block:
    """A decoder block.

    Attributes:
        module: the block.
        attention: its attention.
        mlp: its MLP.
        parallel: both read the block's input (GPT-NeoX, Cohere), instead of one after the other.
    """

    module: nn.Module
    attention: Branch
    mlp: Branch
    parallel: bool


@dataclass(frozen=True)
class Anatomy:
    """What interventions need to know of a model."""

    embedding: nn.Module
    blocks: tuple[Block, ...]

    @property
    def post_norm(self) -> bool:
        """Whether a norm lies between any attention or MLP and the residual stream."""
        return any(b.attention.norm or b.mlp.norm for b in self.blocks)


def decoder_blocks(model: PreTrainedModel) -> nn.ModuleList:
    """The model's decoder blocks in order, those of the text part of a multimodal model.

    Raises:
        UnknownArchitecture: no list of as many modules as the configuration has layers.
    """
    n_layers = model.config.get_text_config().num_hidden_layers
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    for module in decoder.modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers:
            return module
    raise UnknownArchitecture(
        f"{type(model).__name__}: no list of {n_layers} decoder blocks was found in its decoder."
    )


_known: WeakKeyDictionary[PreTrainedModel, Anatomy] = WeakKeyDictionary()


def dissect(model: PreTrainedModel) -> Anatomy:
    """Find the blocks, their attention and MLP, and how they are wired.

    Costs one forward pass over three tokens, the first time that it is asked about a model.

    Raises:
        UnknownArchitecture: a block without exactly one attention and one MLP, or one that the
            forward pass did not reach.
    """
    if model not in _known:
        _known[model] = _dissect(model)
    return _known[model]


@torch.no_grad()
def _dissect(model: PreTrainedModel) -> Anatomy:
    modules = decoder_blocks(model)
    name = type(model).__name__
    parts = [
        (_only(block, _ATTENTION, "attention", i, name), _only(block, _MLP, "MLP", i, name))
        for i, block in enumerate(modules)
    ]
    watched = {part for pair in parts for part in pair} | set(modules)
    norms = [[m for m in block.children() if _is(_NORM, m)] for block in modules]
    watched.update(norm for of_block in norms for norm in of_block)
    linears = {
        part: [m for m in part.modules() if isinstance(m, nn.Linear)]
        for pair in parts
        for part in pair
    }
    watched.update(linear for of_part in linears.values() for linear in of_part)
    taken, given = _trace(model, watched)

    def branch(module: nn.Module, of_block: list[nn.Module]) -> Branch:
        output = given[module]
        norm = next((n for n in of_block if taken.get(n) is output), None)
        projection = next((m for m in linears[module] if given.get(m) is output), None)
        return Branch(module, norm, projection)

    blocks = []
    for index, (module, (attention, mlp), of_block) in enumerate(
        zip(modules, parts, norms, strict=True)
    ):
        for part in (module, attention, mlp):
            if part not in given:
                raise UnknownArchitecture(
                    f"block {index} of {name}: its `{type(part).__name__}` took no part in a "
                    "forward pass over text."
                )
        read = taken[mlp]
        source = next((taken[n] for n in of_block if given.get(n) is read), read)
        blocks.append(
            Block(
                module=module,
                attention=branch(attention, of_block),
                mlp=branch(mlp, of_block),
                parallel=source is taken[module] or read is taken[attention],
            )
        )
    return Anatomy(model.get_input_embeddings(), tuple(blocks))


def width(model: PreTrainedModel) -> int:
    """d, the width of the residual stream."""
    return model.config.get_text_config().hidden_size


def _trace(
    model: PreTrainedModel, watched: set[nn.Module]
) -> tuple[dict[nn.Module, Tensor], dict[nn.Module, Tensor]]:
    """The first tensor that each module took and gave in one forward pass; kept, so that no two
    of them can have been the same memory one after the other."""
    taken: dict[nn.Module, Tensor] = {}
    given: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        taken[module] = args[0] if args else kwargs["hidden_states"]
        given[module] = output[0] if isinstance(output, tuple) else output

    handles = [module.register_forward_hook(keep, with_kwargs=True) for module in watched]
    try:
        ids = torch.tensor([[1, 2, 3]], device=model.get_input_embeddings().weight.device)
        model(input_ids=ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return taken, given


def _only(
    block: nn.Module, pattern: re.Pattern[str], what: str, index: int, name: str
) -> nn.Module:
    found = [child for child in block.children() if _is(pattern, child)]
    if len(found) != 1:
        children = ", ".join(type(child).__name__ for child in block.children())
        raise UnknownArchitecture(
            f"block {index} of {name}: {len(found) or 'no'} {what} modules among {children}."
        )
    return found[0]


def _is(pattern: re.Pattern[str], module: nn.Module) -> bool:
    return bool(pattern.search(type(module).__name__))
