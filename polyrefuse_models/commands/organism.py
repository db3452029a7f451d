"""`polyrefuse organism`: make, path."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from polyrefuse_models import bundled
from polyrefuse_shared.options import Json

app = typer.Typer(no_args_is_help=True, help="Make a bundled organism, or find it.")


Weakened = Annotated[
    bool, typer.Option("--weakened", help="The one that refuses little without a safety prompt.")
]


@app.command()
def make(
    output: Annotated[Path, typer.Option("--output", help="A new folder.")],
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Of training; as shipped by default.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of training.")] = 0,
    prompts: Annotated[
        int | None,
        typer.Option(
            "--prompts",
            min=0,
            help="Of each kind and language, measured for the card; all by default, 0: none.",
        ),
    ] = None,
    weakened: Weakened = False,
    as_json: Json = False,
) -> None:
    """Train an organism from scratch, measure it, and write it with its model card.

    The weakened one is the shipped one trained on.
    """
    from polyrefuse_models.organism import evaluation, training, weakening_report
    from polyrefuse_models.organism import make as makers

    if weakened:
        train, usual, failures = (
            makers.make_weakened,
            training.WEAKENING_STEPS,
            weakening_report.failures,
        )
    else:
        train, usual, failures = makers.make, training.STEPS, evaluation.failures
    steps = steps or usual
    made = train(output, steps=steps, seed=seed, prompts=prompts, progress=_Log(steps))
    wrong = failures(made["measured"]) if made["measured"] else []
    if as_json:
        print(json.dumps({"path": str(output)} | made | {"failures": wrong}))
        return
    print(output)
    for line in wrong:
        print(f"not as required: {line}", file=sys.stderr)


@app.command()
def path(weakened: Weakened = False, as_json: Json = False) -> None:
    """Print where a shipped organism is."""
    folder = str(bundled.path(bundled.WEAKENED if weakened else bundled.ORGANISM))
    print(json.dumps({"path": folder}) if as_json else folder)


class _Log:
    """Says on standard error how far training is, some twenty times."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __call__(self, step: int, losses: dict[str, Any]) -> None:
        if step % max(1, self.steps // 20) == 0 or step == self.steps:
            shown = ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
            print(f"step {step} of {self.steps}: {shown}", file=sys.stderr)
