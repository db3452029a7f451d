"""`polyrefuse mcd` trains a soft prompt that makes a model refuse harmful requests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyrefuse_models.commands.loaded_model import load
from polyrefuse_models.commands.model_options import (
    AnyDataset,
    AnyModel,
    Device,
    Dtype,
    GgufFile,
    System,
    SystemFile,
    codes,
)
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.options import Json, count_option, seed_option, show

if TYPE_CHECKING:
    from polyrefuse_models.mcd.artifact import Prompt
    from polyrefuse_models.mcd.checkpoint import Checkpoint

app = typer.Typer(
    no_args_is_help=True,
    help="Train a soft prompt by Multilingual Collaborative Defense (arXiv 2505.11835).",
    epilog="Example: polyrefuse mcd train --langs en,de --output safety-prompt",
)


@app.callback(epilog="Example: polyrefuse mcd train --langs en,de --output safety-prompt")
def mcd() -> None:
    """Train a soft prompt by Multilingual Collaborative Defense (arXiv 2505.11835)."""


def _weight(term: str) -> Any:
    return typer.Option(
        min=0.0, max=1e6, help=f"Weight of the {term} term.", show_default="the preset's"
    )


@app.command(epilog="Example: polyrefuse mcd train --langs en,de --output safety-prompt")
def train(
    output: Annotated[
        Path, typer.Option("--output", help="Folder for the soft prompt. It must not exist yet.")
    ],
    langs: Annotated[
        str,
        typer.Option(
            "--langs",
            help="Languages of the training prompts as ISO 639-1 codes, for example en,da,ko.",
        ),
    ],
    model: AnyModel = None,
    dataset: AnyDataset = None,
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            help="Settings of the training: this package's own (default), or those of the "
            "published code (paper), with the differences that docs/how-to/soft-prompts.md lists.",
        ),
    ] = "default",
    without: Annotated[
        str | None,
        typer.Option(
            "--without",
            help="Terms of the loss to leave out, separated by commas: refusal, harmfulness, norm, "
            "multilingual. Without multilingual the method is DRO.",
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            help="Safety prompt in words that training starts from: default, short or mistral.",
            show_default="the preset's",
        ),
    ] = None,
    mixed: Annotated[
        bool | None,
        typer.Option(
            "--mixed/--no-mixed",
            help="Mix all languages in each batch, or train on one language after the other.",
            show_default="the preset's",
        ),
    ] = None,
    pivot: Annotated[
        bool | None,
        typer.Option(
            "--pivot/--no-pivot",
            help="Fit the probes on the first language alone, or on all languages.",
            show_default="the preset's",
        ),
    ] = None,
    refusal_weight: Annotated[float | None, _weight("refusal")] = None,
    harmfulness_weight: Annotated[float | None, _weight("harmfulness")] = None,
    norm_weight: Annotated[float | None, _weight("norm")] = None,
    multilingual_weight: Annotated[float | None, _weight("multilingual")] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            min=1e-12,
            max=1e6,
            help="Learning rate of AdamW.",
            show_default="the preset's",
        ),
    ] = None,
    epochs: Annotated[
        int, count_option("--epochs", help="Number of passes over the anchors of each language.")
    ] = 5,
    step_size: Annotated[
        int, count_option("--step-size", help="Number of anchors in each training step.")
    ] = 10,
    answers: Annotated[
        int | None,
        count_option(
            "--answers",
            help="Number of answers sampled for each soft refusal label.",
            show_default="the preset's",
        ),
    ] = None,
    max_gen_toks: Annotated[
        int | None,
        count_option(
            "--max-gen-toks",
            help="Largest number of tokens in a sampled answer.",
            show_default="the preset's",
        ),
    ] = None,
    seed: Annotated[int, seed_option("Seed of sampling, splits and order, from 0.")] = 0,
    batch_size: Annotated[
        int,
        count_option(
            "--batch-size",
            help="Prompts in a forward pass without gradients, at least 8. The sampled labels "
            "depend on it, so the default is the same on every device.",
        ),
    ] = 64,
    device: Device = None,
    dtype: Dtype = "auto",
    system: System = "template",
    system_file: SystemFile = None,
    gguf_file: GgufFile = None,
    as_json: Json = False,
) -> None:
    """Train a soft prompt. After an interruption, the same command continues the training."""
    import os

    from polyrefuse_models.bundled import own_dataset
    from polyrefuse_models.chat_model import LEAST_ROWS
    from polyrefuse_models.mcd import artifact
    from polyrefuse_models.mcd import train as training
    from polyrefuse_models.mcd.anchors import load_anchors
    from polyrefuse_models.mcd.checkpoint import ARTIFACT, Checkpoint, folder_of
    from polyrefuse_models.mcd.settings import settings_of
    from polyrefuse_models.mcd.training_pictures import pictures_of
    from polyrefuse_shared.drafts import locked
    from polyrefuse_shared.writing import CannotWrite, require_new
    from polyrefuse_tasks.judges.rules import rules_of

    # Loading a model takes long: mistakes that show without it are reported first.
    if not os.path.isdir(folder_of(output)):
        require_new(output)
    settings = settings_of(
        {
            "preset": preset,
            "without": without,
            "init": init,
            "mixed": mixed,
            "pivot": pivot,
            "refusal_weight": refusal_weight,
            "harmfulness_weight": harmfulness_weight,
            "norm_weight": norm_weight,
            "multilingual_weight": multilingual_weight,
            "learning_rate": learning_rate,
            "epochs": epochs,
            "step_size": step_size,
            "answers": answers,
            "max_gen_toks": max_gen_toks,
            "seed": seed,
        }
    )
    if not any(settings.weights):
        raise UserError(
            "Every term of the loss has weight 0, so nothing would be trained; give at least one "
            "term a weight."
        )
    languages = codes("--langs", langs)
    for language in settings.fitted(tuple(languages)):
        rules_of(language)
    anchors = load_anchors(dataset or own_dataset(model), languages)
    rows = max(LEAST_ROWS, batch_size)
    chat = load(model, rows, device, dtype, system, system_file, gguf_file).chat_model
    identity = training.identity(chat, anchors, settings)
    with locked(folder_of(output), patience=0):
        checkpoint = Checkpoint(output, identity)
        prompt = _written(checkpoint)
        if prompt is None:
            require_new(output)
            try:
                trained = training.train(chat, anchors, settings, checkpoint)
            except CannotWrite:
                raise  # The training can continue once the disk has room.
            except UserError:
                checkpoint.remove()
                raise
            prompt = trained.prompt
            pictures = pictures_of(trained)
            checkpoint.write(ARTIFACT, prompt.sha256)
            artifact.save(prompt, output, pictures)
        checkpoint.remove()
    metadata = prompt.metadata
    warnings, losses = metadata["warnings"], metadata["losses"]
    overlap = metadata["anchors"]["overlap"]
    first, last = losses["first_epoch"], losses["last_epoch"]
    show(
        as_json,
        {
            "output": str(output),
            "sha256": prompt.sha256,
            "tokens": len(prompt.vectors),
            "losses": losses,
            "overlap": overlap,
            "warnings": warnings,
        },
        *(f"Note: {warning}." for warning in warnings),
        *(
            f"Note: {len(ids)} rows of {name} are among the anchors."
            for name, ids in overlap.items()
            if ids
        ),
        *(
            f"{name} loss {first[name]:.4g} in the first epoch, {last[name]:.4g} in the last"
            for name in first
        ),
        f"{len(prompt.vectors)} vectors written to {output}",
    )


def _written(checkpoint: Checkpoint) -> Prompt | None:
    """Read the soft prompt if the training was killed after it had written its artifact."""
    from polyrefuse_models.mcd import artifact
    from polyrefuse_models.mcd.checkpoint import ARTIFACT

    finished = checkpoint.read(ARTIFACT)
    if finished is None:
        return None
    try:
        prompt = artifact.load(checkpoint.output)
    except artifact.BadPrompt:
        return None
    return prompt if prompt.sha256 == finished else None
