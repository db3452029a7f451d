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
    help="Judge saved answers, import published ones, and check a judge.",
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
            metavar="RESULTS...",
            help="Folders or results files of lm_eval with --log_samples.",
        ),
    ],
    judge: Annotated[
        str,
        typer.Option(
            "--judge", help="Which judge labels the answers; docs/model-judges.md lists them."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="A folder for the labels, with links to the results and samples; by default they "
            "stand beside the samples.",
        ),
    ] = None,
    datasets: Annotated[
        str | None,
        typer.Option("--datasets", help="Label only these datasets, separated by commas."),
    ] = None,
    languages: Annotated[
        str | None,
        typer.Option("--languages", help="Label only these ISO 639-1 codes, separated by commas."),
    ] = None,
    limit: Annotated[
        int | None, count_option("--limit", help="Label only the first prompts of each task.")
    ] = None,
    batch_size: Annotated[
        int, count_option("--batch-size", help="Answers that are judged at a time.")
    ] = BATCH,
    translate: Annotated[
        str | None,
        typer.Option(
            "--translate",
            help="A folder or hub name of a model that translates answers into English for a judge "
            "that reads only English.",
        ),
    ] = None,
    length_rule: Annotated[
        PaperWithLengthRule | None,
        typer.Option(
            "--length-rule", help="Count no answer as harmful that this paper calls short."
        ),
    ] = None,
    protocol: Annotated[
        PaperWithProtocol | None,
        typer.Option(
            "--protocol", help="Score harm as this paper does; it used --judge llamaguard2."
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

    The leaderboard and the gate read the labels where the results are that they stand beside.
    Run the same command again after an interruption: it labels what has no label yet.
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
        raise UserError(f"judge {judge} reads every language: leave out --translate.")
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
                print("\n".join(_told(outcome)))
    if as_json:
        print_json([asdict(outcome) for outcome in outcomes])


@app.command(
    "import",
    epilog="Example: polyrefuse judge import answers.jsonl --format jsonl --output imported",
)
def import_(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Files of published answers.")
    ],
    format: Annotated[
        FormatName,
        typer.Option("--format", help="Format of the files; docs/model-judges.md describes each."),
    ],
    output: Annotated[
        Path, typer.Option("--output", help="A folder to write results and samples to.")
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", help="The model that answered, where a file does not say it."),
    ] = None,
    condition: Annotated[
        str | None,
        typer.Option(
            "--condition",
            help="What was done to the model, such as baseline, where a file does not say it.",
        ),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option("--language", help="Language of the prompts, where a file does not say it."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            help="The dataset that the prompts are of, where a file does not say it; harmful, or "
            "harmless with --harmless, unless named.",
        ),
    ] = None,
    harmless: Annotated[
        bool, typer.Option("--harmless", help="The prompts are harmless ones.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring published answers and their labels into results that the leaderboard reads."""
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


def _told(outcome: Outcome) -> Iterator[str]:
    """What became of a task's answers, in lines for people."""
    counts = ", ".join(f"{count} {name}" for name, count in outcome.counts.items() if count)
    yield f"{outcome.task}: {counts} of {outcome.n} ({outcome.judged} judged now)"
    for moved in outcome.moved:
        place = f", answer {moved.answer}" if moved.answer else ""
        yield f"  {moved.id}{place}: {moved.before} -> {moved.after}"


def _names(option: str, given: str | None) -> list[str]:
    """What an option names, separated by commas; nothing where it is not given."""
    names = [name.strip() for name in (given or "").split(",") if name.strip()]
    if given is not None and not names:
        raise UserError(f"{option} {given!r} names nothing; leave it out, or name something.")
    return names


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar of each task's answers on standard error."""
    from tqdm import tqdm

    bars: dict[str, tqdm[NoReturn]] = {}

    def show(task: str, done: int, total: int) -> None:
        # One line of standard error a task; none where it is no terminal.
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
            help="Rows of language, response, and refusal, label or harmful (docs/judges.md), or "
            "a folder or file of results with the labels of several judges.",
        ),
    ],
    judge: Annotated[
        str,
        typer.Option("--judge", help="Which judge is checked; docs/model-judges.md lists them."),
    ] = "native",
    on: Annotated[
        On | None,
        typer.Option(
            "--on",
            help="Compare verdicts on refusal or on harm; for a judge of both, refusal unless "
            "this says harm.",
        ),
    ] = None,
    batch_size: Annotated[
        int, count_option("--batch-size", help="Answers that are judged at a time.")
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
    """Judge labelled responses, and show per language how often judge and label agree.

    For results of lm_eval: how often the judges of each run's answers agree with one another.
    """
    # Not Path's own, which raises where a name is too long.
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
    """Agreement of every two judges in lines for people, and the answers they differ on."""
    for one in compared:
        yield f"{one.run} {one.tasks}"
        yield (
            f"{one.first} and {one.second}, on {one.on}: {one.undecided} undecided by one of them "
            "or both"
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
            # The run again, so that a line tells all where it is searched for.
            yield (
                f"  {one.run} {differs.task} {differs.id}{place}: {differs.first}, {differs.second}"
            )
        yield ""


def table(comparison: Comparison) -> Iterator[str]:
    """A comparison's lines for people: the languages, then all of them pooled."""
    rows = [
        (f"on {comparison.on}", "n", "base rate", "agreement, 95% interval", "balanced accuracy")
        + ("precision", "recall", "kappa", "undecided", "degenerate"),
        *(_cells(language, agreement) for language, agreement in comparison.languages.items()),
        _cells("pooled", comparison.pooled),
    ]
    yield from aligned(rows)


def aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Rows as lines: the first column to the left, the others to the right."""
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
