"""The calls by which a worker of vLLM changes its part of the model.

vLLM mixes `Worker` into its own worker class (`worker_extension_cls`). It imports this module
before it loads the model, and the import registers `loader`. The calls return their errors, because
an exception in one worker would shift the results of all later calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from polyrefuse_models.interventions.projection import ablate, ablate_span, add
from polyrefuse_models.vllm_engine import loader  # noqa: F401  # registers itself
from polyrefuse_models.vllm_engine.plan import Hook, Plan

Result = dict[str, Any]
"""The result of a call: `error`, which is a clause or None, and what the call returns."""


class Worker:
    """Calls for `LLM.collective_rpc`; `self` is vLLM's worker, which has the model."""

    def polyrefuse_install(self, folder: str) -> Result:
        """Put a plan's hooks into this worker's part of the model.

        Args:
            folder: the folder of the plan.

        Returns:
            `hooked`: the paths of the hooked modules in this worker. With pipeline parallelism,
            other workers have the others.
        """
        with _returned() as result:
            plan = Plan.load(folder)
            model = _model(self)
            installed = _Installed(plan)
            result["hooked"] = [hook.module for hook in plan.hooks if installed.put(hook, model)]
            model.polyrefuse = installed
        return result

    def polyrefuse_calls(self) -> Result:
        """Count how often each hook has been called so far.

        Returns:
            `calls`: the path of each module -> the number of calls.
        """
        with _returned() as result:
            installed: Any = _model(self).polyrefuse
            result["calls"] = dict(installed.calls)
        return result

    def polyrefuse_embedding_scale(self, path: str) -> Result:
        """Measure the factor by which the model multiplies its embedding's rows.

        vLLM puts other vectors among the rows after this multiplication.

        Args:
            path: the path of the embedding.

        Returns:
            `scale`: the factor.
        """
        with _returned() as result, torch.inference_mode():
            model = _model(self)
            result["scale"] = 1.0
            embedding = _module(model, path)
            if embedding is not None and hasattr(model, "embed_input_ids"):
                device = next(embedding.parameters()).device
                ids = torch.arange(1, 4, device=device)
                scaled, rows = model.embed_input_ids(ids).double(), embedding(ids).double()
                scale = float((scaled * rows).sum() / (rows * rows).sum())
                rest = float((scaled - scale * rows).norm() / scaled.norm())
                if not rest < 1e-2:
                    raise LookupError("its embedding does more than multiply its rows")
                result["scale"] = scale
        return result


class _Installed:
    """The hooks of a plan on a model."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.calls: Counter[str] = Counter()
        assert plan.direction is not None
        self._added_vector = plan.coefficient * plan.direction
        self._unit = plan.unit.float()

    def put(self, hook: Hook, model: nn.Module) -> bool:
        """Put one hook in place; return False if another worker has its module.

        Raises:
            LookupError: the model has no module of that path.
        """
        module = _module(model, hook.module)
        if module is None:
            return False
        self.calls[hook.module] += 0
        change = self._ablated if hook.change == "ablate" else self._added
        if hook.place == "input":
            # A direction is added to one input only, because the stream is the sum of the inputs.
            everything = hook.change == "ablate"
            module.register_forward_pre_hook(
                partial(self._before, hook.module, change, everything), with_kwargs=True
            )
        else:
            module.register_forward_hook(partial(self._after, hook.module, change))
        return True

    def _before(
        self,
        path: str,
        change: Callable[[Tensor], Tensor],
        everything: bool,
        _module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self.calls[path] += 1
        changed = 0

        def of(x: Any) -> Any:
            nonlocal changed
            if not self._is_stream(x) or (changed and not everything):
                return x
            changed += 1
            return change(x)

        return tuple(map(of, args)), {name: of(x) for name, x in kwargs.items()}

    def _after(
        self,
        path: str,
        change: Callable[[Tensor], Tensor],
        _module: nn.Module,
        _args: tuple[Any, ...],
        output: Any,
    ) -> Any:
        """Change an output. A block of vLLM returns two: its last write, and the sum before it."""
        self.calls[path] += 1
        if isinstance(output, tuple):
            return tuple(change(x) if self._is_stream(x) else x for x in output)
        return change(output)

    def _is_stream(self, x: Any) -> bool:
        return (
            isinstance(x, Tensor)
            and x.is_floating_point()
            and x.shape[-1:] == self._unit.shape[-1:]
        )

    def _ablated(self, x: Tensor) -> Tensor:
        self._unit = self._unit.to(x.device)
        remove = ablate if self._unit.dim() == 1 else ablate_span
        return remove(x, self._unit, self.plan.coefficient)

    def _added(self, x: Tensor) -> Tensor:
        self._added_vector = self._added_vector.to(x.device)
        return add(x, self._added_vector)


@contextmanager
def _returned() -> Iterator[Result]:
    """Yield a result, and put an error that the block raises into it."""
    result: Result = {"error": None}
    try:
        yield result
    except Exception as error:  # The module's docstring says why calls return errors.
        result["error"] = f"{type(error).__name__}: {error}"


def _model(worker: Any) -> Any:
    return worker.model_runner.get_model()


def _module(model: Any, path: str) -> nn.Module | None:
    """Find the module of a path in vLLM's model or in its language model.

    Returns:
        The module, or None if another worker has it (pipeline parallelism).

    Raises:
        LookupError: the model has no such module.
    """
    from vllm.model_executor.models.utils import PPMissingLayer

    roots = [model]
    if hasattr(model, "get_language_model"):
        roots.append(model.get_language_model())
    for root in roots:
        module: Any = root
        for name in path.split("."):
            module = getattr(module, name, None)
            if module is None or isinstance(module, PPMissingLayer):
                break
        if module is not None:
            return None if isinstance(module, PPMissingLayer) else module
    raise LookupError(f"{type(model).__name__} has no module {path} in vLLM")
