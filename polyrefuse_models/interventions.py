"""What is done to the residual stream, as pure functions of tensors, and where hooks put them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from polyrefuse_models.anatomy import residual_writes

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn
    from transformers import PreTrainedModel


def ablate(x: Float[Tensor, "... d"], r: Float[Tensor, "d"]) -> Float[Tensor, "... d"]:
    """Remove the component of `x` along the unit vector `r` (2505.17306, eq. 3).

    The projection is taken in the finer of the two precisions: a dot product over thousands of
    dimensions in bfloat16 would lose it.
    """
    wide = torch.promote_types(x.dtype, r.dtype)
    r = r.to(wide)
    return x - ((x.to(wide) @ r).unsqueeze(-1) * r).to(x.dtype)


def ablate_rows(
    x: Float[Tensor, "row token d"], r: Float[Tensor, "row d"]
) -> Float[Tensor, "row token d"]:
    """`ablate` with a unit vector of its own for each row of a batch."""
    wide = torch.promote_types(x.dtype, r.dtype)
    r = r.to(wide)[:, None]
    return x - ((x.to(wide) * r).sum(-1, keepdim=True) * r).to(x.dtype)


class Ablation:
    """Hooks that ablate one direction at each of a model's writes to the residual stream.

    One projection at each write, the embedding's and every attention's and MLP's (2 L + 1), leaves
    every block's input clean: a sum of vectors without a component along r has none.

    Args:
        model: a decoder-only model whose writes `anatomy.residual_writes` finds.
        direction: any scale; one for all rows of a batch, or one a row. The zero vector has no
            direction and makes every output NaN, which selection drops.
    """

    def __init__(self, model: PreTrainedModel, direction: Float[Tensor, "*row d"]) -> None:
        wide = direction.double()
        self._unit = (wide / wide.norm(dim=-1, keepdim=True)).float()
        self._ablate = ablate if direction.dim() == 1 else ablate_rows
        # One copy a device, since a model may be spread over several.
        self._unit_on: dict[torch.device, Tensor] = {}
        self._handles = [
            module.register_forward_hook(self._hook) for module in residual_writes(model)
        ]

    def remove(self) -> None:
        """Take the hooks out: the model computes what it did before."""
        for handle in self._handles:
            handle.remove()

    def _hook(self, _module: nn.Module, _args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (self._ablate(output[0], self._on(output[0].device)), *output[1:])
        return self._ablate(output, self._on(output.device))

    def _on(self, device: torch.device) -> Float[Tensor, "*row d"]:
        if device not in self._unit_on:
            self._unit_on[device] = self._unit.to(device)
        return self._unit_on[device]


@contextmanager
def ablated(model: PreTrainedModel, direction: Float[Tensor, "*row d"]) -> Iterator[None]:
    """The model with `direction` ablated, one or one a row, for the length of a `with` block."""
    ablation = Ablation(model, direction)
    try:
        yield
    finally:
        ablation.remove()
