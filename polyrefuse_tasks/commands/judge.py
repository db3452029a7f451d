"""`polyrefuse judge`: run, import and agreement."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.lm_eval_internals import is_results_file
from polyrefuse_shared.options import Json, count_option, print_json, show
from polyrefuse_tasks.commands.judge_options import (
    BaseUrl,
    Concurrency,
    Device,
    Dtype,
    EngineOption,
    JudgeModel,
    JudgeRevision,
    MaxRequests,
    Timeout,
)
from polyrefuse_tasks.english_answers import EnglishAnswers
from polyrefuse_tasks.judges.agreement import Agreement, Comparison, On, compare, read_rows
from polyrefuse_tasks.judges_compared import Compared, compare_judges
from polyrefuse_tasks.rejudging import BATCH, Outcome, Progress, rejudge
from polyrefuse_tasks.saved_results.links import link_results

app = typer.Typer(
    no_args_is_help=True,
    help="Judge saved answers, import published answers, and check a judge.",
    epilog="Example: polyrefuse judge run results --judge native",
)


FormatName = Literal["mainlp", "arditi", "harmbench", "jailbreakbench", "heretic", "jsonl"]
PaperWithLengthRule = Literal["2505.11835", "2404.01318"]
PaperWithProtocol = Literal["2505.11835"]


@app.command(epilog="Example: polyrefuse judge run results --judge native")
def run(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS",
            help="Folders or results files that lm_eval --log_samples wrote. Subfolders are read.",
        ),
    ],
    judge: Annotated[
        str,
        typer.Option(
            "--judge",
            help="Name of the judge that labels the answers. docs/how-to/model-judges.md lists the "
            "judges.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="Folder for the labels, with links to the results and samples. Default: beside "
            "the samples.",
        ),
    ] = None,
    datasets: Annotated[
        str | None,
        typer.Option(
            "--datasets",
            help="Label only the answers of these datasets, separated by commas. Default: all.",
        ),
    ] = None,
    languages: Annotated[
        str | None,
        typer.Option(
            "--languages",
            help="Label only the answers in these languages, as ISO 639-1 codes separated by "
            "commas. Default: all.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        count_option(
            "--limit",
            help="Label only the answers to this many prompts of each task, counted from the "
            "first. Default: all.",
        ),
    ] = None,
    batch_size: Annotated[
        int, count_option("--batch-size", help="Number of answers to judge at a time.")
    ] = BATCH,
    translate: Annotated[
        str | None,
        typer.Option(
            "--translate",
            help="Model that translates answers into English for a judge that reads only English: "
            "a folder, or a name on the Hugging Face hub. Default: no translation.",
        ),
    ] = None,
    length_rule: Annotated[
        PaperWithLengthRule | None,
        typer.Option(
            "--length-rule",
            help="Never call an answer harmful if it is short by the rule of this paper (arXiv "
            "number). Default: no such rule.",
        ),
    ] = None,
    protocol: Annotated[
        PaperWithProtocol | None,
        typer.Option(
            "--protocol",
            help="Score harm as in this paper (arXiv number), whose judge is llamaguard2. "
            "Default: the judge's own verdict.",
        ),
    ] = None,
    judge_model: JudgeModel = None,
    judge_revision: JudgeRevision = None,
    engine: EngineOption = None,
    device: Device = None,
    dtype: Dtype = "auto",
    base_url: BaseUrl = None,
    concurrency: Concurrency = 8,
    timeout: Timeout = 120.0,
    max_requests: MaxRequests = None,
    as_json: Json = False,
) -> None:
    """Label the answers that lm-eval saved, without generating again.

    The leaderboard and the gate read the labels together with the results.
    Run the same command again after an interruption: it labels the answers
    that have no label yet.
    """
    from polyrefuse_tasks.judge_models.choosing import choose

    chosen = choose(
        judge,
        model=judge_model,
        revision=judge_revision,
        engine=engine,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        base_url=base_url,
        concurrency=concurrency,
        timeout=timeout,
        max_requests=max_requests,
        length_rule=length_rule,
        protocol=protocol,
    )
    if translate is not None and not chosen.english_only:
        raise UserError(f"The judge {judge} reads every language: leave out --translate.")
    if output is not None and link_results(results, output):
        results = [output]
    outcomes = []
    with progress_bar() as progress:
        for outcome in rejudge(
            results,
            chosen,
            datasets=_names("--datasets", datasets),
            languages=_names("--languages", languages),
            limit=limit,
            batch_size=batch_size,
            english=None if translate is None else EnglishAnswers(translate),
            progress=progress,
        ):
            outcomes.append(outcome)
            if not as_json:
                print("\n".join(_report(outcome)))
    if as_json:
        print_json([asdict(outcome) for outcome in outcomes])


@app.command(
    "import",
    epilog="Example: polyrefuse judge import answers.jsonl --format jsonl --model my-model "
    "--output imported",
)
def import_(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="Files with published answers.")
    ],
    format: Annotated[
        FormatName,
        typer.Option(
            "--format",
            help="Format of the files. docs/how-to/model-judges.md describes each format.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", help="Folder to which results and samples are written.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Name of the model that answered. Needed if a file does not name it."
        ),
    ] = None,
    condition: Annotated[
        str | None,
        typer.Option(
            "--condition",
            help="What was done to the model, such as baseline or ablation. Needed if neither the "
            "file nor its format says it.",
        ),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            "--language",
            help="Language of the prompts, as an ISO 639-1 code. Needed if neither the file nor "
            "its format says it.",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            help="Name of the dataset of the prompts. Default: what the file says, otherwise "
            "harmful, or harmless with --harmless.",
        ),
    ] = None,
    harmless: Annotated[
        bool,
        typer.Option(
            "--harmless",
            help="Record the prompts as harmless. Default: harmful, unless they are those of a "
            "harmless dataset of this package.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Convert published answers and their labels into results that the leaderboard reads."""
    from polyrefuse_tasks.importing.answers import About
    from polyrefuse_tasks.importing.formats import FORMATS
    from polyrefuse_tasks.importing.saving import save

    about = About(model, condition, language, dataset, harmless)
    runs = [run for file in files for run in FORMATS[format](file, about)]
    written = save(runs, format, output)
    n = sum(len(run.answers) for run in runs)
    labelled = any(answer.judgements for run in runs for answer in run.answers)
    shown = f"`polyrefuse leaderboard build {output} --output SITE` shows them."
    if not labelled:
        shown = f"`polyrefuse judge run {output} --judge NAME` labels them."
    show(
        as_json,
        {"results": [str(path) for path in written], "answers": n},
        *(f"{path}" for path in written),
        f"{n} answers of {len(runs)} runs; {shown}",
    )


def _report(outcome: Outcome) -> Iterator[str]:
    """Describe the outcome for a task's answers in lines for people."""
    counts = ", ".join(f"{count} {name}" for name, count in outcome.counts.items() if count)
    yield f"{outcome.task}: {counts} of {outcome.n} ({outcome.judged} judged now)"
    for moved in outcome.moved:
        place = f", answer {moved.answer}" if moved.answer else ""
        yield f"  {moved.id}{place}: {moved.before} -> {moved.after}"


def _names(option: str, given: str | None) -> list[str]:
    """Split the value of an option at its commas; an option that is not given names nothing."""
    names = [name.strip() for name in (given or "").split(",") if name.strip()]
    if given is not None and not names:
        raise UserError(
            f"{option} {given!r} names nothing: give at least one name, or leave it out."
        )
    return names


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show a progress bar for the answers of each task on standard error."""
    from tqdm import tqdm

    bars: dict[str, tqdm[NoReturn]] = {}

    def show(task: str, done: int, total: int) -> None:
        # Each task takes one line of standard error, and none if that is not a terminal.
        if task not in bars:
            bars[task] = tqdm(desc=task, total=total, unit=" answers", disable=None)
        bars[task].update(done - bars[task].n)
        if done == total:
            bars.pop(task).close()

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()


@app.command(epilog="Example: polyrefuse judge agreement labels.jsonl")
def agreement(
    labels: Annotated[
        Path,
        typer.Argument(
            metavar="LABELS.jsonl|RESULTS",
            help="A JSONL file with the fields language, response, and one of refusal, label and "
            "harmful (docs/how-to/own-judge.md describes it), or a folder or file of results with "
            "the labels of several judges.",
        ),
    ],
    judge: Annotated[
        str,
        typer.Option(
            "--judge",
            help="Name of the judge that is checked. docs/how-to/model-judges.md lists the judges.",
        ),
    ] = "native",
    on: Annotated[
        On | None,
        typer.Option(
            "--on",
            help="Compare verdicts on refusal or on harm. Default: what the judge measures, and "
            "refusal for a judge of both.",
        ),
    ] = None,
    batch_size: Annotated[
        int, count_option("--batch-size", help="Number of answers to judge at a time.")
    ] = BATCH,
    judge_model: JudgeModel = None,
    judge_revision: JudgeRevision = None,
    engine: EngineOption = None,
    device: Device = None,
    dtype: Dtype = "auto",
    base_url: BaseUrl = None,
    concurrency: Concurrency = 8,
    timeout: Timeout = 120.0,
    max_requests: MaxRequests = None,
    as_json: Json = False,
) -> None:
    """Judge labelled answers, and show for each language how often judge and label agree.

    If you give results of lm_eval, the command shows how often the judges of each run agree with
    one another.
    """
    # Path.is_dir would raise an error for a name that is too long.
    if os.path.isdir(labels) or is_results_file(labels.name):
        compared = compare_judges([labels], on)
        show(as_json, [asdict(one) for one in compared], *compared_table(compared))
        return
    from polyrefuse_tasks.judge_models.choosing import choose

    chosen = choose(
        judge,
        model=judge_model,
        revision=judge_revision,
        engine=engine,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        base_url=base_url,
        concurrency=concurrency,
        timeout=timeout,
        max_requests=max_requests,
    )
    comparison = compare(read_rows(labels), chosen, on)
    if as_json:
        print_json(asdict(comparison))
    else:
        print("\n".join(table(comparison)))


def compared_table(compared: list[Compared]) -> Iterator[str]:
    """Yield the agreement of every two judges, and the answers on which they differ."""
    for one in compared:
        yield f"{one.run} {one.tasks}"
        yield (
            f"{one.first} and {one.second}, on {one.on}: one or both left {one.undecided} answers "
            "undecided"
        )
        rows = [("", "n", "agreement", "kappa, 95% interval")]
        for name, kappa in (*one.languages.items(), ("pooled", one.pooled)):
            interval = "-"
            if kappa.kappa is not None:
                interval = f"{_shown(kappa.kappa)} [{_shown(kappa.low)}, {_shown(kappa.high)}]"
            rows.append((name, str(kappa.n), _shown(kappa.agreement), interval))
        yield from aligned(rows)
        for differs in one.disagreements:
            place = f", answer {differs.answer}" if differs.answer else ""
            # Each line repeats the run, so that a line found by grep is complete.
            yield (
                f"  {one.run} {differs.task} {differs.id}{place}: {differs.first}, {differs.second}"
            )
        yield ""


def table(comparison: Comparison) -> Iterator[str]:
    """Yield a comparison in lines for people: each language, then all of them pooled."""
    rows = [
        (f"on {comparison.on}", "n", "base rate", "agreement, 95% interval", "balanced accuracy")
        + ("precision", "recall", "kappa", "undecided", "degenerate"),
        *(_cells(language, agreement) for language, agreement in comparison.languages.items()),
        _cells("pooled", comparison.pooled),
    ]
    yield from aligned(rows)


def aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Align rows as lines: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "  ".join((first.ljust(widths[0]), *cells))


def _cells(name: str, agreement: Agreement) -> tuple[str, ...]:
    return (
        name,
        str(agreement.n),
        _shown(agreement.base_rate),
        f"{_shown(agreement.agreement)} [{_shown(agreement.low)}, {_shown(agreement.high)}]",
        _shown(agreement.balanced_accuracy),
        _shown(agreement.precision),
        _shown(agreement.recall),
        _shown(agreement.kappa),
        str(agreement.undecided),
        str(agreement.degenerate),
    )


def _shown(statistic: float | None) -> str:
    # The sum is 0 where a negative number is rounded to -0.
    return "-" if statistic is None else f"{round(statistic, 3) + 0.0:.3f}"
