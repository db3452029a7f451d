"""Ablation by weights: the model's own matrices, made unable to write along one or more directions.

W_out <- (I - r r^T) W_out for the embedding, the output projection of every attention or other
mixer, and every MLP's or expert's, biases too (2406.11717, sec. 4.1). With several directions, the
rows of R, it is (I - R^T R) W_out. It costs nothing at run time and is exact only where nothing
lies between those projections and the residual stream. The change is made in memory and is never
saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from polyrefuse_models.anatomy import Anatomy, Writer, decoder_blocks, dissect, width
from polyrefuse_models.gguf_checkpoint import is_unpacked
from polyrefuse_shared.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformers import PreTrainedModel


# Elements that are projected at once: 8 MiB in float64.
_AT_ONCE = 2**20


class NotExact(UserError):
    """Weights cannot do what hooks do here."""


def obstacle(
    model: PreTrainedModel, coefficient: float = 1.0, layers: range | None = None
) -> str | None:
    """Why ablation by weights would not be exact, as a clause; None where it is."""
    if coefficient != 1.0:
        return f"coefficient={coefficient} is not 1"
    if layers is not None and len(layers) < len(decoder_blocks(model)):
        return "a part of the layers is chosen, and the embedding writes for all of them"
    quantised = getattr(model, "is_quantized", False) or getattr(model, "quantization_method", None)
    if quantised and not is_unpacked(model):
        return "the model is quantised"
    if getattr(model, "peft_config", None):
        return "an adapter that is not merged writes beside the weights"
    if any(parameter.is_meta for parameter in model.parameters()):
        return "some weights are offloaded"
    anatomy = dissect(model)
    if anatomy.post_norm:
        return "a norm lies between its modules and the residual stream (post-norm)"
    if not anatomy.alone:
        return "what the first block reads is not the embedding alone (learned positions, a norm)"
    for index, block in enumerate(anatomy.blocks):
        for writer in block.writers:
            if writer.projection is None and not _only_experts(writer, anatomy):
                return (
                    f"block {index}'s {type(writer.module).__name__} returns what neither one "
                    "linear layer nor stacked experts alone have written"
                )
    return None


@torch.no_grad()
def orthogonalise(
    model: PreTrainedModel,
    direction: Float[Tensor, "*rank d"],
    *,
    coefficient: float = 1.0,
    layers: range | None = None,
) -> None:
    """Make every write to the residual stream orthogonal to `direction`, in place.

    A tied unembedding is untied first: the edit of the embedding would reach it too.

    Args:
        direction: one at any scale, or several that are orthogonal to each other.
        coefficient, layers: as asked for; other values than these are an `obstacle`.

    Raises:
        NotExact: it would not be what `interventions.Ablation` does with the same settings; the
            sentence says why.
    """
    reason = obstacle(model, coefficient, layers)
    if reason:
        raise NotExact(f"method=weights is not exact: {reason}; use method=hooks.")
    wide = direction.cpu().double()
    unit = wide / wide.norm(dim=-1, keepdim=True)
    _untie(model)
    for parameter, dim in writes(model):
        project(parameter, unit, dim)


def writes(model: PreTrainedModel) -> Iterator[tuple[Tensor, int]]:
    """Every parameter that writes to the residual stream of a model without an `obstacle`.

    Yields:
        the parameter, and which of its dimensions runs along the stream.
    """
    anatomy = dissect(model)
    yield _matrix(anatomy.embedding, "weight"), 1
    for block in anatomy.blocks:
        for writer in block.writers:
            if writer.projection is not None:
                yield writer.projection.weight, 0
                if writer.projection.bias is not None:
                    yield writer.projection.bias, 0
            for experts in _experts(writer):
                yield from _writes_of_experts(experts, model)


def _untie(model: PreTrainedModel) -> None:
    head: Any = model.get_output_embeddings()
    embedding: Any = model.get_input_embeddings()
    if head is not None and head.weight is embedding.weight:
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
        model.config.get_text_config().tie_word_embeddings = False


def _only_experts(writer: Writer, anatomy: Anatomy) -> bool:
    """Whether stacked experts are all that writes: a shared expert beside them would be missed."""
    d = _matrix(anatomy.embedding, "weight").shape[1]
    linears = (module for module in writer.module.modules() if isinstance(module, nn.Linear))
    return bool(_experts(writer)) and all(linear.out_features != d for linear in linears)


def _experts(writer: Writer) -> list[nn.Module]:
    """The modules with stacked expert matrices in a mixture of experts; [] in a plain MLP."""
    if writer.projection is not None:
        return []
    return [
        module
        for module in writer.module.modules()
        if getattr(module, "down_proj", None) is not None
        and isinstance(module.down_proj, nn.Parameter)
        and module.down_proj.dim() == 3
    ]


def _writes_of_experts(experts: nn.Module, model: PreTrainedModel) -> Iterator[tuple[Tensor, int]]:
    """Stacked matrices in either orientation: [expert, d, inner] or [expert, inner, d].

    Where d is also the inner width, the input projection tells which one it is:
    [expert, 2 inner, d] or [expert, d, 2 inner].
    """
    d = width(model)
    written = _matrix(experts, "down_proj")
    _, rows, columns = written.shape
    outputs_first = (
        rows == d if rows != columns else _matrix(experts, "gate_up_proj").shape[-1] == d
    )
    yield written, 1 if outputs_first else 2
    bias = getattr(experts, "down_proj_bias", None)
    if bias is not None:
        yield bias, 1


def _matrix(module: nn.Module, name: str) -> Tensor:
    """A parameter of a module; torch types every attribute as a tensor or a module."""
    parameter = getattr(module, name)
    assert isinstance(parameter, torch.Tensor)
    return parameter


@torch.no_grad()
def project(weights: Tensor, unit: Float[Tensor, "*rank d"], dim: int) -> None:
    """Project w <- (I - r r^T) w along one dimension, in place.

    With several orthonormal rows it is w <- (I - R^T R) w.

    It is computed in float64, a few thousand vectors at a time: an embedding in float64 is several
    times what the model has left of its memory.
    """
    r = unit.to(weights.device)
    vectors = torch.atleast_2d(weights.movedim(dim, -1))
    for matrix in vectors if vectors.dim() == 3 else [vectors]:
        for part in matrix.split(max(1, _AT_ONCE // r.shape[-1])):
            wide = part.double()
            if r.dim() == 1:
                part.copy_(torch.addr(wide, wide @ r, r, alpha=-1))
            else:
                part.copy_(torch.addmm(wide, wide @ r.T, r, alpha=-1))
