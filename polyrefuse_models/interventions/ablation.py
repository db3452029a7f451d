"""Ablation: hooks that keep one direction out of the residual stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from polyrefuse_models.anatomy import dissect
from polyrefuse_models.interventions.hooks import Hooks, check_layers
from polyrefuse_models.interventions.projection import ablate, ablate_rows

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float
    from torch import Tensor
    from transformers import PreTrainedModel


class Ablation(Hooks):
    """Hooks that keep one direction out of the residual stream: 2 L + 1 projections.

    They are at what the first block reads, at every attention's write, and at what every block
    passes on. That is the same as projecting every write, since the sum of vectors without a
    component along r has none, but for rounding: in bfloat16 each sum leaves a little along r,
    which adds up from block to block unless the sum itself is projected. Where a share of the
    component is to stay (`coefficient`), each MLP's write is projected instead, because the share
    would be taken from the whole sum again in every block.

    In a post-norm block the write is the norm's output. The seeds project at block inputs and
    module outputs (3 L), which in post-norm models leaves what the last MLP's norm writes.

    Args:
        model: a decoder-only model in evaluation mode.
        direction: any scale; one for all rows of a batch, or one a row. The zero vector has no
            direction and makes every output NaN, which selection drops.
        coefficient: share of the component that is removed.
        layers: the blocks whose writes are ablated, and the input of the first of them; all where
            None.

    Raises:
        LayerOutOfRange: the model has no such block.
        UnknownArchitecture: `anatomy.dissect` does not know its way around the model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        direction: Float[Tensor, "*row d"],
        *,
        coefficient: float = 1.0,
        layers: range | None = None,
    ) -> None:
        super().__init__()
        wide = direction.cpu().double()
        self._unit = (wide / wide.norm(dim=-1, keepdim=True)).float()
        self._ablate = ablate if direction.dim() == 1 else ablate_rows
        self._coefficient = coefficient
        # One copy a device, since a model may be spread over several.
        self._unit_on: dict[torch.device, Tensor] = {}

        blocks = dissect(model).blocks
        chosen = range(len(blocks)) if layers is None else layers
        check_layers(chosen, len(blocks))
        self._on_input(blocks[chosen.start].module, self._change)
        for block in blocks[chosen.start : chosen.stop]:
            self._on_output(block.attention.write, self._change)
            self._on_output(block.module if coefficient == 1 else block.mlp.write, self._change)

    def _change(self, x: Tensor) -> Tensor:
        if x.device not in self._unit_on:
            self._unit_on[x.device] = self._unit.to(x.device)
        return self._ablate(x, self._unit_on[x.device], self._coefficient)


@contextmanager
def ablated(model: PreTrainedModel, direction: Float[Tensor, "*row d"]) -> Iterator[None]:
    """The model with `direction` ablated, one or one a row, for the length of a `with` block."""
    ablation = Ablation(model, direction)
    try:
        yield
    finally:
        ablation.remove()
