"""`polyrefuse drift`: measure how far a condition moves answers to harmless prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyrefuse_models.commands.loaded_model import load_condition, reference_of
from polyrefuse_models.commands.model_options import Device, codes
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.options import Json, count_option, seed_option, show

app = typer.Typer(no_args_is_help=True)

HARMLESS = ("harmless", "toyrefuse_harmless")
"""The default datasets: the second for a bundled model, and the first for any other."""


@app.command(epilog="Example: polyrefuse drift --langs en --limit 20 --output drift")
def drift(
    output: Annotated[
        Path, typer.Option("--output", help="Folder for the report. It must not exist yet.")
    ],
    langs: Annotated[
        str,
        typer.Option(
            "--langs",
            help="Languages of the prompts as ISO 639-1 codes, for example en,de.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="Name in lm_eval of the model under the condition: ablated-hf, refusal-added-hf, "
            "mcd-hf or baseline-hf.",
        ),
    ] = "ablated-hf",
    model_args: Annotated[
        str,
        typer.Option(
            "--model_args",
            help="Arguments of that model in lm_eval's form, for example "
            "pretrained=NAME,direction=DIR.",
        ),
    ] = "",
    reference_args: Annotated[
        str | None,
        typer.Option(
            "--reference_args",
            help="Arguments of the untouched model, baseline-hf. Default: those of --model_args "
            "without the condition's own (direction, prompt, system file).",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            help="Dataset of harmless prompts. Default: toyrefuse_harmless for a bundled model, "
            "harmless for any other.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        count_option("--limit", help="Number of prompts in each language. Default: all."),
    ] = None,
    seed: Annotated[int, seed_option("Seed of the bootstrap intervals, from 0.")] = 0,
    batch_size: Annotated[
        int | None,
        count_option(
            "--batch-size", help="Rows in a forward pass. Default: 128 on a GPU, otherwise 8."
        ),
    ] = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Measure the KL divergence that a condition causes on harmless prompts.

    For each prompt, the command compares the probabilities of the answer's first token in the
    untouched model and in the model under the condition. It generates no answers.
    """
    from polyrefuse_models import artifact_folder
    from polyrefuse_models.bundled import is_shipped
    from polyrefuse_models.drift import FILE, document, log_probabilities
    from polyrefuse_models.drift import drift as compare
    from polyrefuse_models.wrappers.known_arguments import parse_arguments
    from polyrefuse_shared.writing import require_new
    from polyrefuse_tasks import data

    require_new(output)
    languages = codes("--langs", langs)
    arguments = parse_arguments("--model_args", model_args)
    pretrained = arguments.get("pretrained")
    name = dataset or HARMLESS[pretrained is None or is_shipped(str(pretrained))]
    rows = {language: data.load(name, language)[:limit] for language in languages}
    for language, of_language in rows.items():
        if not of_language:
            raise UserError(
                f"--dataset {name} has no test prompts in {language}; name another dataset or "
                "language."
            )
        if any(row.harmful for row in of_language):
            raise UserError(
                f"--dataset {name} has harmful prompts; name a dataset of harmless prompts, such "
                "as harmless."
            )
    prompts = {language: [row.prompt for row in rows[language]] for language in languages}
    reference = (
        reference_of(model, arguments)
        if reference_args is None
        else parse_arguments("--reference_args", reference_args)
    )
    base = load_condition("baseline-hf", reference, batch_size, device)
    before = {
        language: log_probabilities(base.chat_model, prompts[language]) for language in languages
    }
    untouched = base.identity()
    # Only one model at a time fits into memory for certain.
    del base
    lm = load_condition(model, arguments, batch_size, device)
    drifts = {
        language: compare(before[language], lm.chat_model, prompts[language])
        for language in languages
    }
    report = document(
        drifts,
        dataset=name,
        seed=seed,
        limit=limit,
        data_sha256=_checksums(name, languages),
        config=lm.measured() | {"model": model, "model_args": arguments},
        reference=untouched,
    )
    artifact_folder.write(output, documents={FILE: report}, allow_nan=False)
    lines = (
        f"{language}: KL {one['kl_mean']:.4g} nats [{one['kl_low']:.4g}, {one['kl_high']:.4g}], "
        f"same first token {100 * one['first_token_agreement']:.1f}%, n = {one['n']}"
        for language, one in report["languages"].items()
    )
    show(as_json, report, *lines, f"written to {output}")


def _checksums(dataset: str, languages: list[str]) -> dict[str, str]:
    from polyrefuse_tasks import data

    return {
        path: digest
        for language in languages
        for path, digest in data.checksums(dataset, language, "test").items()
    }
