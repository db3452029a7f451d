"""Put hooks on a model's modules. The whole package uses this class for its hooks."""

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

    `on_input` and `on_output` take a function of the first tensor that a module takes or returns.
    `on_others` takes a function of each other input with as many tokens and dimensions. What the
    function returns replaces the tensor. A function that only observes returns None. `before` takes
    a hook of torch's own kind, for modules with any inputs.
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
        """Call `change` with the first tensor that `module` takes.

        Args:
            module: a module of the model.
            change: a function of that tensor, as the class describes it.
            name: the tensor's keyword, for modules that are called with keywords alone.
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
        """Call `change` with every other input of `module` that has the first tensor's shape.

        The first dimension, which is the batch, is not compared.
        """

        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            first = next(x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor))

            def changed(x: Any) -> Any:
                other = isinstance(x, torch.Tensor) and x is not first
                return change(x) if other and x.shape[1:] == first.shape[1:] else x

            return tuple(map(changed, args)), {name: changed(x) for name, x in kwargs.items()}

        self.before(module, hook)

    def on_output(self, module: nn.Module, change: Callable[[Tensor], Tensor | None]) -> None:
        """Call `change` with the tensor that `module` returns, or with the first of several."""

        # The hook takes no keywords: passing them would cost torch time at every token.
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
        """Call `hook(module, args, kwargs)` before each call of `module`."""
        self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def remove(self) -> None:
        """Remove the hooks, so that the model computes what it did before."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
