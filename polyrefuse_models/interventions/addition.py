"""Addition: add a direction to the residual stream at the input of one block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from polyrefuse_models.anatomy import dissect
from polyrefuse_models.hooks import Hooks
from polyrefuse_models.interventions.contract import condition_under
from polyrefuse_models.interventions.layers import check_layers
from polyrefuse_models.interventions.projection import Copies, add
from polyrefuse_shared.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformers import PreTrainedModel


class Addition(Hooks):
    """An intervention that adds a direction at one block's input (2505.17306, eq. 2).

    The direction is added at every token.

    Args:
        direction: the direction as extracted. Its length is the distance between the mean states
            of harmful and harmless prompts.
        layer: the block, counted from 0.
        coefficient: the multiple of the direction that is added.
        control: the kind of control that the direction is; None for the refusal direction itself.
        provenance: what `identity` says about the direction.
    """

    edits_weights = False

    def __init__(
        self,
        direction: Float[Tensor, "d"],
        layer: int,
        *,
        coefficient: float = 1.0,
        control: str | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.condition = condition_under(control, "addition")
        self.direction = direction
        self._added = Copies(coefficient * direction)
        self.layer = layer
        self.coefficient = coefficient
        self._provenance = dict(provenance or {})

    def install(self, model: PreTrainedModel) -> None:
        """Put the hook into a decoder-only model in evaluation mode.

        Raises:
            LayerOutOfRange: the model has no such block.
            UnknownArchitecture: `anatomy.dissect` cannot find what writes in the model.
        """
        blocks = dissect(model).blocks
        check_layers(range(self.layer, self.layer + 1), len(blocks))
        self.on_input(
            blocks[self.layer].module,
            lambda x: add(x, self._added.at(x.device, x.dtype)),
        )

    def identity(self) -> dict[str, Any]:
        """Return what identifies the direction, and where it is added."""
        return {
            **self._provenance,
            "coefficient": self.coefficient,
            "layer": self.layer,
            "method": "hooks",
        }


def check_multiple(
    direction: Float[Tensor, "d"], coefficient: float, dtype: torch.dtype, option: str
) -> None:
    """Refuse a multiple of a direction that is too large for a model's number type.

    Models square their states in float32 to normalise them, whatever the type of their weights.

    Args:
        direction: the direction r.
        coefficient: the coefficient c.
        dtype: the number type of the model's states.
        option: the option that gave the coefficient, such as "--coefficients ", for messages.

    Raises:
        UserError: an entry of c r overflows `dtype`, or |c r|^2 overflows float32.
    """
    added = coefficient * direction.double()
    for what, number, type_ in (
        ("an entry", added.abs().max(), dtype),
        ("the squared length", added.square().sum(), torch.float32),
    ):
        most = torch.finfo(type_).max
        if not number <= most:
            raise UserError(
                f"{option}{coefficient:g}: {what} of {coefficient:g} times the direction is "
                f"{number:.3g}, and {str(type_).removeprefix('torch.')} holds at most {most:.3g}; "
                "give a smaller coefficient."
            )
