"""The command `polyrefuse leaderboard build`, and the writing of pages shared with `published`."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyrefuse_shared.options import Json, show
from polyrefuse_shared.printing import clean, counted

if TYPE_CHECKING:
    from polyrefuse_leaderboard.contents import Contents
    from polyrefuse_leaderboard.reading.runs import Reading

Output = Annotated[
    Path,
    typer.Option(
        "--output",
        help="Folder for the pages: a new folder, an empty one, or that of an older leaderboard.",
    ),
]

ModelNames = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="JSON file that gives different names to models that would have the same name: an "
        "object that maps paths or hub names to names. Default: the last part of each path.",
    ),
]


def build(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS", help="Folders or results files that lm_eval wrote."),
    ],
    output: Output,
    include_samples: Annotated[
        bool,
        typer.Option(
            "--include-samples",
            help="Also write the answers of the models, including harmful ones, to samples.jsonl.",
        ),
    ] = False,
    model_names: ModelNames = None,
    capability: Annotated[
        str | None,
        typer.Option(
            "--capability",
            metavar="TASKS",
            help="Other lm_eval tasks to compare with the baseline, separated by commas, for "
            "example mmlu,gsm8k:exact_match:strict-match. Default: none.",
        ),
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The summary.json of the study that made the results. Also writes a safety card "
            "for each of its models.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a leaderboard of results as HTML, Markdown, LaTeX, CSV, JSON and pictures."""
    from polyrefuse_leaderboard import model_rows, rates, site, transfers, warnings
    from polyrefuse_leaderboard.capability import capability_records
    from polyrefuse_leaderboard.card.cards import make_cards
    from polyrefuse_leaderboard.card.study import read_study
    from polyrefuse_leaderboard.contents import Contents
    from polyrefuse_leaderboard.reading.capability import parse_wanted
    from polyrefuse_leaderboard.reading.model_names import hide_paths, read_names, refuse_same
    from polyrefuse_leaderboard.reading.results import NoResults, read

    # Everything that is read is kept until the end, so garbage collection would only double the
    # time.
    gc.disable()
    # A mistake in the folder's name ends the command before reading, which may take a minute.
    site.require_writable(output)
    # A folder with a transfer report need not have results, unless nothing else was named.
    others = [path for path in results if not transfers.is_report(path)]
    summary = read_study(study) if study else None
    names = read_names(model_names) if model_names else {}
    wanted = parse_wanted(capability) if capability is not None else []
    reading = read(
        others or results, include_samples=include_samples, names=names, capability=wanted
    )
    matrices, unusable = transfers.read_transfers(results, names)
    given = [(run.given, run.model) for run in reading.runs]
    given += [(matrix.given, matrix.model) for matrix in matrices]
    refuse_same(((path, ""), (name, "")) for path, name in given)
    of_capability, no_interval = capability_records(reading)
    records = [*rates.records(reading), *of_capability]
    if not records:
        raise NoResults(" ".join(no_interval))
    if include_samples:
        print(
            f"polyrefuse: warning: {site.SAMPLES} holds the models' answers, harmful ones "
            "included; do not publish it.",
            file=sys.stderr,
        )
    rows = model_rows.rows(records, reading)
    collected = warnings.collect(reading, records, matrices)
    cards = make_cards(summary, reading, records, rows, collected, names) if summary else ()
    contents = Contents(
        title="Refusal safety by language",
        records=records,
        rows=rows,
        transfers=matrices,
        warnings=collected,
        problems=(
            *reading.problems,
            *(hide_paths(one, names) for one in (*no_interval, *unusable)),
        ),
        notes=reading.notes,
        cards=cards,
        samples=_samples(reading) if include_samples else None,
    )
    write_pages(contents, output, as_json)


def write_pages(contents: Contents, output: Path, as_json: bool) -> None:
    """Write a leaderboard, and print what was left out, its warnings and its path.

    Raises:
        CannotWrite: as in `site.write_site`.
    """
    from polyrefuse_leaderboard.site import write_site
    from polyrefuse_leaderboard.warnings import by_text

    for problem in contents.problems:
        print(f"polyrefuse: left out: {clean(problem)}", file=sys.stderr)
    for text, alike in by_text(contents.warnings).items():
        some = alike[0].sentence
        if len(alike) > 1:
            some = f"{text} ({len(alike)} times; the page lists where)"
        print(f"polyrefuse: warning: {clean(some)}", file=sys.stderr)
    for note in contents.notes:
        print(f"polyrefuse: note: {clean(note)}", file=sys.stderr)
    files = write_site(output, contents)
    records, models = len(contents.records), len({record.model for record in contents.records})
    result = {
        "output": str(output),
        "files": files,
        "records": records,
        "models": models,
        "warnings": [warning.sentence for warning in contents.warnings],
        "problems": list(contents.problems),
        "notes": list(contents.notes),
    }
    what = f"{counted(records, 'record')} of {counted(models, 'model')}"
    show(as_json, result, f"{output / 'index.html'}: {what}")


def _samples(reading: Reading) -> Iterator[dict[str, Any]]:
    """Yield a line of samples.jsonl for each answer."""
    for run in reading.runs:
        for cell in run.cells:
            for response in cell.responses or ():
                yield {
                    "model": run.model,
                    "condition": run.condition,
                    "dataset": cell.dataset,
                    "language": cell.language,
                    "judge": cell.judge,
                    "run": run.run,
                    "id": response.id,
                    "response": response.text,
                }
