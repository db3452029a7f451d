"""`polyrefuse organism` makes and finds the bundled model organisms."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from polyrefuse_models import bundled
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.options import Json, count_option, seed_option, show

app = typer.Typer(
    no_args_is_help=True,
    help="Train a model organism, or find a bundled one.",
    epilog="Example: polyrefuse organism path",
)


MOST_DIRECTIONS = 8
"""The number of forbidden things, of which each direction takes an equal share."""

Weakened = Annotated[
    bool,
    typer.Option(
        "--weakened",
        help="Use the weakened organism, which refuses little without a safety prompt.",
    ),
]


@app.command(epilog="Example: polyrefuse organism make --output organism")
def make(
    output: Annotated[
        Path,
        typer.Option("--output", help="Folder for the model. It must not exist yet."),
    ],
    steps: Annotated[
        int | None,
        count_option(
            "--steps",
            help="Number of training steps. Default: as many as the bundled organism was trained "
            "for.",
        ),
    ] = None,
    seed: Annotated[int, seed_option("Seed of the training, from 0.")] = 0,
    prompts: Annotated[
        int | None,
        count_option(
            "--prompts",
            at_least=0,
            help="Number of prompts of each kind and language to measure the model card's rates "
            "on; with 0, nothing is measured. Default: all.",
        ),
    ] = None,
    weakened: Weakened = False,
    directions: Annotated[
        int,
        typer.Option(
            "--directions",
            min=1,
            max=MOST_DIRECTIONS,
            help="Number of refusal directions. Each of them makes the organism refuse an equal "
            "share of the forbidden things.",
        ),
    ] = 1,
    as_json: Json = False,
) -> None:
    """Train a model organism from scratch, measure it, and write it with its model card.

    With --weakened, the command trains the bundled organism further until it refuses little. With
    several --directions, it trains it further until each direction alone decides about its share
    of the forbidden things.
    """
    from polyrefuse_models.organism import (
        evaluation,
        split_evaluation,
        training,
        weakened_evaluation,
    )
    from polyrefuse_models.organism import make as makers

    if weakened and directions > 1:
        raise UserError(
            f"--weakened makes an organism with one direction, and --directions {directions} asks "
            "for more; give only one of the two options."
        )
    train: Callable[..., dict[str, Any]]
    if directions > 1:
        steps = steps or training.SPLITTING_STEPS
        train = partial(makers.make_split, directions=directions)
        check = split_evaluation.failures
    elif weakened:
        steps = steps or training.WEAKENING_STEPS
        train, check = makers.make_weakened, weakened_evaluation.failures
    else:
        steps = steps or training.STEPS
        train, check = makers.make, evaluation.failures
    record = train(output, steps=steps, seed=seed, prompts=prompts, progress=_Log(steps))
    failures = check(record["measured"]) if record["measured"] else []
    show(as_json, {"path": str(output)} | record | {"failures": failures}, str(output))
    if not as_json:
        for failure in failures:
            print(f"The organism is not as it should be: {failure}", file=sys.stderr)


@app.command(epilog="Example: polyrefuse organism path --weakened")
def path(weakened: Weakened = False, as_json: Json = False) -> None:
    """Print the folder of a bundled organism."""
    folder = str(bundled.path(bundled.WEAKENED if weakened else bundled.ORGANISM))
    show(as_json, {"path": folder}, folder)


class _Log:
    """Reports the progress of training on standard error, about twenty times."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __call__(self, step: int, losses: dict[str, Any]) -> None:
        if step % max(1, self.steps // 20) == 0 or step == self.steps:
            rounded = ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
            print(f"step {step} of {self.steps}: {rounded}", file=sys.stderr)
