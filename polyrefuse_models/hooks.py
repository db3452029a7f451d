"""The one way in which this package puts hooks on a model's modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

Own = TypeVar("Own", bound="Hooks")


class Hooks:
    """Hooks on a model's modules, until `remove` is called or a `with` block ends.

    A hook is a function of the one tensor that a module takes or returns first. What it returns
    takes that tensor's place; a function that only looks returns None.
    """

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []

    def on_input(
        self,
        module: nn.Module,
        change: Callable[[Tensor], Tensor | None],
        *,
        name: str = "hidden_states",
    ) -> None:
        """Call `change` with what `module` takes.

        Args:
            module: of the model.
            change: see the class.
            name: of the tensor, where it is not the first positional argument.
        """

        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            changed = change(args[0] if args else kwargs[name])
            if changed is None:
                return None
            if args:
                return (changed, *args[1:]), kwargs
            return args, kwargs | {name: changed}

        self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def on_output(self, module: nn.Module, change: Callable[[Tensor], Tensor | None]) -> None:
        """Call `change` with what `module` returns, or with the first part of it."""

        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            if not isinstance(output, tuple):
                return change(output)
            changed = change(output[0])
            return None if changed is None else (changed, *output[1:])

        self._handles.append(module.register_forward_hook(hook))

    def remove(self) -> None:
        """Take the hooks out: the model computes what it did before."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
