"""Ablation: keep a direction out of the residual stream, by hooks or by editing weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch

from polyrefuse_models.anatomy import decoder_blocks, dissect
from polyrefuse_models.hooks import Hooks
from polyrefuse_models.interventions.contract import condition_under, installed
from polyrefuse_models.interventions.layers import check_layers
from polyrefuse_models.interventions.orthogonalise import NotExact, obstacle, orthogonalise
from polyrefuse_models.interventions.projection import Copies, ablate, ablate_rows

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformers import PreTrainedModel

Method = Literal["hooks", "weights"]

METHODS = ("auto", "hooks", "weights")
"""The values of `method` that `settle_method` takes."""


class Ablation(Hooks):
    """An intervention that keeps one direction out of the residual stream (2505.17306, eq. 3).

    Hooks make one projection for each module that writes, and one more: 2 L + 1 if each block has
    an attention and an MLP. They project what the first block reads, every write of a block but its
    last, and what every block passes on. That equals projecting every write, because a sum of
    vectors without a component along r has none either. Only rounding differs: in bfloat16 each sum
    leaves a little along r, which adds up from block to block unless the sum itself is projected.
    If a share of the component is to stay (`coefficient`), each block's last write is projected
    instead of its sum, because otherwise every block would remove the share from the whole sum
    again. A second tensor that a block takes (Zamba takes the embedding again) is projected where
    it enters.

    In a post-norm block the write is the norm's output. The authors' code projects at block inputs
    and module outputs (3 L projections), which in post-norm models leaves what the last MLP's norm
    writes.

    Edited weights need no projection at run time: see `orthogonalise`. A soft prompt's vectors do
    not come from the edited embedding, so they have to be projected themselves.

    Args:
        direction: a vector of any length: one for all rows of a batch, or (by hooks) one for each
            of as many equal parts of the batch. The zero vector has no direction and makes every
            output NaN. The selection of a direction drops such candidates.
        coefficient: the share of the component that is removed.
        layers: the blocks whose writes are ablated; the input of the first of them is ablated too.
            None means all blocks.
        method: "hooks", or "weights" if `orthogonalise.obstacle` finds no reason against it.
        control: the kind of control that the direction is; None for the refusal direction itself.
        called: this intervention's part of the condition's name, without the control's.
        provenance: what `identity` says about the direction.
    """

    def __init__(
        self,
        direction: Float[Tensor, "*row d"],
        *,
        coefficient: float = 1.0,
        layers: range | None = None,
        method: Method = "hooks",
        control: str | None = None,
        called: str = "ablation",
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.condition = condition_under(control, called)
        wide = direction.cpu().double()
        self.direction = direction
        self._unit = Copies(wide / wide.norm(dim=-1, keepdim=True))
        self._ablate: Callable[[Tensor, Tensor, float], Tensor] = (
            ablate if direction.dim() == 1 else ablate_rows
        )
        self.coefficient = coefficient
        self.layers = layers
        self.method = method
        self._provenance = dict(provenance or {})

    def install(self, model: PreTrainedModel) -> None:
        """Put the hooks into a decoder-only model in evaluation mode, or edit its weights.

        Raises:
            LayerOutOfRange: the model has no such block.
            UnknownArchitecture: `anatomy.dissect` cannot find what writes in the model.
            NotExact: edited weights would not do exactly what hooks do.
        """
        if self.method == "weights":
            orthogonalise(model, self.direction, coefficient=self.coefficient, layers=self.layers)
            return
        blocks = dissect(model).blocks
        layers = range(len(blocks)) if self.layers is None else self.layers
        check_layers(layers, len(blocks))
        self.on_input(blocks[layers.start].module, self._change)
        for block in blocks[layers.start : layers.stop]:
            if block.beside:
                self.on_others(block.module, self._change)
            writers = [writer.module for writer in block.writers]
            if self.coefficient == 1:
                writers[-1:] = [block.module]
            for writer in writers:
                self.on_output(writer, self._change)

    @property
    def edits_weights(self) -> bool:
        """Whether the method is "weights"."""
        return self.method == "weights"

    def identity(self) -> dict[str, Any]:
        """Return what identifies the direction, and how it is ablated."""
        layers = self.layers
        return {
            **self._provenance,
            "coefficient": self.coefficient,
            "method": self.method,
            "layers": "all" if layers is None else f"{layers.start}-{layers.stop - 1}",
        }

    def _change(self, x: Tensor) -> Tensor:
        dtype = x.dtype
        # In float16 a dot product over thousands of dimensions can overflow. bfloat16 has the range
        # of float32, and leaves no more along r than lm-eval's `steered` does.
        unit = self._unit.at(x.device, torch.float32 if dtype == torch.float16 else dtype)
        return self._ablate(x, unit, self.coefficient)


@contextmanager
def ablated(model: PreTrainedModel, direction: Float[Tensor, "*row d"]) -> Iterator[None]:
    """Ablate a direction, or one for each part of a batch, for the length of a `with` block."""
    with installed(model, Ablation(direction)):
        yield


def settle_layers(model: PreTrainedModel, layers: range | None) -> range | None:
    """Return the blocks that were asked for, or None if these are all blocks.

    Raises:
        LayerOutOfRange: the model has no such blocks.
    """
    n_layers = len(decoder_blocks(model))
    if layers is None:
        return None
    check_layers(layers, n_layers)
    return None if layers == range(n_layers) else layers


def settle_method(
    model: PreTrainedModel,
    method: str,
    *,
    coefficient: float,
    layers: range | None,
    own_model: bool,
) -> Method:
    """Choose how to ablate in a model.

    Args:
        model: the model as loaded.
        method: "hooks", "weights", or "auto", which takes weights if they are exact and may be
            edited.
        coefficient: as in `Ablation`.
        layers: as in `Ablation`.
        own_model: whether the model was loaded for this measurement. "auto" does not touch the
            weights of a model that belongs to the caller.

    Raises:
        NotExact: "weights" was asked for and would not be exact.
    """
    if method == "hooks":
        return "hooks"
    reason = obstacle(model, coefficient=coefficient, layers=layers)
    if method == "auto":
        return "weights" if own_model and reason is None else "hooks"
    if reason:
        raise NotExact(f"method=weights is not exact: {reason}; use method=hooks.")
    return "weights"
