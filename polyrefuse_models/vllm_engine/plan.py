"""The plan of what vLLM's workers do to their part of the model, as a folder that they read.

vLLM runs a model in its own processes, on any number of machines. Only the engine's arguments and
calls with plain values reach these processes. They therefore get the path of the folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from safetensors.torch import load_file, save_file

from polyrefuse_models.anatomy import dissect
from polyrefuse_models.interventions import Ablation, Addition, Intervention, Preamble
from polyrefuse_models.vllm_engine.checkpoint import tied_tensors, written_tensors
from polyrefuse_shared.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformers import PreTrainedModel

PLAN, TENSORS, REFUSAL = "plan.json", "direction.safetensors", "refusal.txt"


class NotInVllm(UserError):
    """A request that vLLM cannot fulfil and transformers can."""


@dataclass(frozen=True)
class Hook:
    """A place where the residual stream is changed.

    Attributes:
        module: the path of the module in transformers and in vLLM.
        place: "input" changes the stream that the module takes, "output" what it returns.
        change: "ablate" the direction, or "add" it.
    """

    module: str
    place: Literal["input", "output"]
    change: Literal["ablate", "add"]


@dataclass(frozen=True)
class Plan:
    """What is done along one direction, or along several.

    Attributes:
        direction: a direction that is not normalised, or several orthogonal ones; None if there is
            no intervention along a direction.
        coefficient: the share that is removed, or the multiple that is added.
        writes: the names of the checkpoint's tensors that the direction is projected out of while
            they are loaded -> the index of their dimension along the stream.
        tied: the checkpoint's names of embedding and unembedding, if they are one tensor and
            `writes` would change both; otherwise None.
        hooks: the places where the stream is changed.
    """

    direction: Float[Tensor, "*rank d"] | None = None
    coefficient: float = 1.0
    writes: dict[str, int] = field(default_factory=dict)
    tied: tuple[str, str] | None = None
    hooks: tuple[Hook, ...] = ()

    def save(self, folder: Path) -> None:
        """Write the plan into a folder for `load`."""
        described = asdict(self) | {"direction": None}
        (folder / PLAN).write_text(json.dumps(described))
        if self.direction is not None:
            save_file({"direction": self.direction.float().contiguous()}, folder / TENSORS)

    @classmethod
    def load(cls, folder: str | Path) -> Plan:
        """Read a plan that `save` wrote."""
        folder = Path(folder)
        described = json.loads((folder / PLAN).read_text())
        tensors = load_file(folder / TENSORS) if (folder / TENSORS).exists() else {}
        tied = described["tied"]
        return cls(
            direction=tensors.get("direction"),
            coefficient=described["coefficient"],
            writes=described["writes"],
            tied=None if tied is None else tuple(tied),
            hooks=tuple(Hook(**hook) for hook in described["hooks"]),
        )

    @property
    def unit(self) -> Float[Tensor, "*rank d"]:
        """The direction, or each of several, with length 1, in float64."""
        assert self.direction is not None
        wide = self.direction.double()
        unit: Tensor = wide / torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        return unit


def refuse(folder: str | Path, reason: str) -> None:
    """Write into a plan's folder why a worker cannot do it. The error itself is only in a log."""
    (Path(folder) / REFUSAL).write_text(reason)


def refusal(folder: Path) -> str | None:
    """Return why a worker could not do the plan of a folder, as a clause; None without a reason."""
    file = folder / REFUSAL
    return file.read_text() if file.exists() else None


def plan_of(interventions: Iterable[Intervention], model: PreTrainedModel) -> Plan:
    """Plan the interventions that were asked for.

    Args:
        interventions: all interventions. Those that only change prompts (`Preamble`) need no plan.
        model: the model that they change. Its weights may be stand-ins.

    Raises:
        NotInVllm: vLLM's workers cannot do an intervention.
    """
    plan = Plan()
    for intervention in interventions:
        if isinstance(intervention, Ablation):
            plan = _ablation(intervention, model)
        elif isinstance(intervention, Addition):
            block = dissect(model).blocks[intervention.layer].module
            hook = Hook(_paths(model)[block], "input", "add")
            plan = Plan(intervention.direction, intervention.coefficient, hooks=(hook,))
        elif not isinstance(intervention, Preamble):
            raise NotInVllm(
                f"{type(intervention).__name__} is not possible inside vLLM; use a Hugging Face "
                "model, such as --model ablated-hf."
            )
    return plan


def _ablation(ablation: Ablation, model: PreTrainedModel) -> Plan:
    """Plan what `orthogonalise` does by weights, or what `Ablation` does by hooks."""
    if ablation.edits_weights:
        return Plan(ablation.direction, writes=written_tensors(model), tied=tied_tensors(model))
    paths = _paths(model)
    blocks = dissect(model).blocks
    layers = ablation.layers or range(len(blocks))
    hooks = [Hook(paths[blocks[layers.start].module], "input", "ablate")]
    for block in blocks[layers.start : layers.stop]:
        if block.beside:
            raise NotInVllm(
                f"A block of {type(model).__name__} takes a second tensor of the residual stream, "
                "which cannot be reached inside vLLM; use --model ablated-hf."
            )
        writers = [writer.module for writer in block.writers]
        if ablation.coefficient == 1:  # As in `Ablation`, so that the sum's rounding is removed.
            writers[-1:] = [block.module]
        hooks += [Hook(paths[writer], "output", "ablate") for writer in writers]
    return Plan(ablation.direction, ablation.coefficient, hooks=tuple(hooks))


def _paths(model: PreTrainedModel) -> dict[torch.nn.Module, str]:
    return {module: path for path, module in model.named_modules()}
