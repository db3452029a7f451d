"""The one way in which this package puts hooks on a model's modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

Own = TypeVar("Own", bound="Hooks")


class Hooks:
    """Hooks on a model's modules, until `remove` is called or a `with` block ends.

    `on_input` and `on_output` take a function of the one tensor that a module takes or returns
    first, `on_others` of each that it takes beside it of as many tokens and dimensions. What the
    function returns takes that tensor's place; one that only looks returns None. `before` takes
    torch's own hook, for a module that may take anything.
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

        self.before(module, hook)

    def on_others(self, module: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        """Call `change` with every tensor that `module` takes beside the first, of its tokens and
        width.
        """

        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            first = next(x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor))

            def changed(x: Any) -> Any:
                other = isinstance(x, torch.Tensor) and x is not first
                return change(x) if other and x.shape[1:] == first.shape[1:] else x

            return tuple(map(changed, args)), {name: changed(x) for name, x in kwargs.items()}

        self.before(module, hook)

    def on_output(self, module: nn.Module, change: Callable[[Tensor], Tensor | None]) -> None:
        """Call `change` with what `module` returns, or with the first part of it."""

        # Without keywords: a hook on every module is called at every token, and torch passes
        # them on at a cost.
        def hook(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
            if not isinstance(output, (tuple, list)):
                return change(output)
            changed = change(output[0])
            if changed is None:
                return None
            rest = output[1:]
            return [changed, *rest] if isinstance(output, list) else (changed, *rest)

        self._handles.append(module.register_forward_hook(hook))

    def before(self, module: nn.Module, hook: Callable[..., Any]) -> None:
        """Call `hook(module, args, kwargs)` before `module`."""
        self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def remove(self) -> None:
        """Take the hooks out: the model computes what it did before."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
