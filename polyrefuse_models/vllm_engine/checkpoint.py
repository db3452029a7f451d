"""Find the tensors of a checkpoint that write to the residual stream, by their names.

A model in memory and its checkpoint may differ, because transformers stacks experts and renames
modules while it loads. It can undo these changes to save a model. Here each writing parameter is
converted back in this way, but has the index along the stream in place of its values. This shows
which dimension of the checkpoint's tensor runs along the stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers.core_model_loading import revert_weight_conversion

from polyrefuse_models.interventions.orthogonalise import writes

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def written_tensors(model: PreTrainedModel) -> dict[str, int]:
    """Find the tensors of a checkpoint that write to the residual stream.

    Args:
        model: a model without an `orthogonalise.obstacle`. Its weights may be stand-ins.

    Returns:
        Name of a tensor in the checkpoint -> index of its dimension along the stream.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    marked: dict[str, Tensor] = {}
    for parameter, dim in writes(model):
        shape = [1] * parameter.dim()
        shape[dim] = parameter.shape[dim]
        index = torch.arange(parameter.shape[dim], dtype=torch.float32)
        marked[names[id(parameter)]] = index.view(shape).expand(parameter.shape)
    return {
        name: _marked_dimension(tensor)
        for name, tensor in revert_weight_conversion(model, marked).items()
    }


def tied_tensors(model: PreTrainedModel) -> tuple[str, str] | None:
    """Return the checkpoint's names of embedding and unembedding if they are one tensor, else None.

    A checkpoint usually has only the embedding.
    """
    embedding: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    if head is None or head.weight is not embedding.weight:
        return None
    names = {id(module): f"{name}.weight" for name, module in model.named_modules()}
    mine = [names[id(module)] for module in (embedding, head)]
    # One at a time, because transformers may merge two names of one tensor.
    first, second = (
        next(iter(revert_weight_conversion(model, {name: torch.zeros(1)}))) for name in mine
    )
    return first, second


def _marked_dimension(tensor: Tensor) -> int:
    """Return the index of the dimension along which a tensor's values differ."""
    (dim,) = (
        dim
        for dim in range(tensor.dim())
        if tensor.shape[dim] > 1 and bool((tensor.select(dim, 0) != tensor.select(dim, 1)).any())
    )
    return dim
