"""Controls: a random direction in place of a refusal direction, to tell what is the direction's.

Ablating any direction takes something from a model, and adding any vector of that length disturbs
it. The control has the norm of the refusal direction and is used at its layer and by its method.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from polyrefuse_models.directions.artifact import CONTROLS
from polyrefuse_models.directions.select import Candidate
from polyrefuse_models.interventions import orthonormal
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.limits import MOST_SEED, seed_of

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from polyrefuse_models.directions.artifact import Direction
    from polyrefuse_models.directions.search import Trial


OF_CONTROL = ("control", "control_seed", "control_of")
"""Entries of a control's metadata that results repeat."""


class BadControl(UserError):
    """A control that does not exist, or of what is one itself."""


def parse_control(kind: str | None, seed: str | int | None, options: tuple[str, str]) -> int | None:
    """The seed of the control that was asked for.

    Args:
        kind: one of `CONTROLS`; None for no control.
        seed: of the random direction; None for 0.
        options: what both are called in messages.

    Returns:
        None where no control was asked for.

    Raises:
        BadControl: there is none of that kind, the seed is none, or it has nothing to decide.
    """
    of_kind, of_seed = options
    if kind is None:
        if seed is not None:
            raise BadControl(
                f"{of_seed}{seed} needs {of_kind}{CONTROLS[0]}: it chooses a direction."
            )
        return None
    if kind not in CONTROLS:
        raise BadControl(f"{of_kind}{kind} is not known; the only control is {CONTROLS[0]}.")
    number = 0 if seed is None else seed_of(seed)
    if number is None:
        raise BadControl(f"{of_seed}{seed} is no seed; give a number from 0 to {MOST_SEED}.")
    return number


def random_direction(like: Float[Tensor, "d"], seed: int) -> Float[Tensor, "d"]:
    """A direction of the same norm, every one as likely as any other; float32, the same anywhere.

    Args:
        like: the refusal direction.
        seed: of the choice.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randn(len(like), generator=generator, dtype=torch.float64)
    return (chosen * (like.double().norm() / chosen.norm())).float()


def random_subspace(d: int, rank: int, seed: int) -> Float[Tensor, "rank d"]:
    """Orthonormal vectors, every subspace as likely as any other; float32, the same anywhere.

    The first is `random_directions`'s of the same seed with length 1, and those of a lower rank are
    the first of a higher one's.

    Args:
        d: how many dimensions there are.
        rank: how many vectors; at most `d`.
        seed: of the choice.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(d, generator=generator, dtype=torch.float64) for _ in range(rank)]
    return orthonormal(torch.stack(rows)).float()


def control_of(direction: Direction, seed: int) -> Direction:
    """A direction's control: everything but the vector is the direction's own.

    What was said against the direction is not said of the control.

    Raises:
        BadControl: it is a control already.
    """
    if is_control(direction.metadata):
        raise BadControl(
            f"The direction is a {direction.metadata['control']} control itself (seed "
            f"{direction.metadata.get('control_seed')}); leave control out, or give the direction "
            "that it is a control of."
        )
    held = direction.subspace
    return replace(
        direction,
        direction=random_direction(direction.direction, seed),
        subspace=None if held is None else random_subspace(held.shape[1], len(held), seed),
        metadata=direction.metadata
        | {
            "control": CONTROLS[0],
            "control_seed": seed,
            "control_of": direction.sha256,
            "warnings": [],
        },
    )


def is_control(metadata: dict[str, Any]) -> bool:
    """Whether a direction's metadata are those of a control."""
    return metadata.get("control") is not None


def score_control(trial: Trial, control: Float[Tensor, "d"], layer: int) -> Candidate:
    """The scores of a control, on the prompts that the direction was chosen on.

    Args:
        trial: of the direction's candidates.
        control: the random direction.
        layer: of the direction.
    """
    alone = replace(trial, directions=control.expand(1, trial.n_layers, -1))
    (scored,) = alone.complete([Candidate(-1, layer)])
    return scored
