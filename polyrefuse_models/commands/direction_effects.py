"""`polyrefuse direction compare`, `rank` and `sweep` measure what a direction does to a model."""

from __future__ import annotations

import math
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.options import Json, count_option, seed_option, show

if TYPE_CHECKING:
    from polyrefuse_models.directions.artifact import Direction
    from polyrefuse_models.wrappers.hf import BaselineHF

Folder = Annotated[
    Path,
    typer.Option(
        "--direction",
        help="Folder of a direction artifact, which `polyrefuse direction extract` writes.",
    ),
]
Languages = Annotated[
    str,
    typer.Option("--langs", help="Languages of the prompts as ISO 639-1 codes, for example en,de."),
]
Tokens = Annotated[
    int, count_option("--max-gen-toks", help="Largest number of tokens in an answer.")
]
Judge = Annotated[str, typer.Option("--judge", help="Refusal judge that labels the answers.")]


def sweep(
    output: Report,
    direction: Folder,
    langs: Languages,
    coefficients: Annotated[
        str,
        typer.Option(
            "--coefficients", help="Multiples of the direction to add, separated by commas."
        ),
    ] = "0,.25,.5,1,1.5,2",
    model: AnyModel = None,
    dataset: AnyDataset = None,
    limit: Annotated[
        int | None,
        count_option("--limit", help="Number of harmless prompts in each language. Default: all."),
    ] = None,
    max_gen_toks: Tokens = 512,
    judge: Judge = "native",
    batch_size: BatchSize = None,
    device: Device = None,
    dtype: Dtype = "auto",
    system: System = "template",
    system_file: SystemFile = None,
    gguf_file: GgufFile = None,
    as_json: Json = False,
) -> None:
    """Add a direction with growing coefficients and measure the false refusal rate."""
    import torch

    from polyrefuse_models import artifact_folder
    from polyrefuse_models.bundled import own_dataset
    from polyrefuse_models.directions import artifact
    from polyrefuse_models.directions.effects import prompts_of
    from polyrefuse_models.directions.prompts import kinds_of
    from polyrefuse_models.directions.sweep import check_coefficients, layer_of
    from polyrefuse_models.directions.sweep import sweep as measure
    from polyrefuse_models.directions.sweep_pictures import sweep_figure
    from polyrefuse_models.wrappers.known_arguments import parse_dtype
    from polyrefuse_shared.pictures import files
    from polyrefuse_shared.writing import require_new
    from polyrefuse_tasks.judges import check_refusal_judge

    # Loading a model takes long: mistakes that show without it are reported first.
    require_new(output)
    check_refusal_judge(judge)
    languages, multiples = codes("--langs", langs), parse_coefficients(coefficients)
    given, name = artifact.load(direction, "--direction "), dataset or own_dataset(model)
    layer_of(given)
    # What auto means is known only once the model is loaded. No type of weights exceeds float32.
    asked = parse_dtype("--dtype ", dtype) or torch.float32
    check_coefficients(given, multiples, asked if asked.is_floating_point else torch.float32)
    prompts_of(kinds_of(name)[1], languages, limit)
    lm = load(model, batch_size, device, dtype, system, system_file, gguf_file)
    _check(given, direction, lm)
    document = measure(
        lm.chat_model,
        partial(answers, lm),
        given,
        multiples,
        languages,
        dataset=name,
        limit=limit,
        max_gen_toks=max_gen_toks,
        judge=judge,
    )
    artifact_folder.write(
        output,
        documents={"sweep.json": document},
        pictures=files("sweep", sweep_figure(document)),
        allow_nan=False,
    )
    lines = (
        f"c = {cell['coefficient']:g}, {cell['language']}: refused {cell['refusal_rate']:.3f} "
        f"[{cell['low']:.3f}, {cell['high']:.3f}], degenerate "
        f"{cell['degenerate'] / cell['n']:.3f}, n = {cell['n']}"
        + (" (overflow)" if cell["coefficient"] in document["overflowed"] else "")
        for cell in document["cells"]
    )
    show(as_json, document, *lines, f"written to {output}")


def compare(
    output: Report,
    direction: Folder,
    langs: Languages,
    controls: Annotated[
        int,
        count_option("--controls", help="Number of random directions to ablate as controls."),
    ] = 5,
    model: AnyModel = None,
    dataset: AnyDataset = None,
    limit: Annotated[
        int | None,
        count_option("--limit", help="Number of prompts of each kind and language. Default: all."),
    ] = None,
    max_gen_toks: Tokens = 512,
    judge: Judge = "native",
    seed: Annotated[int, seed_option("Seed of the bootstrap intervals, from 0.")] = 0,
    batch_size: BatchSize = None,
    device: Device = None,
    dtype: Dtype = "auto",
    system: System = "template",
    system_file: SystemFile = None,
    gguf_file: GgufFile = None,
    as_json: Json = False,
) -> None:
    """Compare plain, affine and projected ablation by their ASR and their side effects."""
    from polyrefuse_models import artifact_folder
    from polyrefuse_models.bundled import own_dataset
    from polyrefuse_models.directions import artifact
    from polyrefuse_models.directions.comparison import compare as measure
    from polyrefuse_models.directions.control import is_control
    from polyrefuse_models.directions.effects import prompts_of
    from polyrefuse_models.directions.prompts import kinds_of
    from polyrefuse_shared.writing import require_new
    from polyrefuse_tasks.judges import check_refusal_judge

    # Loading a model takes long: mistakes that show without it are reported first.
    require_new(output)
    check_refusal_judge(judge)
    languages = codes("--langs", langs)
    given, name = artifact.load(direction, "--direction "), dataset or own_dataset(model)
    if is_control(given.metadata):
        raise UserError(
            f"--direction {direction} is a random control; give the refusal direction. The command "
            "ablates random directions for comparison by itself (--controls)."
        )
    given.require_harmless_mean("polyrefuse direction compare", f"--direction {direction}")
    for kind in kinds_of(name):
        prompts_of(kind, languages, limit)
    lm = load(model, batch_size, device, dtype, system, system_file, gguf_file)
    _check(given, direction, lm)
    document = measure(
        lm.chat_model,
        partial(answers, lm),
        given,
        languages,
        origin=f"--direction {direction}",
        controls=controls,
        dataset=name,
        limit=limit,
        max_gen_toks=max_gen_toks,
        judge=judge,
        seed=seed,
    )
    artifact_folder.write(output, documents={"compare.json": document}, allow_nan=False)
    show(as_json, document, *_table(document["cells"]), f"written to {output}")


def rank(
    output: Report,
    direction: Folder,
    langs: Languages,
    ranks: Annotated[
        str,
        typer.Option(
            "--ranks", help="Numbers of directions to ablate together, separated by commas."
        ),
    ] = "1,2,3",
    controls: Annotated[
        int,
        count_option(
            "--controls", help="Number of random subspaces of each rank to ablate as controls."
        ),
    ] = 1,
    model: AnyModel = None,
    dataset: AnyDataset = None,
    limit: Annotated[
        int | None,
        count_option("--limit", help="Number of harmful prompts in each language. Default: all."),
    ] = None,
    max_gen_toks: Tokens = 512,
    judge: Judge = "native",
    seed: Annotated[int, seed_option("Seed of the first random subspace, from 0.")] = 0,
    batch_size: BatchSize = None,
    device: Device = None,
    dtype: Dtype = "auto",
    system: System = "template",
    system_file: SystemFile = None,
    gguf_file: GgufFile = None,
    as_json: Json = False,
) -> None:
    """Ablate more and more directions together, to find how many of them carry refusal."""
    from polyrefuse_models import artifact_folder
    from polyrefuse_models.bundled import own_dataset
    from polyrefuse_models.directions import artifact
    from polyrefuse_models.directions.effects import prompts_of
    from polyrefuse_models.directions.prompts import kinds_of
    from polyrefuse_models.directions.rank import rank as measure
    from polyrefuse_models.directions.rank_pictures import rank_figure
    from polyrefuse_shared.pictures import files
    from polyrefuse_shared.writing import require_new
    from polyrefuse_tasks.judges import check_refusal_judge

    # Loading a model takes long: mistakes that show without it are reported first.
    require_new(output)
    check_refusal_judge(judge)
    languages, counts = codes("--langs", langs), parse_ranks(ranks)
    given, name = artifact.load(direction, "--direction "), dataset or own_dataset(model)
    given.require_subspace(counts[-1], f"--direction {direction}")
    prompts_of(kinds_of(name)[0], languages, limit)
    lm = load(model, batch_size, device, dtype, system, system_file, gguf_file)
    _check(given, direction, lm)
    document = measure(
        lm.chat_model,
        partial(answers, lm),
        given,
        counts,
        languages,
        origin=f"--direction {direction}",
        controls=controls,
        dataset=name,
        limit=limit,
        max_gen_toks=max_gen_toks,
        judge=judge,
        seed=seed,
    )
    artifact_folder.write(
        output,
        documents={"rank.json": document},
        pictures=files("rank", rank_figure(document)),
        allow_nan=False,
    )
    lines = (
        f"{_removed(cell)}, {cell['language']}: ASR {cell['asr']:.3f} [{cell['low']:.3f}, "
        f"{cell['high']:.3f}], n = {cell['n']}"
        for cell in document["cells"]
    )
    show(as_json, document, *lines, *_answers(document), f"written to {output}")


def parse_ranks(given: str) -> list[int]:
    """Read ranks that are separated by commas, and return each once, in ascending order.

    Raises:
        UserError: an entry is not a whole number from 1 to 999999, or the list is empty.
    """
    found = set()
    for text in filter(None, map(str.strip, given.split(","))):
        if not re.fullmatch(r"[1-9][0-9]{0,5}", text):
            raise UserError(
                f"--ranks {text} is not a whole number from 1; give numbers such as 1,2,3."
            )
        found.add(int(text))
    if not found:
        raise UserError(f"--ranks {given!r} has no number in it; give numbers such as 1,2,3.")
    return sorted(found)


def parse_coefficients(given: str) -> list[float]:
    """Read numbers that are separated by commas, and return each once, in ascending order.

    Raises:
        UserError: an entry is not a finite number, or the list is empty.
    """
    found = set()
    for text in filter(None, map(str.strip, given.split(","))):
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UserError(
                f"--coefficients {text} is not a finite number; give numbers such as 0,.5,1."
            )
        found.add(number)
    if not found:
        raise UserError(
            f"--coefficients {given!r} has no number in it; give numbers such as 0,.5,1."
        )
    return sorted(found)


def _check(direction: Direction, folder: Path, lm: BaselineHF) -> None:
    """Refuse a direction that does not fit the model, and warn if it is from another model.

    Raises:
        BadDirection: the direction does not fit the model.
    """
    from polyrefuse_models.anatomy import width

    direction.check(width(lm.model), f"--direction {folder}")
    direction.warn_of_another_model(lm.model.config)


def _table(cells: list[dict[str, Any]]) -> list[str]:
    """Make a Markdown table with a row for each condition and language."""
    return [
        "| condition | language | ASR, % of harmful | n | KL, nats, harmless | n |",
        "|---|---|---|---|---|---|",
        *map(_row, cells),
    ]


def _row(cell: dict[str, Any]) -> str:
    harmful, harmless, seed = cell["harmful"], cell["harmless"], cell["control_seed"]
    name = cell["condition"] if seed is None else f"{cell['condition']}, seed {seed}"
    low, high = 100 * harmful["low"], 100 * harmful["high"]
    return (
        f"| {name} | {cell['language']} | {100 * harmful['asr']:.0f} ({low:.1f} to {high:.1f}) | "
        f"{harmful['n']} | {harmless['kl_mean']:.2g} ({harmless['kl_low']:.2g} to "
        f"{harmless['kl_high']:.2g}) | {harmless['n']} |"
    )


def _removed(cell: dict[str, Any]) -> str:
    if not cell["rank"]:
        return "untouched"
    which = "directions" if cell["rank"] > 1 else "direction"
    if cell["control_seed"] is None:
        return f"{cell['rank']} {which}"
    return f"{cell['rank']} random {which}, seed {cell['control_seed']}"


def _answers(document: dict[str, Any]) -> list[str]:
    """Describe how many directions carry refusal, and whether the languages share them."""
    described, unclear = [], []
    for language, found in document["carried"].items():
        if found is None:
            sentence, more_prompts = _why_none(document, language)
            described.append(sentence)
            if more_prompts:
                unclear.append(language)
        else:
            carry = "directions carry" if found > 1 else "direction carries"
            described.append(f"{language}: {found} {carry} its refusal")
    if len(described) > 1 and unclear:
        described.append(
            "whether the languages share one refusal subspace is not known, because of "
            f"{', '.join(unclear)}"
        )
    elif len(described) > 1 and document["shared"] is not None:
        which = "share" if document["shared"] else "do not share"
        described.append(f"the languages {which} one refusal subspace")
    return described


def _why_none(document: dict[str, Any], language: str) -> tuple[str, bool]:
    """Say why no rank carries the refusal of a language, and whether more prompts may change it."""
    from polyrefuse_models.directions.rank import removes_most

    cells = [cell for cell in document["cells"] if cell["language"] == language]
    untouched = next(cell for cell in cells if not cell["rank"])
    if not untouched["refused"]:
        return f"{language}: the untouched model refuses no prompt", False
    removing = [
        cell
        for cell in cells
        if cell["rank"]
        and cell["control_seed"] is None
        and removes_most(cell["hits"], untouched["hits"], untouched["refused"])
    ]
    if not removing:
        return f"{language}: no rank up to {document['ranks'][-1]} removes most refusals", False
    return (
        f"{language}: {_removed(removing[0])} ablated removes most refusals, but its interval "
        "overlaps that of the untouched model or of random directions: ask more prompts (--limit)",
        True,
    )
