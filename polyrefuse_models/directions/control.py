"""Make controls: random directions in place of a refusal direction.

Ablating any direction removes something from a model, and adding any vector of the same length
disturbs it. An effect that a control shows as well does not come from the refusal direction. The
control has the norm of the refusal direction, and is used at the same layer and by the same method.
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
"""The entries of a control's metadata that results repeat."""


class BadControl(UserError):
    """A kind of control that does not exist, or a control of a control."""


def parse_control(kind: str | None, seed: str | int | None, options: tuple[str, str]) -> int | None:
    """Find the seed of the control that was asked for.

    Args:
        kind: one of `CONTROLS`; None for no control.
        seed: the seed of the random direction; None for 0.
        options: the names of both options in messages.

    Returns:
        The seed; None if no control was asked for.

    Raises:
        BadControl: the kind is unknown, the seed is not a whole number in range, or there is a
            seed and no kind.
    """
    of_kind, of_seed = options
    if kind is None:
        if seed is not None:
            raise BadControl(
                f"{of_seed}{seed} needs {of_kind}{CONTROLS[0]}, because it chooses the random "
                "direction."
            )
        return None
    if kind not in CONTROLS:
        raise BadControl(f"{of_kind}{kind} is not known; the only control is {CONTROLS[0]}.")
    number = 0 if seed is None else seed_of(seed)
    if number is None:
        raise BadControl(
            f"{of_seed}{seed} is not a seed; give a whole number from 0 to {MOST_SEED}."
        )
    return number


def random_direction(like: Float[Tensor, "d"], seed: int) -> Float[Tensor, "d"]:
    """Draw a random direction of the same norm, in float32. It is the same on every machine.

    Every direction is equally likely.

    Args:
        like: the refusal direction.
        seed: the seed of the choice.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randn(len(like), generator=generator, dtype=torch.float64)
    return (chosen * (like.double().norm() / chosen.norm())).float()


def random_subspace(d: int, rank: int, seed: int) -> Float[Tensor, "rank d"]:
    """Draw a random subspace, in float32. It is the same on every machine.

    Every subspace is equally likely. Its first vector is what `random_direction` draws with the
    same seed, scaled to length 1. A subspace of lower rank has the first vectors of a higher one.

    Args:
        d: the number of dimensions.
        rank: the number of vectors, at most `d`.
        seed: the seed of the choice.

    Returns:
        Orthonormal vectors.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(d, generator=generator, dtype=torch.float64) for _ in range(rank)]
    return orthonormal(torch.stack(rows)).float()


def control_of(direction: Direction, seed: int) -> Direction:
    """Make the control of a direction: a copy with random vectors in place of its own.

    The metadata says that it is a control, and of which direction. It does not repeat the warnings
    about the direction.

    Raises:
        BadControl: the direction is a control already.
    """
    if is_control(direction.metadata):
        raise BadControl(
            f"The direction is itself a {direction.metadata['control']} control (seed "
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
    """Whether the metadata of a direction is that of a control."""
    return metadata.get("control") is not None


def score_control(trial: Trial, control: Float[Tensor, "d"], layer: int) -> Candidate:
    """Score a control on the prompts that the direction was chosen on.

    Args:
        trial: the trial of the direction's candidates.
        control: the random direction.
        layer: the layer of the direction.
    """
    alone = replace(trial, directions=control.expand(1, trial.n_layers, -1))
    (scored,) = alone.complete([Candidate(-1, layer)])
    return scored
