"""Addition: a hook that adds a direction at the input of one block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyrefuse_models.anatomy import dissect
from polyrefuse_models.interventions.hooks import Hooks, check_layers
from polyrefuse_models.interventions.projection import add

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformers import PreTrainedModel


class Addition(Hooks):
    """A hook that adds a direction at the input of one block, at every token.

    Args:
        model: a decoder-only model in evaluation mode.
        direction: as extracted: its length is what separates refusals from answers.
        layer: the block.
        coefficient: multiple of the direction that is added.

    Raises:
        LayerOutOfRange: the model has no such block.
        UnknownArchitecture: `anatomy.dissect` does not know its way around the model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        direction: Float[Tensor, "d"],
        layer: int,
        *,
        coefficient: float = 1.0,
    ) -> None:
        super().__init__()
        blocks = dissect(model).blocks
        check_layers(range(layer, layer + 1), len(blocks))
        self._on_input(blocks[layer].module, lambda x: add(x, direction.to(x.device), coefficient))
