"""Where a decoder-only model keeps its blocks, and what writes to its residual stream.

Nothing here knows a model by name. The blocks are the decoder's list of as many modules as the
configuration has layers; a block's attention and MLP are known by their classes' names; and how
they are wired is read off one forward pass over a few tokens, by following tensors from the module
that returned them to the one that took them: a norm that takes an attention's output as it is lies
between it and the residual stream, and an MLP that reads the block's own input is parallel to it.
The same pass shows whether that is all: a block has to pass on a sum of multiples of its input and
of what its attention and MLP write, since what else wrote there could not be ablated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn

from polyrefuse_shared.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

# How a class's name ends: "Qwen3MoeAttention" is no mixture of experts.
_ATTENTION = re.compile(r"(Attention|Attn)\d*$")
_MLP = re.compile(r"(MLP|Mlp|Mo[eE](Block|Layer)?|FeedForward|FFN)$")
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
        projection: the linear layer whose output it returns with nothing added to it, or None (a
            mixture of experts).
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
    """What interventions need to know of a model.

    Attributes:
        embedding: of the tokens.
        alone: a multiple of the embedding's output is all that the first block reads; not so where
            positions are learned or a norm follows it.
        blocks: in order.
    """

    embedding: nn.Module
    alone: bool
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


def decoder(model: PreTrainedModel) -> nn.Module:
    """All that comes before the unembedding; of a multimodal model the text part.

    Raises:
        UnknownArchitecture: as `decoder_blocks`.
    """
    named = model.get_decoder()
    if named is not model:
        return named
    # Llama 4 says that it is its own decoder.
    blocks = decoder_blocks(model)
    return next(part for part in model.children() if any(m is blocks for m in part.modules()))


_known: WeakKeyDictionary[PreTrainedModel, Anatomy] = WeakKeyDictionary()


def dissect(model: PreTrainedModel) -> Anatomy:
    """Find the blocks, their attention and MLP, and how they are wired.

    Costs one forward pass over three tokens, the first time that it is asked about a model.

    Raises:
        UnknownArchitecture: a block without exactly one attention and one MLP, one that the
            forward pass did not reach, or one where something else writes to the residual stream.
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
    embedding = model.get_input_embeddings()
    seen = _trace(model, watched | {embedding})

    def branch(module: nn.Module, of_block: list[nn.Module], read: Tensor) -> Branch:
        output = seen[module].gave
        # A norm whose output the MLP reads lies before the MLP, not behind the attention.
        norm = next(
            (
                n
                for n in of_block
                if n in seen and output is seen[n].took and read is not seen[n].gave
            ),
            None,
        )
        projection = next(
            (
                m
                for m in linears[module]
                if m in seen
                and seen[m].gave is output
                # A shared expert's output that the other experts' is added to in place is neither.
                and torch.equal(seen[m].written, seen[module].written)
            ),
            None,
        )
        return Branch(module, norm, projection)

    blocks = []
    for index, (module, (attention, mlp), of_block) in enumerate(
        zip(modules, parts, norms, strict=True)
    ):
        for part in (module, attention, mlp):
            if part not in seen:
                raise UnknownArchitecture(
                    f"block {index} of {name}: its `{type(part).__name__}` took no part in a "
                    "forward pass over text."
                )
        read = seen[mlp].took
        source = next((seen[n].took for n in of_block if n in seen and seen[n].gave is read), read)
        blocks.append(
            Block(
                module=module,
                attention=branch(attention, of_block, read),
                mlp=branch(mlp, of_block, read),
                parallel=source is seen[module].took or read is seen[attention].took,
            )
        )
    streams = [seen[block.module].read for block in blocks] + [seen[blocks[-1].module].written]
    for index, block in enumerate(blocks):
        writes = [seen[branch.write].written for branch in (block.attention, block.mlp)]
        if not _adds_up(streams[index + 1], [streams[index], *writes]):
            raise UnknownArchitecture(
                f"block {index} of {name}: what it passes on is not a sum of its input and of what "
                f"its `{type(block.attention.module).__name__}` and "
                f"`{type(block.mlp.module).__name__}` write, so that a direction cannot be removed "
                "from it."
            )
    alone = embedding in seen and _adds_up(streams[0], [seen[embedding].written])
    return Anatomy(embedding, alone, tuple(blocks))


def _adds_up(whole: Tensor, parts: list[Tensor]) -> bool:
    """Whether `whole` is a sum of multiples of `parts`, one factor a part, up to rounding.

    Rounding is judged token by token, since the first can be a thousand times as long as others. It
    was at most 0.4 eps in bfloat16 and float16 (llama, gemma2, granite, qwen3_moe and others of 48
    layers with random weights).
    """
    if any(part.numel() != whole.numel() for part in parts):
        return False
    d = whole.shape[-1]
    vectors = torch.stack([x.cpu().double().reshape(-1, d) for x in (*parts, whole)], dim=-1)
    if not vectors.isfinite().all():
        return False
    longest = vectors.norm(dim=1).amax(-1).clamp(min=torch.finfo(torch.float64).tiny)
    vectors = vectors / longest[:, None, None]
    rows = vectors.flatten(0, 1)
    factors = torch.linalg.lstsq(rows[:, :-1], rows[:, -1:]).solution
    rest = vectors[..., -1:] - vectors[..., :-1] @ factors
    return rest.norm(dim=1).max().item() <= max(1e-4, torch.finfo(whole.dtype).eps)


def width(model: PreTrainedModel) -> int:
    """d, the width of the residual stream."""
    return model.config.get_text_config().hidden_size


def input_device(model: PreTrainedModel) -> torch.device:
    """Where token ids go: to the embedding, or to the CPU where it is offloaded and accelerate
    moves them."""
    weight: Any = model.get_input_embeddings().weight
    device: torch.device = weight.device
    return torch.device("cpu") if device.type == "meta" else device


class _Seen(NamedTuple):
    """What a module took and gave, and what these held then: a model may write into them later."""

    took: Tensor
    gave: Tensor
    read: Tensor
    written: Tensor


def _trace(model: PreTrainedModel, watched: set[nn.Module]) -> dict[nn.Module, _Seen]:
    """The first tensors that modules took and gave in one forward pass; all are kept, so that no
    two can have been the same memory one after the other. A module that was not reached, or that
    takes or gives none, is left out."""
    read: dict[nn.Module, Tensor] = {}
    seen: dict[nn.Module, _Seen] = {}

    def before(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        took = _first_tensor((*args, *kwargs.values()))
        if took is not None:
            read[module] = took.clone()

    def after(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        took, gave = _first_tensor((*args, *kwargs.values())), _first_tensor(output)
        if took is not None and gave is not None:
            seen[module] = _Seen(took, gave, read[module], gave.clone())

    handles = [m.register_forward_pre_hook(before, with_kwargs=True) for m in watched]
    handles += [m.register_forward_hook(after, with_kwargs=True) for m in watched]
    try:
        model(input_ids=torch.tensor([[1, 2, 3]], device=input_device(model)), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _first_tensor(values: Any) -> Tensor | None:
    if isinstance(values, torch.Tensor):
        return values
    return next((value for value in values or () if isinstance(value, torch.Tensor)), None)


def _only(
    block: nn.Module, pattern: re.Pattern[str], what: str, index: int, name: str
) -> nn.Module:
    matches = [child for child in block.children() if _is(pattern, child)]
    if len(matches) != 1:
        children = ", ".join(type(child).__name__ for child in block.children())
        raise UnknownArchitecture(
            f"block {index} of {name}: {len(matches) or 'no'} {what} modules among {children}."
        )
    return matches[0]


def _is(pattern: re.Pattern[str], module: nn.Module) -> bool:
    return bool(pattern.search(type(module).__name__))
