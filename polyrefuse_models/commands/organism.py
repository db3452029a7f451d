"""`polyrefuse organism`: make, path."""

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
    help="Make a bundled model organism, or find it.",
    epilog="Example: polyrefuse organism path",
)


MOST_DIRECTIONS = 8
"""As many as there are forbidden things."""

Weakened = Annotated[
    bool,
    typer.Option("--weakened", help="Take the one that refuses little without a safety prompt."),
]


@app.command(epilog="Example: polyrefuse organism make --output organism")
def make(
    output: Annotated[Path, typer.Option("--output", help="A new folder.")],
    steps: Annotated[
        int | None,
        count_option(
            "--steps", help="Steps of training; by default as many as the shipped one had."
        ),
    ] = None,
    seed: Annotated[int, seed_option("Seed of the training.")] = 0,
    prompts: Annotated[
        int | None,
        count_option(
            "--prompts",
            at_least=0,
            help="Prompts of each kind and language that are asked for the card's rates; all by "
            "default, none with 0.",
        ),
    ] = None,
    weakened: Weakened = False,
    directions: Annotated[
        int,
        typer.Option(
            "--directions",
            min=1,
            max=MOST_DIRECTIONS,
            help="Directions that share its refusals, each those of as many forbidden things.",
        ),
    ] = 1,
    as_json: Json = False,
) -> None:
    """Train a model organism from scratch, measure it, and write it with its model card.

    With --weakened the shipped organism is trained further, until it is weakened; with several
    --directions until each of them refuses a share of what is forbidden.
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
            f"--weakened has one direction, and --directions {directions} asks for more; leave one "
            "of them out."
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
            print(f"not as required: {failure}", file=sys.stderr)


@app.command(epilog="Example: polyrefuse organism path --weakened")
def path(weakened: Weakened = False, as_json: Json = False) -> None:
    """Print the folder of a shipped organism."""
    folder = str(bundled.path(bundled.WEAKENED if weakened else bundled.ORGANISM))
    show(as_json, {"path": folder}, folder)


class _Log:
    """Reports on standard error how far training is, some twenty times."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __call__(self, step: int, losses: dict[str, Any]) -> None:
        if step % max(1, self.steps // 20) == 0 or step == self.steps:
            rounded = ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
            print(f"step {step} of {self.steps}: {rounded}", file=sys.stderr)
