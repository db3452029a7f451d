"""What is done to the residual stream, as pure functions of tensors, and where hooks put them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from polyrefuse_models.anatomy import dissect
from polyrefuse_tasks.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle
    from transformers import PreTrainedModel


class LayerOutOfRange(UserError):
    """A layer that the model does not have."""


def ablate(
    x: Float[Tensor, "... d"], r: Float[Tensor, "d"], coefficient: float = 1.0
) -> Float[Tensor, "... d"]:
    """Remove the component of `x` along the unit vector `r` (2505.17306, eq. 3), or a share of it.

    The projection is taken in the finer of the two precisions: a dot product over thousands of
    dimensions in bfloat16 would lose it.
    """
    wide = torch.promote_types(x.dtype, r.dtype)
    rows, r = x.to(wide).flatten(0, -2), r.to(wide)
    return torch.addr(rows, rows @ r, r, alpha=-coefficient).view(x.shape).to(x.dtype)


def ablate_rows(
    x: Float[Tensor, "... d"], r: Float[Tensor, "row d"], coefficient: float = 1.0
) -> Float[Tensor, "... d"]:
    """`ablate` with a unit vector of its own for each row of a batch.

    Args:
        x: [row, token, d], or [row * token, d] as some mixtures of experts return it.
    """
    wide = torch.promote_types(x.dtype, r.dtype)
    rows, r = x.to(wide).reshape(len(r), -1, r.shape[-1]), r.to(wide)[:, None]
    cleaned = rows - coefficient * (rows * r).sum(-1, keepdim=True) * r
    return cleaned.view(x.shape).to(x.dtype)


def add(
    x: Float[Tensor, "... d"], direction: Float[Tensor, "d"], coefficient: float = 1.0
) -> Float[Tensor, "... d"]:
    """Add the direction, not normalised (2505.17306, eq. 2; 2406.11717, sec. 2.4)."""
    return x + (coefficient * direction).to(x.dtype)


class Hooks:
    """Hooks on a model's modules that change what they return or take; removed by `remove`."""

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []

    def remove(self) -> None:
        """Take the hooks out: the model computes what it did before."""
        for handle in self._handles:
            handle.remove()

    def _on_output(self, module: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (change(output[0]), *output[1:])
            return change(output)

        self._handles.append(module.register_forward_hook(hook))

    def _on_input(self, module: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        def hook(_module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict]:
            if args:
                return (change(args[0]), *args[1:]), kwargs
            return args, kwargs | {"hidden_states": change(kwargs["hidden_states"])}

        self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))


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


def check_layers(layers: range, n_layers: int) -> None:
    """Raises LayerOutOfRange unless `layers` is a run of blocks of a model with `n_layers`."""
    if not 0 <= layers.start < layers.stop <= n_layers:
        wanted = f"{layers.start}-{layers.stop - 1}" if len(layers) > 1 else f"{layers.start}"
        raise LayerOutOfRange(
            f"layer {wanted} is not in the model, whose layers are 0-{n_layers - 1}."
        )


@contextmanager
def ablated(model: PreTrainedModel, direction: Float[Tensor, "*row d"]) -> Iterator[None]:
    """The model with `direction` ablated, one or one a row, for the length of a `with` block."""
    ablation = Ablation(model, direction)
    try:
        yield
    finally:
        ablation.remove()
