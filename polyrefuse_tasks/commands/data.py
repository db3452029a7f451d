"""`polyrefuse data`: fetch, status, verify, path, translate, add, show."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyrefuse_shared.options import Json, count_option, print_json
from polyrefuse_shared.printing import clean
from polyrefuse_tasks.data import (
    cache,
    catalogue,
    own_datasets,
    own_translations,
    rows,
    toyrefuse,
)
from polyrefuse_tasks.data.errors import MissingData, WrongHash
from polyrefuse_tasks.data.registry import File
from polyrefuse_tasks.languages import UnknownLanguage

if TYPE_CHECKING:
    from rich.progress import Progress

    from polyrefuse_tasks.adding import Report
    from polyrefuse_tasks.data.own_datasets import OwnSet

app = typer.Typer(
    no_args_is_help=True,
    help="Fetch, check, find, translate, add and show the prompts.",
    epilog="Example: polyrefuse data status",
)

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="DATASET", help="Names of datasets. Default: all datasets."),
]
Split = Annotated[
    str | None,
    typer.Option("--split", help="Only this split: train, val or test. Default: all splits."),
]
Language = Annotated[
    str | None,
    typer.Option(
        "--lang",
        help="Only the files for this language, as an ISO 639-1 code such as de. Default: "
        "all languages.",
    ),
]


@app.command(epilog="Example: polyrefuse data fetch harmful harmless --lang de")
def fetch(names: Names = None, lang: Language = None, as_json: Json = False) -> None:
    """Download missing files into the cache, and check every file."""
    files = _files(names, lang)
    entries: list[dict[str, Any]] = []
    with _progress(as_json) as progress:
        for file in files:
            before = cache.find(file)
            path = cache.resolve(file, _Download(progress, file.path))
            entries.append({"file": file.path, "path": str(path), "fetched": before is None})
    fetched = sum(entry["fetched"] for entry in entries)
    _print(as_json, entries, f"files fetched: {fetched}, already here: {len(entries) - fetched}")


@app.command(epilog="Example: polyrefuse data status --lang de")
def status(names: Names = None, lang: Language = None, as_json: Json = False) -> None:
    """Show for each file whether it is in the mirror, in the cache, or missing."""
    entries = [_status(file) for file in _files(names, lang)] + _own_translations(names, lang)
    _print(as_json, entries, _table(entries, ("file", "dataset", "place")))


@app.command(epilog="Example: polyrefuse data verify harmful --lang de")
def verify(names: Names = None, lang: Language = None, as_json: Json = False) -> None:
    """Compare every file with its published sha256.

    The exit code is 1 if a file is wrong or missing.
    """
    entries = [_verified(file) for file in _files(names, lang)]
    bad = [entry for entry in entries if entry["verdict"] != "right"]
    lines = (entry["reason"] or f"{entry['file']} is missing." for entry in bad)
    summary = f"correct files: {len(entries) - len(bad)}, wrong or missing: {len(bad)}"
    _print(as_json, entries, *lines, summary)
    if bad:
        raise typer.Exit(1)


@app.command(epilog="Example: polyrefuse data path")
def path(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="DATASET",
            help="Name of the dataset whose files are printed. Default: print the data folders.",
        ),
    ] = None,
    lang: Annotated[
        str,
        typer.Option("--lang", help="Language of the files, as an ISO 639-1 code such as de."),
    ] = "en",
    split: Split = None,
    as_json: Json = False,
) -> None:
    """Print the data folders, or the paths of the files of a dataset."""
    if name is None:
        folders = {place: str(folder) for place, folder in cache.places().items()}
        folders["translated"] = str(cache.home() / own_translations.FOLDER)
        _print(as_json, folders, *(f"{place} {folder}" for place, folder in folders.items()))
        return
    paths = []
    for half in catalogue.named(name):
        paths += [str(cache.local(file)) for file in rows.needed(half, lang, split)]
        if catalogue.dataset(half).invented:
            paths += [str(path) for path in toyrefuse.files(lang)]
        if lang not in catalogue.dataset(half).languages:
            paths.append(str(own_translations.path(half, lang)))
    _print(as_json, paths, *paths)


@app.command(
    epilog="Example: polyrefuse data translate --dataset harmless --to da --model ./opus-mt-en-da"
)
def translate(
    dataset: Annotated[
        str, typer.Option("--dataset", help="Name of the dataset whose prompts are translated.")
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="Languages to translate into, as ISO 639-1 codes separated by commas: da,el,ga.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="Sequence-to-sequence translation model: a name on the Hugging Face hub or a "
            "folder.",
        ),
    ],
    batch_size: Annotated[
        int, count_option("--batch-size", help="Number of prompts to translate at a time.")
    ] = 16,
    split: Split = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="Folder for the files DATASET/LANG.jsonl. Default: the folder of your own data, "
            "from which lm_eval reads translations.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Translate the English prompts of a dataset.

    Run the same command again after an interruption: it continues where it stopped.
    """
    from polyrefuse_tasks.data import translation

    files: list[translation.Translation] = []
    for half in catalogue.named(dataset):
        with _progress(as_json, unit="rows") as progress:
            files += translation.translate(
                half,
                [language.strip() for language in to.split(",")],
                model,
                batch_size=batch_size,
                split=split,
                output=output,
                progress=_advance(progress, half),
            )
    lines = (
        f"{file.path} has {file.rows} rows"
        + (f"; {file.left_out} empty translations are left out" if file.left_out else "")
        for file in files
    )
    _print(as_json, [asdict(file) | {"path": str(file.path)} for file in files], *lines)


@app.command(
    epilog="Example: polyrefuse data add clinic prompts.csv --langs de --harmful",
)
def add(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Name of the new dataset. Its task in German is then polyrefuse_NAME_de.",
        ),
    ],
    prompts: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A .jsonl or .csv file with the column prompt. The columns id, category, "
            "language, harmful, pair and split are optional.",
        ),
    ],
    langs: Annotated[
        str | None,
        typer.Option(
            "--langs",
            help="Languages of the rows, as ISO 639-1 codes separated by commas. If the file has "
            "no column language, give exactly one. Default: English.",
        ),
    ] = None,
    harmful: Annotated[
        bool | None,
        typer.Option(
            "--harmful/--harmless",
            help="Whether the prompts are harmful. Needed if the file has no column harmful.",
        ),
    ] = None,
    trust_languages: Annotated[
        bool,
        typer.Option(
            "--trust-languages",
            help="Accept the languages of the rows even if most prompts seem to be in another one.",
        ),
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace your dataset that already has this name.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check your own prompts, and add them as a dataset with tasks for lm_eval."""
    from polyrefuse_tasks import adding

    adding.require_free(name)
    report = adding.read_prompts(
        prompts,
        languages=[] if langs is None else split_languages(langs),
        harmful=harmful,
        trust_languages=trust_languages,
    )
    added, written = adding.add(name, report, replace=replace)
    if replace and written:
        notes = (*report.notes, *_translations_of(added))
        report = dataclasses.replace(report, notes=notes)
    _print_added(added, report, written, as_json)


@app.command(epilog="Example: polyrefuse data show xstest_safe --langs en --limit 5")
def show(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Name of the dataset.")],
    langs: Annotated[
        str | None,
        typer.Option(
            "--langs",
            help="Languages of the rows, as ISO 639-1 codes separated by commas. Default: English, "
            "or the first language of a dataset without English.",
        ),
    ] = None,
    split: Split = None,
    limit: Annotated[
        int | None,
        count_option(
            "--limit", help="Number of rows to print for each kind and language. Default: all."
        ),
    ] = None,
    show_prompts: Annotated[
        bool, typer.Option("--show-prompts", help="Print the text of harmful prompts as well.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the rows of a dataset, without the text of harmful prompts."""
    entries = [
        _shown(row, show_prompts)
        for half in catalogue.named(dataset)
        for language in (
            [catalogue.dataset(half).reference] if langs is None else split_languages(langs)
        )
        for row in rows.load(half, language, split)[:limit]
    ]
    kinds = Counter(entry["harmful"] for entry in entries)
    summary = f"rows: {len(entries)}, harmful: {kinds[True]}, harmless: {kinds[False]}"
    if kinds[True] and not show_prompts:
        summary += "; --show-prompts prints the text of harmful prompts"
    _print(as_json, entries, *map(_one_row, entries), summary)


def split_languages(given: str) -> list[str]:
    """Split the value of an option into codes, each once.

    Raises:
        UnknownLanguage: it names no code.
    """
    codes = list(dict.fromkeys(code.strip() for code in given.split(",") if code.strip()))
    if not codes:
        raise UnknownLanguage(f"--langs {given!a} names no language: give codes such as de,fr.")
    return codes


def _shown(row: rows.Row, show_prompts: bool) -> dict[str, Any]:
    """Return a row in the form that is printed, without the text of a hidden harmful prompt."""
    hidden = row.harmful and not show_prompts
    return {
        "id": row.id,
        "language": row.language,
        "split": row.split,
        "harmful": row.harmful,
        "category": row.category,
        "pair": row.pair,
        "characters": len(row.prompt),
        "prompt": None if hidden else row.prompt,
    }


def _one_row(entry: dict[str, Any]) -> str:
    about = [
        entry["id"],
        entry["language"],
        "harmful" if entry["harmful"] else "harmless",
        *(f"{name} {entry[name]}" for name in ("category", "pair") if entry[name]),
    ]
    text = entry["prompt"]
    shown = f"({entry['characters']} characters)" if text is None else " ".join(text.split())
    return f"{'  '.join(map(clean, about))}\n    {clean(shown)}"


def _print_added(added: OwnSet, report: Report, written: bool, as_json: bool) -> None:
    from polyrefuse_tasks.configs import own_families, own_groups

    tasks = [
        family.task(language)
        for family in own_families()
        if family.name in added.halves
        for language in family.languages
    ]
    kinds = Counter(row.harmful for row in report.rows)
    shortest, middle, longest = report.lengths
    groups = [group for group in own_groups(added.name) if group not in tasks]
    result = {
        "name": added.name,
        "written": written,
        "rows": len(report.rows),
        "harmful": kinds[True],
        "harmless": kinds[False],
        "pairs": report.pairs,
        "languages": sorted({row.language for row in report.rows}),
        "characters": {"shortest": shortest, "median": middle, "longest": longest},
        "datasets": list(added.halves),
        "tasks": tasks,
        "groups": groups,
        "sha256": {file.path: file.sha256 for file in added.files},
        "manifest": str(own_datasets.manifest_path(added.name)),
        "notes": list(report.notes),
    }
    _print(
        as_json,
        result,
        *(f"note: {note}" for note in report.notes),
        f"{added.name} {'has' if written else 'already exists with'} {len(report.rows)} rows: "
        f"{kinds[True]} harmful, {kinds[False]} harmless, {report.pairs} pairs; "
        f"{shortest} to {longest} characters, median {middle}",
        *(f"sha256 {file.sha256} {file.path}" for file in added.files),
        f"tasks: {', '.join(tasks) or 'none'}",
        f"groups: {', '.join(groups) or 'none'}",
    )


def _translations_of(replaced: OwnSet) -> list[str]:
    """Return a sentence on each translation beside a dataset that was replaced."""
    return [
        f"{own_translations.path(half, language)} translates the rows that were here before: "
        "remove it, unless it translates these rows too."
        for half in replaced.halves
        for language in own_translations.languages(half)
    ]


def _advance(progress: Progress, dataset: str) -> Callable[[str, int, int], None]:
    tasks: dict[str, Any] = {}

    def advance(language: str, done: int, total: int) -> None:
        if language not in tasks:
            tasks[language] = progress.add_task(f"{dataset}/{language}", total=total)
        progress.update(tasks[language], completed=done)

    return advance


class _Download:
    """pooch's HTTP downloader with a progress bar, which disappears when the file is complete."""

    def __init__(self, progress: Progress, name: str) -> None:
        self.progress = progress
        self.name = name

    def __call__(self, url: str, temporary: str, pooch: object) -> None:
        from pooch import HTTPDownloader

        bar = _Bar(self.progress, self.name)
        try:
            HTTPDownloader(progressbar=bar, timeout=30)(url, temporary, pooch)
        finally:
            self.progress.remove_task(bar.task)


class _Bar:
    """A progress bar of rich as pooch needs it (its docs, "Using custom progress bars")."""

    def __init__(self, progress: Progress, name: str) -> None:
        self.progress = progress
        self.task = progress.add_task(name, total=None)

    def _expect(self, size: int) -> None:
        self.progress.update(self.task, total=size or None)

    total = property(None, _expect)

    def update(self, size: int) -> None:
        self.progress.advance(self.task, size)

    def reset(self) -> None:
        self.progress.update(self.task, completed=0)

    def close(self) -> None:
        """Do nothing: pooch calls it before the file is checked, and the bar is removed later."""


def _files(names: list[str] | None, lang: str | None) -> list[File]:
    chosen = _chosen(names)
    if lang is None:
        wanted = [(name, spoken) for name in chosen for spoken in catalogue.dataset(name).languages]
    else:
        speakers = [name for name in chosen if names or lang in rows.languages(name)]
        wanted = [(name, lang) for name in speakers or chosen]
    files = (file for name, spoken in wanted for file in rows.needed(name, spoken, None))
    return list(dict.fromkeys(files))


def _chosen(names: list[str] | None) -> list[str]:
    """Return the named datasets, or all except those that repeat the prompts of another dataset."""
    if names:
        return [half for name in names for half in catalogue.named(name)]
    return [name for name, source in catalogue.datasets().items() if not source.only_by_name]


def _status(file: File) -> dict[str, str | None]:
    place, path = cache.find(file) or ("missing", None)
    return {
        "file": file.path,
        "dataset": file.dataset,
        "place": place,
        "path": str(path) if path else None,
    }


def _own_translations(names: list[str] | None, lang: str | None) -> list[dict[str, str | None]]:
    place = next(iter(cache.places()))
    return [
        {
            "file": own_translations.relative(name, language),
            "dataset": name,
            "place": place,
            "path": str(own_translations.path(name, language)),
        }
        for name in _chosen(names)
        for language in own_translations.languages(name)
        if lang in (None, language)
    ]


def _verified(file: File) -> dict[str, str | None]:
    located = cache.find(file)
    verdict, reason = "right" if located else "missing", None
    if located:
        try:
            cache.check(file, located[1])
        except (WrongHash, MissingData) as error:
            verdict, reason = "wrong", str(error)
    return _status(file) | {"verdict": verdict, "reason": reason}


def _progress(quiet: bool, unit: str = "bytes") -> Progress:
    from rich import progress as bars
    from rich.console import Console

    console = Console(stderr=True)
    amount = bars.DownloadColumn() if unit == "bytes" else bars.MofNCompleteColumn()
    return bars.Progress(
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        amount,
        bars.TimeRemainingColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
    )


def _table(entries: list[dict[str, str | None]], columns: tuple[str, ...]) -> Any:
    from rich.table import Table

    table = Table(*columns)
    for entry in entries:
        table.add_row(*(entry[column] or "" for column in columns))
    return table


def _print(as_json: bool, result: Any, *lines: Any) -> None:
    """Print a result for programs, or `lines` for people."""
    if as_json:
        print_json(result, indent=2)
        return
    from rich.console import Console

    # Users copy paths and sums, so plain lines are neither wrapped nor highlighted.
    console = Console(highlight=False, soft_wrap=True)
    for line in lines:
        console.print(line, markup=False)
