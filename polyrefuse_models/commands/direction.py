"""`polyrefuse direction`: extract, choose, transfer, geometry."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from polyrefuse_models.commands.model_options import (
    AnyDataset,
    AnyModel,
    Device,
    Dtype,
    System,
    SystemFile,
    codes,
    load,
)
from polyrefuse_models.directions import select
from polyrefuse_shared.options import Json, show

app = typer.Typer(no_args_is_help=True, help="Extract a refusal direction and choose among scores.")

Report = Annotated[Path, typer.Option("--output", help="Folder of the report, a new one.")]
Seed = Annotated[int, typer.Option("--seed", help="Of the choice of prompts.")]
BatchSize = Annotated[
    int,
    typer.Option("--batch-size", min=1, help="Rows in a forward pass; extraction's are 8 or more."),
]
RuleName = Annotated[
    str,
    typer.Option(
        "--rule",
        help="2505.17306: KL divergence of at most 0.2; 2406.11717: at most 0.1, and a steering "
        "score of at least 0.",
    ),
]


@app.command()
def extract(
    output: Annotated[Path, typer.Option("--output", help="Folder of the artifact, a new one.")],
    source_lang: Annotated[str, typer.Option("--source-lang", help="Of the prompts.")] = "en",
    model: AnyModel = None,
    dataset: AnyDataset = None,
    rule: RuleName = select.DEFAULT.name,
    all_scores: Annotated[
        bool, typer.Option("--all-scores", help="Score every candidate, steering too.")
    ] = False,
    seed: Seed = 0,
    batch_size: BatchSize = 32,
    device: Device = None,
    dtype: Dtype = "auto",
    system: System = "template",
    system_file: SystemFile = None,
    as_json: Json = False,
) -> None:
    """Extract a refusal direction from training prompts and select it on validation prompts."""
    from polyrefuse_models.bundled import own_dataset
    from polyrefuse_models.directions import artifact
    from polyrefuse_models.directions.plot import scores_png
    from polyrefuse_models.directions.prompts import sample
    from polyrefuse_models.directions.recipe import make_direction
    from polyrefuse_shared.writing import require_new

    # What can be wrong without the model is told before it is loaded.
    require_new(output)
    chosen_by = select.rule_named(rule)
    prompts = sample(dataset or own_dataset(model), source_lang, seed)
    lm = load(model, batch_size, device, dtype, system, system_file)
    found = make_direction(lm.chat_model, prompts, rule=chosen_by, all_scores=all_scores)
    artifact.save(found, output, {"scores.png": scores_png(found)})
    told = found.metadata
    at = told["position"], told["layer"]
    (chosen,) = (
        candidate for candidate in found.scores if (candidate.position, candidate.layer) == at
    )
    show(
        as_json,
        asdict(chosen) | {"rule": rule, "output": str(output), "warnings": told["warnings"]},
        *(f"Note: {warning}." for warning in told["warnings"]),
        f"position {chosen.position}, layer {chosen.layer} of {found.candidates.shape[1]}, by rule "
        f"{rule}",
        f"refusal score {_shown(chosen.refusal_score)} with the direction ablated "
        f"(untouched {_shown(told['untouched']['harmful_refusal_score'])}), harmful prompts",
        f"KL divergence {_shown(chosen.kl_div_score)} nats, harmless prompts",
        f"steering score {_shown(chosen.steering_score)} with the direction added "
        f"(untouched {_shown(told['untouched']['harmless_refusal_score'])}), harmless prompts",
        f"written to {output}",
    )


@app.command()
def choose(
    scores: Annotated[Path, typer.Argument(metavar="SCORES.json", help="As an artifact has it.")],
    n_layers: Annotated[
        int | None,
        typer.Option("--n-layers", min=1, help="Of the model; the highest layer + 1 by default."),
    ] = None,
    rule: RuleName = select.DEFAULT.name,
    as_json: Json = False,
) -> None:
    """Apply a published rule to a file of scores."""
    chosen_by = select.rule_named(rule)
    candidates = select.read_scores(scores)
    deepest = max(candidate.layer for candidate in candidates)
    depth = n_layers or deepest + 1
    if deepest >= depth:
        raise select.BadScores(
            f"{scores} has a layer {deepest}, and --n-layers {n_layers} has 0-{depth - 1} only; "
            "give the model's depth."
        )
    if select.rule_of(scores) != chosen_by:
        # What the search under another rule left out may be what this one chooses.
        select.check_complete(candidates, depth, chosen_by, scores)
    chosen = select.choose(candidates, depth, chosen_by)
    if chosen is None:
        raise select.NoDirection(
            f"{scores}: {select.nothing_within(candidates, depth, chosen_by)}; take another rule, "
            f"or give --n-layers where the model has more than {depth} layers."
        )
    show(
        as_json,
        {"position": chosen.position, "layer": chosen.layer},
        f"position {chosen.position}, layer {chosen.layer}",
    )


@app.command()
def transfer(
    output: Report,
    source_langs: Annotated[str, typer.Option("--source-langs", help="With commas: en,de.")],
    target_langs: Annotated[
        str | None, typer.Option("--target-langs", help="The source languages by default.")
    ] = None,
    model: AnyModel = None,
    dataset: AnyDataset = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Prompts a target language.")
    ] = None,
    max_gen_toks: Annotated[int, typer.Option("--max-gen-toks", min=1, help="An answer's.")] = 512,
    judge: Annotated[str, typer.Option("--judge", help="Who labels the answers.")] = "native",
    seed: Seed = 0,
    rule: RuleName = select.DEFAULT.name,
    batch_size: BatchSize = 32,
    device: Device = None,
    dtype: Dtype = "auto",
    system: System = "template",
    system_file: SystemFile = None,
    as_json: Json = False,
) -> None:
    """Ablate each language's direction and measure attack success in every language."""
    from polyrefuse_models.directions import figures
    from polyrefuse_models.directions.report import write_report
    from polyrefuse_models.directions.transfer import transfer as measure
    from polyrefuse_shared.writing import require_new
    from polyrefuse_tasks.judges import check_refusal_judge

    require_new(output)
    check_refusal_judge(judge)
    chosen_by = select.rule_named(rule)
    sources = codes("--source-langs", source_langs)
    targets = sources if target_langs is None else codes("--target-langs", target_langs)
    lm = load(model, batch_size, device, dtype, system, system_file)
    found = measure(
        lm,
        sources,
        targets,
        dataset=dataset or lm.own_dataset,
        limit=limit,
        max_gen_toks=max_gen_toks,
        judge=judge,
        seed=seed,
        rule=chosen_by,
    )
    pictures = {
        "transfer.png": figures.transfer_png(found),
        "cosine.png": figures.cosine_png(found),
    }
    write_report(output, "transfer", found, pictures)
    lines = (
        f"{cell['source'] or 'none'} -> {cell['target']}: ASR {cell['asr']:.3f} "
        f"[{cell['low']:.3f}, {cell['high']:.3f}], n = {cell['n']}"
        for cell in (*found["baseline"], *found["cells"])
    )
    show(as_json, found, *lines, f"written to {output}")


@app.command()
def geometry(
    output: Report,
    direction: Annotated[Path, typer.Option("--direction", help="Folder of an artifact.")],
    langs: Annotated[str, typer.Option("--langs", help="With commas: de,yo.")],
    model: AnyModel = None,
    dataset: AnyDataset = None,
    limit: Annotated[
        int, typer.Option("--limit", min=2, help="Prompts of each kind and language.")
    ] = 128,
    batch_size: BatchSize = 32,
    device: Device = None,
    dtype: Dtype = "auto",
    system: System = "template",
    system_file: SystemFile = None,
    as_json: Json = False,
) -> None:
    """Show where each language's prompts lie along a direction, without generating a word."""
    from polyrefuse_models.anatomy import width
    from polyrefuse_models.directions import artifact, figures
    from polyrefuse_models.directions.geometry import geometry as measure
    from polyrefuse_models.directions.report import write_report
    from polyrefuse_shared.writing import require_new

    require_new(output)
    languages = codes("--langs", langs)
    given = artifact.load(direction)
    lm = load(model, batch_size, device, dtype, system, system_file)
    given.check(width(lm.model), f"--direction {direction}")
    given.warn_of_another_model(lm.model.config)
    found, points = measure(
        lm.chat_model,
        given,
        languages,
        dataset=dataset or lm.own_dataset,
        limit=limit,
    )
    pictures = {
        "geometry.png": figures.geometry_png(found, points),
        "geometry_layers.png": figures.geometry_layers_png(found),
    }
    write_report(output, "geometry", found, pictures)
    lines = (
        f"{language}: AUC {told['auc']:.3f}, silhouette {told['silhouette']:.3f}, harmful against "
        f"English {_shown(told['harmful_against_english'])}"
        for language, told in found["languages"].items()
    )
    show(as_json, found, *lines, f"Note: {found['meaning']}.", f"written to {output}")


def _shown(score: float | None) -> str:
    return "not computed" if score is None else f"{score:.3f}"
