"""Ablation: a direction is kept out of the residual stream, by hooks or by the weights."""

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
"""What `settle_method` may be asked for."""


class Ablation(Hooks):
    """One direction kept out of the residual stream (2505.17306, eq. 3).

    By hooks it takes one projection for each module that writes, and one more: 2 L + 1 of an
    attention and an MLP a block. They are at what the first block reads, at every write of a block
    but its last, and at what every block passes on. That is the same as projecting every write,
    since the sum of vectors without a component along r has none, but for rounding: in bfloat16
    each sum leaves a little along r, which adds up from block to block unless the sum itself is
    projected. Where a share of the component is to stay (`coefficient`), each block's last write is
    projected instead, because the share would be taken from the whole sum again in every block.
    What a block takes beside the stream (Zamba: the embedding again) is projected there.

    In a post-norm block the write is the norm's output. The authors' code projects at block inputs
    and module outputs (3 L), which in post-norm models leaves what the last MLP's norm writes.

    By weights it takes none: see `orthogonalise`. A soft prompt's vectors do not come out of the
    embedding, so that they have to be projected themselves.

    Args:
        direction: any scale; one for all rows of a batch, or (by hooks) one for each of as many
            equal parts of it. The zero vector has no direction and makes every output NaN, which
            selection drops.
        coefficient: share of the component that is removed.
        layers: the blocks whose writes are ablated, and the input of the first of them; all where
            None.
        method: "hooks", or "weights" where `orthogonalise.obstacle` knows nothing against it.
        control: what kind of control the direction is; None for one that is none.
        called: its part of the condition's name, without the control's.
        provenance: what `identity` says of the direction.
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
            UnknownArchitecture: `anatomy.dissect` does not know its way around the model.
            NotExact: the weights cannot do what hooks do.
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
        """Only `method="weights"` does."""
        return self.method == "weights"

    def identity(self) -> dict[str, Any]:
        """The direction, and how it is ablated."""
        layers = self.layers
        return {
            **self._provenance,
            "coefficient": self.coefficient,
            "method": self.method,
            "layers": "all" if layers is None else f"{layers.start}-{layers.stop - 1}",
        }

    def _change(self, x: Tensor) -> Tensor:
        dtype = x.dtype
        # bfloat16 has float32's range: what lm-eval's `steered` leaves along r is the measure
        # there. In float16 a dot product over thousands of dimensions can overflow.
        unit = self._unit.at(x.device, torch.float32 if dtype == torch.float16 else dtype)
        return self._ablate(x, unit, self.coefficient)


@contextmanager
def ablated(model: PreTrainedModel, direction: Float[Tensor, "*row d"]) -> Iterator[None]:
    """The model with `direction` ablated, one or one a row, for the length of a `with` block."""
    with installed(model, Ablation(direction)):
        yield


def settle_layers(model: PreTrainedModel, layers: range | None) -> range | None:
    """The blocks that were asked for; None where they are all of them.

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
    """How to ablate in a model.

    Args:
        model: as loaded.
        method: "hooks", "weights", or "auto": weights where they are exact and may be edited.
        coefficient: as `Ablation`'s.
        layers: as `Ablation`'s.
        own_model: whether it was loaded for this measurement. A model that the caller made is the
            caller's: "auto" does not touch its weights.

    Raises:
        NotExact: "weights" would not be exact.
    """
    if method == "hooks":
        return "hooks"
    reason = obstacle(model, coefficient=coefficient, layers=layers)
    if method == "auto":
        return "weights" if own_model and reason is None else "hooks"
    if reason:
        raise NotExact(f"method=weights is not exact: {reason}; use method=hooks.")
    return "weights"
