"""`polyrefuse data`: fetch, status, verify, path, translate."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyrefuse_shared.options import Json, count_option, print_json
from polyrefuse_tasks.data import cache, own_translations, registry, rows, toyrefuse
from polyrefuse_tasks.data.errors import MissingData, WrongHash
from polyrefuse_tasks.data.registry import File

if TYPE_CHECKING:
    from rich.progress import Progress

app = typer.Typer(no_args_is_help=True, help="Fetch, check, find and translate the prompts.")

Names = Annotated[
    list[str] | None, typer.Argument(metavar="DATASET", help="All of them by default.")
]
Language = Annotated[
    str | None, typer.Option("--lang", help="Only what one language needs, such as de.")
]


@app.command()
def fetch(names: Names = None, lang: Language = None, as_json: Json = False) -> None:
    """Download what is not here yet, checked, into the cache."""
    files = _files(names, lang)
    entries: list[dict[str, Any]] = []
    with _progress(as_json) as progress:
        for file in files:
            before = cache.find(file)
            path = cache.resolve(file, _Download(progress, file.path))
            entries.append({"file": file.path, "path": str(path), "fetched": before is None})
    fetched = sum(entry["fetched"] for entry in entries)
    _print(as_json, entries, f"files fetched: {fetched}, here before: {len(entries) - fetched}")


@app.command()
def status(names: Names = None, lang: Language = None, as_json: Json = False) -> None:
    """Show where each file is: in the mirror, in the cache, or missing."""
    entries = [_status(file) for file in _files(names, lang)] + _own_translations(names, lang)
    _print(as_json, entries, _table(entries, ("file", "dataset", "place")))


@app.command()
def verify(names: Names = None, lang: Language = None, as_json: Json = False) -> None:
    """Compare every file with its published sha256; exit code 1 if one is wrong or missing."""
    entries = [_verified(file) for file in _files(names, lang)]
    bad = [entry for entry in entries if entry["verdict"] != "right"]
    lines = (entry["reason"] or f"{entry['file']} is missing." for entry in bad)
    summary = f"files right: {len(entries) - len(bad)}, wrong or missing: {len(bad)}"
    _print(as_json, entries, *lines, summary)
    if bad:
        raise typer.Exit(1)


@app.command()
def path(
    name: Annotated[
        str | None, typer.Argument(metavar="DATASET", help="The folders by default.")
    ] = None,
    lang: Annotated[str, typer.Option("--lang", help="The language of its files.")] = "en",
    split: Annotated[str | None, typer.Option("--split", help="One split; all by default.")] = None,
    as_json: Json = False,
) -> None:
    """Print the data folders, or the paths of the files that a data set is read from."""
    if name is None:
        folders = {place: str(folder) for place, folder in cache.places().items()}
        folders["translated"] = str(cache.home() / own_translations.FOLDER)
        _print(as_json, folders, *(f"{place} {folder}" for place, folder in folders.items()))
        return
    paths = [str(cache.local(file)) for file in rows.needed(name, lang, split)]
    if registry.dataset(name).invented:
        paths += [str(path) for path in toyrefuse.files(lang)]
    if lang not in registry.dataset(name).languages:
        paths.append(str(own_translations.path(name, lang)))
    _print(as_json, paths, *paths)


@app.command()
def translate(
    dataset: Annotated[str, typer.Option("--dataset", help="The data set to translate.")],
    to: Annotated[str, typer.Option("--to", help="Languages with commas between: da,el,ga.")],
    model: Annotated[str, typer.Option("--model", help="A seq2seq model, by name or folder.")],
    batch_size: Annotated[int, count_option("--batch-size", help="Prompts at once.")] = 16,
    split: Annotated[str | None, typer.Option("--split", help="One split; all by default.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder for DATASET/LANG.jsonl.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Translate a data set's English prompts; interrupted, it goes on where it stopped."""
    from polyrefuse_tasks.data import translation

    tasks: dict[str, Any] = {}
    with _progress(as_json, unit="rows") as progress:

        def advance(language: str, done: int, total: int) -> None:
            if language not in tasks:
                tasks[language] = progress.add_task(f"{dataset}/{language}", total=total)
            progress.update(tasks[language], completed=done)

        files = translation.translate(
            dataset,
            [language.strip() for language in to.split(",")],
            model,
            batch_size=batch_size,
            split=split,
            output=output,
            progress=advance,
        )
    lines = (
        f"{file.path} has {file.rows} rows"
        + (f"; {file.left_out} came out empty and are left out" if file.left_out else "")
        for file in files
    )
    _print(as_json, [asdict(file) | {"path": str(file.path)} for file in files], *lines)


class _Download:
    """pooch's HTTP downloader with a bar of its own, removed when the file is here."""

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
    """What pooch expects of a progress bar (its docs, "Using custom progress bars"), in rich."""

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
        """pooch calls it before the file is checked; the bar is removed after."""


def _files(names: list[str] | None, lang: str | None) -> list[File]:
    chosen = names or list(registry.datasets())
    if lang is None:
        wanted = [(name, spoken) for name in chosen for spoken in registry.dataset(name).languages]
    else:
        speakers = [name for name in chosen if names or lang in rows.languages(name)]
        wanted = [(name, lang) for name in speakers or chosen]
    files = (file for name, spoken in wanted for file in rows.needed(name, spoken, None))
    return list(dict.fromkeys(files))


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
        for name in names or registry.datasets()
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

    # Paths and sums are to be copied: no wrapping of plain lines, no highlighting.
    console = Console(highlight=False, soft_wrap=True)
    for line in lines:
        console.print(line, markup=False)
