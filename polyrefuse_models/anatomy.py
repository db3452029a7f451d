"""Find a decoder-only model's blocks, and what writes to its residual stream.

This module knows no model, and no part of one, by its name. The blocks are the list in the decoder
that has as many modules as the configuration has layers. What writes in a block is measured: one
forward pass over a few tokens replaces the block's input, and what each of its modules returns,
with noise that is drawn anew each time. The block passes on a multiple of its input and the noise
of some modules. These modules are its writers, whatever and however many they are: an attention and
an MLP, the norms that follow them, a single mixer, or three modules side by side. The noise
distinguishes modules that write little from those that write nothing, and a norm's output from its
input.

A second pass, without noise, checks that nothing else writes, and finds the linear layer whose
output a writer returns. A block has to pass on a sum of multiples of its input and of its writers'
outputs, because whatever else wrote there could not be ablated.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn

from polyrefuse_models.tracing import Passage, trace
from polyrefuse_shared.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class UnknownArchitecture(UserError):
    """A model in which a module that an intervention needs was not found."""


@dataclass(frozen=True)
class Writer:
    """A module of a block whose output, or a multiple of it, is added to the residual stream.

    Attributes:
        module: a mixer, an MLP, or the norm that follows either (post-norm designs: Gemma 2 and 3,
            OLMo 2).
        projection: the linear layer in the module, if the module returns a multiple of this
            layer's output and nothing else; None if no layer is such (a norm, a mixture of
            experts).
    """

    module: nn.Module
    projection: nn.Linear | None

    @property
    def elementwise(self) -> bool:
        """Whether the module has no matrix, as a norm that follows modules with matrices."""
        return all(parameter.dim() < 2 for parameter in self.module.parameters())


@dataclass(frozen=True)
class Block:
    """A decoder block.

    Attributes:
        module: the block.
        writers: one or more writers, in the order in which they write.
        parallel: whether no module of the block reads what one of its writers wrote (GPT-NeoX,
            Cohere).
        beside: whether the block takes a second tensor of the stream's shape (Zamba takes the
            embedding again).
    """

    module: nn.Module
    writers: tuple[Writer, ...]
    parallel: bool
    beside: bool


@dataclass(frozen=True)
class Anatomy:
    """What interventions need to know about a model.

    Attributes:
        embedding: the token embedding.
        alone: whether the first block reads a multiple of the embedding's output and nothing else.
            False if positions are learned, or if a norm follows the embedding.
        blocks: the decoder blocks in order.
    """

    embedding: nn.Module
    alone: bool
    blocks: tuple[Block, ...]

    @property
    def post_norm(self) -> bool:
        """Whether a norm lies between any matrix and the residual stream."""
        return any(writer.elementwise for block in self.blocks for writer in block.writers)


def decoder_blocks(model: PreTrainedModel) -> nn.ModuleList:
    """Find the model's decoder blocks in order; in a multimodal model, those of the text part.

    Raises:
        UnknownArchitecture: no list has as many modules as the configuration has layers.
    """
    n_layers = model.config.get_text_config().num_hidden_layers
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    for module in decoder.modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers:
            return module
    raise UnknownArchitecture(
        f"No list of {n_layers} decoder blocks was found in the decoder of {type(model).__name__}; "
        "measure this model with baseline-hf."
    )


def decoder(model: PreTrainedModel) -> nn.Module:
    """Find everything before the unembedding; in a multimodal model only the text part.

    Raises:
        UnknownArchitecture: as in `decoder_blocks`.
    """
    named = model.get_decoder()
    if named is not model:
        return named
    # Llama 4 names itself as its decoder.
    blocks = decoder_blocks(model)
    return next(part for part in model.children() if any(m is blocks for m in part.modules()))


_known: WeakKeyDictionary[PreTrainedModel, Anatomy] = WeakKeyDictionary()


def dissect(model: PreTrainedModel) -> Anatomy:
    """Find the blocks, what writes in them, and how they are wired.

    The first call for a model costs two forward passes over three tokens, and one more for every
    level of modules that add their own input to their output. Later calls cost nothing.

    Raises:
        UnknownArchitecture: a forward pass did not reach a block, or a block does more than add
            what its modules write to a multiple of its input.
    """
    if model not in _known:
        _known[model] = _dissect(model)
    return _known[model]


@torch.no_grad()
def _dissect(model: PreTrainedModel) -> Anatomy:
    modules = decoder_blocks(model)
    wirings = _wire(model, modules)
    watched = [
        {part for writer in wiring.writers for part in (writer, *_linears(writer))}
        for wiring in wirings
    ]
    passages = _pass(model, modules, watched)
    streams = [passage.entered for passage in passages] + [passages[-1].left]
    blocks = []
    for index, (module, wiring) in enumerate(zip(modules, wirings, strict=True)):
        gave = {call.module: call.gave for call in passages[index].calls}
        writes = [call.gave for call in passages[index].calls if call.module in wiring.writers]
        if _factors(streams[index + 1], [streams[index], *writes]) is None:
            raise _no_sum(model, index)
        writers = tuple(Writer(writer, _projection(writer, gave)) for writer in wiring.writers)
        blocks.append(Block(module, writers, wiring.parallel, passages[index].beside))
    embedding = model.get_input_embeddings()
    alone = _factors(streams[0], [embedding(_tokens(model))]) is not None
    return Anatomy(embedding, alone, tuple(blocks))


class _Wiring(NamedTuple):
    """The wiring of one block, as the noise showed it."""

    writers: tuple[nn.Module, ...]
    parallel: bool


def _wire(model: PreTrainedModel, blocks: nn.ModuleList) -> list[_Wiring]:
    """Find what writes in each block, by a pass with noise.

    In some models (Bloom, Zamba) a module adds its own input, the stream, to its output. Noise in
    place of that output hides the block's input. The pass is then repeated with noise in place of
    what the parts of that module return.
    """
    parts = [set(_parts(block)) for block in blocks]
    while True:
        wirings = []
        for index, passage in enumerate(_pass(model, blocks, parts, noise=True)):
            left = _shares(passage.left, passage)
            if left is None:
                raise _no_sum(model, index)
            if left.input:
                wirings.append(_wiring(left, passage))
                continue
            opened = next((m for m in left.modules if any(_parts(m))), None)
            if opened is None:
                raise _no_sum(model, index)
            parts[index] = parts[index] - {opened} | set(_parts(opened))
        if len(wirings) == len(blocks):
            return wirings


def _wiring(left: _Shares, passage: Passage) -> _Wiring:
    """Find what wrote to the stream that a block passed on, or that its modules read on the way."""
    read = [_shares(took, passage) for took in passage.read]
    between = {module for shares in read if shares and shares.input for module in shares.modules}
    wrote = between.union(left.modules)
    order = dict.fromkeys(call.module for call in passage.calls if call.module in wrote)
    return _Wiring(tuple(order), parallel=len(order) > 1 and not between)


class _Shares(NamedTuple):
    """The parts that a tensor is the sum of: the block's input, what modules returned, or both."""

    input: bool
    modules: list[nn.Module]


def _shares(whole: Tensor, passage: Passage) -> _Shares | None:
    """Find the parts of a tensor in a pass with noise; None if it is not a sum of such parts."""
    factors = _factors(whole, [passage.entered, *(call.gave for call in passage.calls)])
    if factors is None:
        return None
    own, *others = (factors.abs() > _rounding(whole.dtype)).tolist()
    calls = zip(passage.calls, others, strict=True)
    return _Shares(own, [call.module for call, share in calls if share])


def _projection(writer: nn.Module, gave: dict[nn.Module, Tensor]) -> nn.Linear | None:
    """Find the linear layer whose output, times a factor, is all that a writer returned."""
    for linear in _linears(writer):
        factors = _factors(gave[writer], [gave[linear]]) if linear in gave else None
        if factors is not None and factors.any():
            return linear
    return None


def _linears(writer: nn.Module) -> list[nn.Linear]:
    return [part for part in writer.modules() if isinstance(part, nn.Linear)]


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules that a module calls. A list is never called: its members are yielded."""
    for child in module.children():
        if isinstance(child, (nn.ModuleList, nn.ModuleDict)):
            yield from _parts(child)
        else:
            yield child


def _factors(whole: Tensor, parts: list[Tensor]) -> Tensor | None:
    """Find the factors with which `parts` add up to `whole`, up to rounding; None if none do.

    Rounding is judged token by token, because the first token's state can be a thousand times as
    long as others. The largest rounding error found in bfloat16 and float16 was 0.4 eps (llama,
    gemma2, granite, qwen3_moe and others of 48 layers with random weights).
    """
    if any(part.numel() != whole.numel() for part in parts):
        return None
    d = whole.shape[-1]
    vectors = torch.stack([x.cpu().double().reshape(-1, d) for x in (*parts, whole)], dim=-1)
    if not vectors.isfinite().all():
        return None
    longest = vectors.norm(dim=1).amax(-1).clamp(min=torch.finfo(torch.float64).tiny)
    vectors = vectors / longest[:, None, None]
    rows = vectors.flatten(0, 1)
    # The default driver, gelsy, is wrong if a part is zero, as before training a projection may be.
    factors = torch.linalg.lstsq(rows[:, :-1], rows[:, -1:], driver="gelsd").solution
    rest = vectors[..., -1:] - vectors[..., :-1] @ factors
    return factors[:, 0] if rest.norm(dim=1).max().item() <= _rounding(whole.dtype) else None


def _rounding(dtype: torch.dtype) -> float:
    return max(1e-4, torch.finfo(dtype).eps)


def _pass(
    model: PreTrainedModel,
    blocks: nn.ModuleList,
    watched: Sequence[Collection[nn.Module]],
    *,
    noise: bool = False,
) -> list[Passage]:
    passages = trace(model, _tokens(model), blocks, watched, noise=noise)
    for index, passage in enumerate(passages):
        if not passage.reached:
            raise UnknownArchitecture(
                f"Block {index} of {type(model).__name__} takes no part in a forward pass over "
                "text, so an intervention cannot reach it; measure this model with baseline-hf."
            )
    return passages


def _tokens(model: PreTrainedModel) -> Tensor:
    return torch.tensor([[1, 2, 3]], device=input_device(model))


def _no_sum(model: PreTrainedModel, index: int) -> UnknownArchitecture:
    parts = ", ".join(type(part).__name__ for part in _parts(decoder_blocks(model)[index]))
    return UnknownArchitecture(
        f"The output of block {index} of {type(model).__name__} is not a sum of its input and of "
        f"what its modules ({parts}) write, so a direction cannot be removed from it; measure "
        "this model with baseline-hf."
    )


def width(model: PreTrainedModel) -> int:
    """Return d, the width of the residual stream."""
    return model.config.get_text_config().hidden_size


def input_device(model: PreTrainedModel) -> torch.device:
    """Return the device that token ids have to be on.

    This is the embedding's device. If the embedding is offloaded, it is the CPU, and accelerate
    moves the ids.
    """
    weight: Any = model.get_input_embeddings().weight
    device: torch.device = weight.device
    return torch.device("cpu") if device.type == "meta" else device
