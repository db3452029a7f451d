"""Affine ablation: set the component along a direction to that of harmless prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from polyrefuse_models.anatomy import dissect
from polyrefuse_models.hooks import Hooks
from polyrefuse_models.interventions.contract import condition_under
from polyrefuse_models.interventions.layers import check_layers
from polyrefuse_models.interventions.projection import Copies, ablate, set_along
from polyrefuse_shared.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformers import PreTrainedModel


class NotAffine(UserError):
    """A model in which the component cannot be set."""


class AffineAblation(Hooks):
    """An intervention that sets the component along r to that of each layer's harmless mean.

    At the input of block l, and of the final norm, x <- x - (x.r) r + (m_l.r) r, where m_l is the
    mean state of the prompts that the model answers. That is the affine concept editing of arXiv
    2411.09003 with alpha = 0, with the same r at all layers, as in `Ablation`. Plain ablation sets
    the component to 0, which may be far from the states of any prompt.

    The hooks are in the same places as those of `Ablation`: 2 L + 1 if each block has an attention
    and an MLP. The component is set in what the first block reads, and in what every block passes
    on. Every write of a block but its last is ablated, so that the block's MLP reads the component
    that the block read (or a multiple of it, in a block that multiplies its input).

    Args:
        direction: the direction r, of any length but 0.
        harmless_mean: the mean state at every block's input, followed by the mean of what the last
            block passes on.
        layers: the blocks in which the component is set; it is also set at the input of the first
            of them. None means all blocks.
        control: the kind of control that the direction is; None for the refusal direction itself.
        provenance: what `identity` says about the direction.
    """

    edits_weights = False

    def __init__(
        self,
        direction: Float[Tensor, "d"],
        harmless_mean: Float[Tensor, "layer+1 d"],
        *,
        layers: range | None = None,
        control: str | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.condition = condition_under(control, "affine-ablation")
        self.direction = direction
        wide = direction.cpu().double()
        unit = wide / wide.norm()
        self._unit = Copies(unit)
        self._values = [Copies(value) for value in harmless_mean.cpu().double() @ unit]
        self.layers = layers
        self._provenance = dict(provenance or {})

    def install(self, model: PreTrainedModel) -> None:
        """Put the hooks into a decoder-only model in evaluation mode.

        Raises:
            LayerOutOfRange: the model has no such block.
            UnknownArchitecture: `anatomy.dissect` cannot find what writes in the model.
            NotAffine: the mean has another number of layers, or a block reads a second stream.
        """
        blocks = dissect(model).blocks
        if len(self._values) != len(blocks) + 1:
            raise NotAffine(
                f"The mean of harmless prompts has {len(self._values) - 1} layers, and the model "
                f"has {len(blocks)}; extract the direction from this model."
            )
        layers = range(len(blocks)) if self.layers is None else self.layers
        check_layers(layers, len(blocks))
        if any(block.beside for block in blocks[layers.start : layers.stop]):
            raise NotAffine(
                f"ablation=affine is not possible in {type(model).__name__}, because a block takes "
                "a second tensor of the residual stream, and the direction has no mean of it; "
                "leave ablation out."
            )
        self.on_input(blocks[layers.start].module, self._setting(layers.start))
        for layer in layers:
            for writer in blocks[layer].writers[:-1]:
                self.on_output(writer.module, self._ablate)
            self.on_output(blocks[layer].module, self._setting(layer + 1))

    def identity(self) -> dict[str, Any]:
        """Return what identifies the direction, and how it is ablated."""
        layers = self.layers
        return {
            **self._provenance,
            "coefficient": 1.0,
            "method": "hooks",
            "layers": "all" if layers is None else f"{layers.start}-{layers.stop - 1}",
        }

    def _setting(self, layer: int) -> Callable[[Tensor], Tensor]:
        """Make the function that sets the component to that of the mean at a layer's input."""
        value = self._values[layer]

        def change(x: Tensor) -> Tensor:
            dtype = _finer(x.dtype)
            return set_along(x, self._unit.at(x.device, dtype), value.at(x.device, dtype))

        return change

    def _ablate(self, x: Tensor) -> Tensor:
        return ablate(x, self._unit.at(x.device, _finer(x.dtype)))


def _finer(dtype: torch.dtype) -> torch.dtype:
    """Return the type to compute a projection in. In float16 a dot product can overflow."""
    return torch.float32 if dtype == torch.float16 else dtype
