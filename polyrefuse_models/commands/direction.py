"""`polyrefuse direction` extracts refusal directions and measures what they do."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyrefuse_models.commands.direction_effects import (
    Folder,
    Languages,
    compare,
    rank,
    sweep,
)
from polyrefuse_models.commands.loaded_model import answers, load
from polyrefuse_models.commands.model_options import (
    AnyDataset,
    AnyModel,
    BatchSize,
    Device,
    Dtype,
    GgufFile,
    Report,
    System,
    SystemFile,
    codes,
)
from polyrefuse_models.directions import select
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.options import Json, count_option, seed_option, show

if TYPE_CHECKING:
    from polyrefuse_models.directions.artifact import Direction

app = typer.Typer(
    no_args_is_help=True,
    help="Extract refusal directions and measure what they do.",
    epilog="Example: polyrefuse direction extract --output direction",
)
app.command(
    epilog="Example: polyrefuse direction compare --direction direction --langs en --output out"
)(compare)
app.command(
    epilog="Example: polyrefuse direction rank --direction direction --langs de --output out"
)(rank)
app.command(
    epilog="Example: polyrefuse direction sweep --direction direction --langs en --output out"
)(sweep)

Seed = Annotated[int, seed_option("Seed of the random choice of prompts, from 0.")]
RuleName = Annotated[
    str,
    typer.Option(
        "--rule",
        help="Rule that chooses among the candidates. 2505.17306 allows a KL divergence of up to "
        "0.2. 2406.11717 allows up to 0.1 and requires a steering score of at least 0. cosmic "
        "compares states instead of first tokens: use it for models whose refusals have no known "
        "beginning.",
    ),
]


@app.command(epilog="Example: polyrefuse direction extract --output direction")
def extract(
    output: Annotated[
        Path,
        typer.Option("--output", help="Folder for the artifact. It must not exist yet."),
    ],
    source_lang: Annotated[
        str,
        typer.Option("--source-lang", help="Language of the prompts, as an ISO 639-1 code."),
    ] = "en",
    model: AnyModel = None,
    dataset: AnyDataset = None,
    rule: RuleName = select.DEFAULT.name,
    all_scores: Annotated[
        bool,
        typer.Option(
            "--all-scores",
            help="Compute every score of every candidate, not only what the rule needs.",
        ),
    ] = False,
    control: Annotated[
        str | None,
        typer.Option(
            "--control",
            help="Write a control instead of the direction. The only value is random: a random "
            "direction of the same norm.",
        ),
    ] = None,
    control_seed: Annotated[
        int | None,
        typer.Option(
            "--control-seed", help="Seed of the random direction, from 0. Needs --control."
        ),
    ] = None,
    rank: Annotated[
        int | None,
        count_option(
            "--rank",
            help="Number of vectors in the refusal subspace, the first of which is the direction. "
            "Default: 5, or fewer if the prompts span fewer.",
        ),
    ] = None,
    subspace_of: Annotated[
        str,
        typer.Option(
            "--subspace-of",
            help="What the other vectors are singular vectors of: the difference of each refused "
            "prompt from the mean of harmless ones (prompts), or the direction of each language "
            "(languages).",
        ),
    ] = "prompts",
    langs: Annotated[
        str | None,
        typer.Option(
            "--langs",
            help="More languages for the subspace, as ISO 639-1 codes, for example de,yo.",
        ),
    ] = None,
    seed: Seed = 0,
    batch_size: BatchSize = None,
    device: Device = None,
    dtype: Dtype = "auto",
    system: System = "template",
    system_file: SystemFile = None,
    gguf_file: GgufFile = None,
    as_json: Json = False,
) -> None:
    """Extract refusal directions from training prompts and choose one on validation prompts."""
    from polyrefuse_models.bundled import own_dataset
    from polyrefuse_models.directions import artifact
    from polyrefuse_models.directions.control import OF_CONTROL, parse_control
    from polyrefuse_models.directions.prompts import sample
    from polyrefuse_models.directions.recipe import make_direction
    from polyrefuse_models.directions.score_pictures import scores_figure
    from polyrefuse_models.directions.subspace import Asked
    from polyrefuse_shared.pictures import files
    from polyrefuse_shared.writing import require_new

    # Loading a model takes long: mistakes that show without it are reported first.
    require_new(output)
    chosen_by = select.rule_named(rule)
    seed_of_control = parse_control(control, control_seed, ("--control ", "--control-seed "))
    prompts = sample(dataset or own_dataset(model), source_lang, seed)
    more = [] if langs is None else codes("--langs", langs)
    subspace = Asked(
        rank,
        subspace_of,
        tuple(sample(prompts.dataset, one, seed) for one in more if one != source_lang),
    )
    lm = load(model, batch_size, device, dtype, system, system_file, gguf_file)
    direction = make_direction(
        lm.chat_model,
        prompts,
        rule=chosen_by,
        all_scores=all_scores,
        control_seed=seed_of_control,
        subspace=subspace,
    )
    artifact.save(direction, output, files("scores", scores_figure(direction)))
    metadata = direction.metadata
    place = metadata["position"], metadata["layer"]
    (chosen,) = (c for c in direction.scores if (c.position, c.layer) == place)
    warnings, untouched = metadata["warnings"], metadata["untouched"]
    stability, refused = metadata["stability"], untouched["harmful_refused"]
    show(
        as_json,
        asdict(chosen)
        | {
            "rule": rule,
            "output": str(output),
            "harmful_refused": refused,
            "stability": stability,
            "subspace": metadata["subspace"],
            "warnings": warnings,
        }
        | {name: metadata[name] for name in (*OF_CONTROL, "control_scores") if name in metadata},
        *(f"Note: {warning}." for warning in warnings),
        f"chosen: position {chosen.position}, layer {chosen.layer} of "
        f"{direction.candidates.shape[1]}, by rule {rule}",
        *_scores(chosen, metadata),
        *_refused(refused),
        *_stability(stability),
        _subspace(metadata["subspace"]),
        *_control(metadata),
        f"written to {output}",
    )


@app.command(epilog="Example: polyrefuse direction choose direction/scores.json")
def choose(
    scores: Annotated[
        Path, typer.Argument(metavar="SCORES.json", help="The scores.json of a direction artifact.")
    ],
    n_layers: Annotated[
        int | None,
        count_option(
            "--n-layers",
            help="Number of layers of the model. Default: one more than the highest in the file.",
        ),
    ] = None,
    rule: RuleName = select.DEFAULT.name,
    as_json: Json = False,
) -> None:
    """Choose a direction from a file of scores by a published rule."""
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
        # A search under another rule may have left out the candidate that this rule chooses.
        select.check_complete(candidates, depth, chosen_by, scores)
    chosen = select.choose(candidates, depth, chosen_by)
    if chosen is None:
        raise select.NoDirection(
            f"{scores}: {select.nothing_within(candidates, depth, chosen_by)}; take another rule, "
            f"or give --n-layers if the model has more than {depth} layers."
        )
    show(
        as_json,
        {"position": chosen.position, "layer": chosen.layer},
        f"position {chosen.position}, layer {chosen.layer}",
    )


@app.command(epilog="Example: polyrefuse direction transfer --source-langs en,de --output out")
def transfer(
    output: Report,
    source_langs: Annotated[
        str | None,
        typer.Option(
            "--source-langs",
            help="Languages to extract a direction from, as ISO 639-1 codes, for example en,de.",
        ),
    ] = None,
    directions: Annotated[
        str | None,
        typer.Option(
            "--directions",
            help="Folders of direction artifacts to use instead of --source-langs, one for each "
            "source language, separated by commas.",
        ),
    ] = None,
    target_langs: Annotated[
        str | None,
        typer.Option(
            "--target-langs",
            help="Languages of the prompts that the model answers. Default: the source languages.",
        ),
    ] = None,
    model: AnyModel = None,
    dataset: AnyDataset = None,
    limit: Annotated[
        int | None,
        count_option("--limit", help="Number of prompts in each target language. Default: all."),
    ] = None,
    max_gen_toks: Annotated[
        int, count_option("--max-gen-toks", help="Largest number of tokens in an answer.")
    ] = 512,
    judge: Annotated[
        str, typer.Option("--judge", help="Refusal judge that labels the answers.")
    ] = "native",
    seed: Seed = 0,
    rule: RuleName = select.DEFAULT.name,
    batch_size: BatchSize = None,
    device: Device = None,
    dtype: Dtype = "auto",
    system: System = "template",
    system_file: SystemFile = None,
    gguf_file: GgufFile = None,
    as_json: Json = False,
) -> None:
    """Ablate the direction of each language and measure ASR in every language."""
    from polyrefuse_models import artifact_folder
    from polyrefuse_models.anatomy import width
    from polyrefuse_models.bundled import own_dataset
    from polyrefuse_models.directions.effects import prompts_of
    from polyrefuse_models.directions.prompts import kinds_of, sample
    from polyrefuse_models.directions.transfer import transfer as measure
    from polyrefuse_models.directions.transfer_pictures import pictures_of
    from polyrefuse_shared.writing import require_new
    from polyrefuse_tasks.judges import check_refusal_judge

    # Loading a model takes long: mistakes that show without it are reported first.
    require_new(output)
    check_refusal_judge(judge)
    chosen_by = select.rule_named(rule)
    extracted = None
    if directions is not None and source_langs is None:
        extracted = _by_language(directions)
        sources = list(extracted)
    elif source_langs is not None and directions is None:
        sources = codes("--source-langs", source_langs)
    else:
        raise UserError(
            "Give either --source-langs, to extract directions, or --directions, to use directions "
            "that were extracted before."
        )
    targets = sources if target_langs is None else codes("--target-langs", target_langs)
    name = dataset or own_dataset(model)
    prompts_of(kinds_of(name)[0], targets, limit)
    for source in () if extracted else sources:
        sample(name, source, seed)
    lm = load(model, batch_size, device, dtype, system, system_file, gguf_file)
    for source, given in (extracted or {}).items():
        given.check(width(lm.model), f"--directions, {source}")
        given.warn_of_another_model(lm.model.config)
    document = measure(
        lm.chat_model,
        partial(answers, lm),
        sources,
        targets,
        dataset=name,
        limit=limit,
        max_gen_toks=max_gen_toks,
        judge=judge,
        seed=seed,
        rule=chosen_by,
        extracted=extracted,
    )
    artifact_folder.write(
        output,
        documents={"transfer.json": document},
        pictures=pictures_of(document),
        allow_nan=False,
    )
    lines = (
        f"{cell['source'] or 'none'} -> {cell['target']}: ASR {cell['asr']:.3f} "
        f"[{cell['low']:.3f}, {cell['high']:.3f}], n = {cell['n']}"
        for cell in (*document["baseline"], *document["cells"])
    )
    explained = (
        f"one vector explains {100 * document['explained_by_one']:.1f}% of the directions of "
        f"{', '.join(sources)}"
    )
    show(as_json, document, *lines, explained, f"written to {output}")


def _by_language(folders: str) -> dict[str, Direction]:
    """Read the directions in some folders, by the language of their prompts.

    Raises:
        UserError: two directions have one language, one is a control, or their candidates differ
            in shape.
        BadDirection: a folder cannot be read.
    """
    from polyrefuse_models.directions import artifact

    found: dict[str, Direction] = {}
    for folder in filter(None, map(str.strip, folders.split(","))):
        direction = artifact.load(folder, "--directions ")
        language = direction.metadata.get("source_lang")
        if not isinstance(language, str) or direction.metadata.get("control"):
            raise UserError(
                f"--directions {folder} does not hold the direction of a known language; name "
                "folders that `polyrefuse direction extract` wrote without --control."
            )
        if language in found:
            raise UserError(
                f"--directions {folder}: another folder has a direction of {language} too; give "
                "one folder for each language."
            )
        first = next(iter(found.values()), direction)
        if direction.candidates.shape != first.candidates.shape:
            raise UserError(
                f"--directions {folder} has candidates of shape "
                f"{tuple(direction.candidates.shape)}, and the first folder has candidates of "
                f"shape {tuple(first.candidates.shape)}; extract all directions from one model."
            )
        found[language] = direction
    if not found:
        raise UserError(
            f"--directions {folders!r} names no folder; give one or more, separated by commas."
        )
    return found


@app.command(
    epilog="Example: polyrefuse direction geometry --direction direction --langs de --output out"
)
def geometry(
    output: Report,
    direction: Folder,
    langs: Languages,
    model: AnyModel = None,
    dataset: AnyDataset = None,
    limit: Annotated[
        int,
        count_option("--limit", at_least=2, help="Number of prompts of each kind and language."),
    ] = 128,
    results: Annotated[
        list[Path] | None,
        typer.Option(
            "--results",
            help="Folder or file of results of `lm_eval --model baseline-hf --log_samples` with "
            "this model. The command then also shows where refused and answered prompts lie. You "
            "can give this option several times.",
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            help="Judge whose labels are read from --results. Default: the judge that labelled the "
            "answers when they were generated.",
        ),
    ] = None,
    calibrated_in: Annotated[
        str,
        typer.Option(
            "--calibrated-in",
            help="Language of the harmless prompts that the monitor is calibrated on.",
        ),
    ] = "en",
    false_alarms: Annotated[
        float,
        typer.Option(
            "--false-alarms",
            help="Share of harmless prompts that may raise an alarm, from 0.0001 to below 1.",
        ),
    ] = 0.05,
    seed: Annotated[
        int, seed_option("Seed of the choice of prompts that the monitor is calibrated on, from 0.")
    ] = 0,
    batch_size: BatchSize = None,
    device: Device = None,
    dtype: Dtype = "auto",
    system: System = "template",
    system_file: SystemFile = None,
    gguf_file: GgufFile = None,
    as_json: Json = False,
) -> None:
    """Show where the prompts of each language lie along a direction.

    The model reads the prompts and generates no answers. With --results of an earlier run, the
    command also shows where refused and answered prompts lie:
    polyrefuse direction geometry --direction DIR --langs de,yo --results RUN --output GEOMETRY
    """
    from polyrefuse_models import artifact_folder
    from polyrefuse_models.anatomy import width
    from polyrefuse_models.bundled import own_dataset
    from polyrefuse_models.directions import artifact
    from polyrefuse_models.directions.answered import answers_of, saved_runs
    from polyrefuse_models.directions.geometry import check_request, measured
    from polyrefuse_models.directions.geometry import geometry as measure
    from polyrefuse_models.directions.geometry_pictures import pictures_of
    from polyrefuse_models.directions.geometry_text import summary
    from polyrefuse_models.directions.monitor import LEAST_RATE
    from polyrefuse_shared.writing import require_new

    # Loading a model takes long: mistakes that show without it are reported first.
    require_new(output)
    languages = codes("--langs", langs)
    if not LEAST_RATE <= false_alarms < 1:
        raise UserError(
            f"--false-alarms {false_alarms} is not a share; give one from {LEAST_RATE:g} to below "
            "1."
        )
    if judge is not None and results is None:
        raise UserError(
            f"--judge {judge} chooses among the labels of a run's answers; give its --results too."
        )
    runs = None if results is None else saved_runs(results)
    given = artifact.load(direction, "--direction ")
    name = dataset or own_dataset(model)
    check_request(given, languages, name, limit, calibrated_in)
    lm = load(model, batch_size, device, dtype, system, system_file, gguf_file)
    given.check(width(lm.model), f"--direction {direction}")
    given.warn_of_another_model(lm.model.config)
    answers = runs and answers_of(runs, lm.identity(), measured(languages), judge)
    document = measure(
        lm.chat_model,
        given,
        languages,
        dataset=name,
        limit=limit,
        calibrated_in=calibrated_in,
        false_alarms=false_alarms,
        seed=seed,
        answers=answers or None,
    )
    artifact_folder.write(
        output,
        documents={"geometry.json": document},
        pictures=pictures_of(document),
        allow_nan=False,
    )
    show(as_json, document, *summary(document), f"written to {output}")


def _scores(chosen: select.Candidate, metadata: dict[str, Any]) -> list[str]:
    """Describe how the chosen candidate changes the model, compared with the untouched model."""
    untouched, cosmic = metadata["untouched"], metadata["cosmic"]
    divergence = f"KL divergence of {_rounded(chosen.kl_div_score)} nats on harmless prompts"
    if cosmic is None:
        return [
            f"refusal score {_rounded(chosen.refusal_score)} with the direction ablated "
            f"(untouched {_rounded(untouched['harmful_refusal_score'])}), harmful prompts",
            divergence,
            f"steering score {_rounded(chosen.steering_score)} with the direction added "
            f"(untouched {_rounded(untouched['harmless_refusal_score'])}), harmless prompts",
        ]
    layers = ", ".join(map(str, cosmic["layers"]))
    return [
        f"COSMIC score {_fine(chosen.cosmic_score)}, of states at the input of layers {layers} "
        f"and the last {len(cosmic['positions'])} positions",
        f"cosine {_fine(chosen.comply_cosine)} between harmful prompts with the direction ablated "
        f"and harmless ones (untouched {_fine(untouched['cosine'])})",
        f"cosine {_fine(chosen.refuse_cosine)} between harmless prompts with the direction added "
        f"and harmful ones (untouched {_fine(untouched['cosine'])})",
        divergence,
    ]


def _refused(refused: dict[str, float] | None) -> list[str]:
    """Describe how often the untouched model refuses, if its refusals could be counted."""
    if refused is None:
        return []
    return [
        f"the untouched model refuses {refused['refused']} of {refused['n']} harmful validation "
        f"prompts ({100 * refused['low']:.1f} to {100 * refused['high']:.1f}%)"
    ]


def _stability(stability: dict[str, dict[str, float]] | None) -> list[str]:
    """Describe how much the direction depends on its training prompts."""
    if stability is None:
        return []
    of_what = {"halves": "halves of the training prompts", "bootstrap": "bootstrap samples of them"}
    return [
        f"stability: directions of {of_what[which]} have a cosine of {cosine['mean']:.3f} "
        f"({cosine['low']:.3f} to {cosine['high']:.3f}, n = {cosine['n']})"
        for which, cosine in stability.items()
    ]


def _subspace(made: dict[str, Any]) -> str:
    """Describe how much of the matrix's squared length lies along each vector of the subspace."""
    what = "differences of prompts" if made["of"] == "prompts" else "directions of languages"
    shares = ", ".join(f"{100 * share:.1f}%" for share in made["explained"])
    return (
        f"subspace of rank {made['rank']}: its vectors explain {shares} of the squared length of "
        f"{made['n']} {what} ({', '.join(made['langs'])})"
    )


def _control(metadata: dict[str, Any]) -> list[str]:
    """Describe the control that was written; all other lines describe the direction."""
    if not metadata.get("control"):
        return []
    scores = metadata["control_scores"]
    divergence = f"KL divergence {_rounded(scores['kl_div_score'])}"
    described = (
        f"refusal score {_rounded(scores['refusal_score'])}, {divergence} and steering score "
        f"{_rounded(scores['steering_score'])}"
        if metadata["cosmic"] is None
        else f"COSMIC score {_fine(scores['cosmic_score'])} and {divergence}"
    )
    return [
        "written as a control: a random direction of the same norm (seed "
        f"{metadata['control_seed']}), with {described}"
    ]


def _fine(cosine: float | None) -> str:
    """Round a cosine between mean states. Such cosines are close to 1 and differ in late digits."""
    return "not computed" if cosine is None else f"{cosine:.4f}"


def _rounded(score: float | None) -> str:
    return "not computed" if score is None else f"{score:.3f}"
