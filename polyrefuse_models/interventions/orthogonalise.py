"""Ablation by weights: edit the model's matrices so that they cannot write along some directions.

W_out <- (I - r r^T) W_out for the embedding, and for the output projection of every attention or
other mixer, MLP and expert, biases included (2406.11717, sec. 4.1). With several directions, the
rows of R, it is W_out <- (I - R^T R) W_out. This costs nothing at run time. It is exact only if
nothing lies between those projections and the residual stream. The edit is made in memory and is
never saved.
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


# The number of elements that are projected at once: 8 MiB in float64.
_AT_ONCE = 2**20


class NotExact(UserError):
    """An ablation by weights that would not do exactly what hooks do."""


def obstacle(
    model: PreTrainedModel, coefficient: float = 1.0, layers: range | None = None
) -> str | None:
    """Return why ablation by weights would not be exact, as a clause; None if it is exact."""
    if coefficient != 1.0:
        return f"coefficient={coefficient} is not 1"
    if layers is not None and len(layers) < len(decoder_blocks(model)):
        return "only some layers are chosen, and the embedding writes for all of them"
    quantised = getattr(model, "is_quantized", False) or getattr(model, "quantization_method", None)
    if quantised and not is_unpacked(model):
        return "the model is quantised"
    if getattr(model, "peft_config", None):
        return "an adapter that is not merged writes as well as the weights"
    if any(parameter.is_meta for parameter in model.parameters()):
        return "some weights are offloaded"
    anatomy = dissect(model)
    if anatomy.post_norm:
        return "a norm lies between the model's modules and the residual stream (post-norm)"
    if not anatomy.alone:
        return "the first block reads more than the embedding (learned positions, a norm)"
    for index, block in enumerate(anatomy.blocks):
        for writer in block.writers:
            if writer.projection is None and not _only_experts(writer, anatomy):
                return (
                    f"the output of block {index}'s {type(writer.module).__name__} comes neither "
                    "from one linear layer nor from stacked experts alone"
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

    A tied unembedding is untied first, because the edit of the embedding would reach it too.

    Args:
        model: the model to edit.
        direction: one direction of any length, or several that are orthogonal to each other.
        coefficient: as in `Ablation`; any value but 1 is an `obstacle`.
        layers: as in `Ablation`; anything less than all layers is an `obstacle`.

    Raises:
        NotExact: the edit would not do what `interventions.Ablation` does by hooks with the same
            settings; the message says why.
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
    """Find every parameter that writes to the residual stream of a model without an `obstacle`.

    Yields:
        The parameter, and the index of the dimension that corresponds to the stream's d.
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
    """Whether nothing but stacked experts writes. A shared expert beside them would be missed."""
    d = _matrix(anatomy.embedding, "weight").shape[1]
    linears = (module for module in writer.module.modules() if isinstance(module, nn.Linear))
    return bool(_experts(writer)) and all(linear.out_features != d for linear in linears)


def _experts(writer: Writer) -> list[nn.Module]:
    """Find the modules with stacked expert matrices in a mixture of experts; [] in a plain MLP."""
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
    """Yield the stacked matrices and biases of experts, as `writes` does.

    The matrices have one of two orientations: [expert, d, inner] or [expert, inner, d]. If d is
    also the inner width, the input projection shows which: [expert, 2 inner, d] or
    [expert, d, 2 inner].
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
    """Return a parameter of a module, typed as a tensor, which torch's annotations leave open."""
    parameter = getattr(module, name)
    assert isinstance(parameter, torch.Tensor)
    return parameter


@torch.no_grad()
def project(weights: Tensor, unit: Float[Tensor, "*rank d"], dim: int) -> None:
    """Project w <- (I - r r^T) w along one dimension, in place.

    With several orthonormal rows, the projection is w <- (I - R^T R) w.

    It is computed in float64, a few thousand vectors at a time, because a whole embedding in
    float64 may not fit into memory beside the model.

    Args:
        weights: the tensor to change.
        unit: a unit vector r, or orthonormal rows R.
        dim: the index of the dimension of size d.
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
