"""Load a checkpoint into vLLM with directions projected out of every tensor that writes.

The tensors are changed as they stream in, before vLLM fuses, shards, quantises or packs them. The
ablation therefore holds under tensor, pipeline and data parallelism, CUDA graphs and the prefix
cache. Nothing is written to disk.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

from polyrefuse_models.interventions.orthogonalise import project
from polyrefuse_models.vllm_engine.arguments import FOLDER, FORMAT, LOAD_FORMAT
from polyrefuse_models.vllm_engine.plan import Plan, refuse
from polyrefuse_shared.errors import first_line


class CannotAblate(RuntimeError):
    """The checkpoint is not what the plan was made for."""


@register_model_loader(LOAD_FORMAT)
class AblatingLoader(DefaultModelLoader):
    """vLLM's default loader, except that it changes the plan's tensors as they stream in.

    Raises:
        CannotAblate: a tensor that the plan names is missing or quantised, or embedding and
            unembedding are one tensor in vLLM's model, so that the edit would change both.
    """

    def __init__(self, load_config: Any) -> None:
        load_config = copy.copy(load_config)
        extra = dict(load_config.model_loader_extra_config)
        self._folder = extra.pop(FOLDER)
        self._plan = Plan.load(self._folder)
        load_config.load_format = extra.pop(FORMAT)
        load_config.model_loader_extra_config = extra
        super().__init__(load_config)

    def get_all_weights(self, model_config: Any, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
        """Yield the checkpoint's weights, changed so that they cannot write along the direction."""
        unit = self._plan.unit
        embedding, head = self._plan.tied or (None, None)
        left = dict(self._plan.writes)
        for name, tensor in super().get_all_weights(model_config, model):
            if name == head:
                continue  # This is a copy of the embedding; transformers uses the embedding.
            if name == embedding and head is not None:
                yield head, tensor
            dim = left.pop(name, None)
            if dim is not None:
                if not tensor.is_floating_point() or tensor.element_size() < 2:
                    raise self._refused(f"{name} is quantised ({tensor.dtype})")
                tensor = tensor.clone()
                project(tensor, unit, dim)
            yield name, tensor
        if left:
            raise self._refused(
                f"{len(left)} tensors that write to the residual stream were not in the "
                f"checkpoint, among them {next(iter(left))}"
            )

    def load_weights(self, model: nn.Module, model_config: Any) -> None:
        """Load the weights, and check that the unembedding was not changed."""
        try:
            super().load_weights(model, model_config)
        except CannotAblate:
            raise
        except Exception as error:  # vLLM raises it, for example about an unknown tensor.
            refuse(self._folder, first_line(error))
            raise
        if self._plan.tied is not None:
            _, head = self._plan.tied
            parameters = dict(model.named_parameters())  # A tied parameter has only its first name.
            last = any(name.endswith(head.split(".")[-2] + ".weight") for name in parameters)
            if not last and _is_last_stage():
                raise self._refused(
                    f"{type(model).__name__} has no separate unembedding in vLLM, so the edit of "
                    "the embedding would change it too"
                )

    def _refused(self, reason: str) -> CannotAblate:
        """Make the error, and write its reason where the process that started vLLM finds it."""
        refuse(self._folder, reason)
        return CannotAblate(reason)


def _is_last_stage() -> bool:
    """Whether this worker has the end of the model (pipeline parallelism)."""
    from vllm.distributed import get_pp_group

    return bool(get_pp_group().is_last_rank)
