"""Hooks on a model's modules, and where in the model they may go."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from polyrefuse_shared.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle


class LayerOutOfRange(UserError):
    """A layer that the model does not have."""


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


def check_layers(layers: range, n_layers: int) -> None:
    """Raises LayerOutOfRange unless `layers` is a run of blocks of a model with `n_layers`."""
    if not 0 <= layers.start < layers.stop <= n_layers:
        wanted = f"{layers.start}-{layers.stop - 1}" if len(layers) > 1 else f"{layers.start}"
        raise LayerOutOfRange(
            f"layer {wanted} is not in the model, whose layers are 0-{n_layers - 1}."
        )
