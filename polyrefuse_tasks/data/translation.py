"""Write the user's own translations with a Hugging Face translation model.

Finished batches are kept beside the target in a `.partial` file, one line for each batch. A torn
last line is therefore exactly one lost batch, and a resumed run forms the same batches as an
uninterrupted one. The target appears complete, by a rename.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyrefuse_shared.drafts import alone, make_folder
from polyrefuse_shared.writing import cannot_write, write_whole
from polyrefuse_tasks.data import cache, catalogue, own_translations, registry, rows
from polyrefuse_tasks.data.errors import TranslationFailed
from polyrefuse_tasks.data.translation_models import Translator, language_code, load
from polyrefuse_tasks.languages import NAMES, UnknownLanguage

Progress = Callable[[str, int, int], None]
"""A function that is called with (language, finished rows, all rows) after every batch."""


@dataclass(frozen=True)
class Translation:
    """A finished file; `left_out` counts the rows that the model translated into nothing."""

    dataset: str
    language: str
    path: Path
    rows: int
    left_out: int
    model: str
    revision: str | None


def translate(
    dataset: str,
    languages: Iterable[str],
    model: str,
    *,
    batch_size: int = 16,
    split: str | None = None,
    output: Path | None = None,
    progress: Progress = lambda language, done, total: None,
) -> list[Translation]:
    """Translate the English prompts of a dataset, into one file for each language.

    Rows that a file or its `.partial` already has are not translated again.

    Args:
        dataset: the name of the dataset.
        languages: ISO 639-1 codes in which the dataset is not published.
        model: a sequence-to-sequence model of the Hugging Face hub, or a folder with one.
        batch_size: the number of prompts to translate at a time.
        split: the split to translate; None for all splits.
        output: the folder for `<dataset>/<lang>.jsonl`; by default the one that data is read from.
        progress: the function to call after each batch; see `Progress`.

    Raises:
        UnknownDataset, UnknownSplit, UnknownLanguage: the name is unknown.
        BrokenData: a file that exists cannot be used.
        TranslationFailed: a language is already published, the model cannot be loaded or cannot
            translate into the language, or a file was begun with another model or from other
            prompts.
        Busy: another process is translating the dataset into one of the languages.
    """
    wanted = list(dict.fromkeys(languages))
    source = catalogue.dataset(dataset)
    for language in wanted:
        _require_translatable(source, language)
    english = rows.load(dataset, "en", split)
    every = {row.id: row.prompt for row in rows.load(dataset, "en", None)}
    folder = (output or cache.home() / own_translations.FOLDER) / dataset
    _make(folder)
    with _alone_with(wanted, folder):
        translator = load(model)
        codes = [language_code(translator.tokenizer, language) for language in wanted]
        if len(wanted) > 1 and None in codes:
            raise TranslationFailed(
                f"{model} has no language codes, so it translates into one language only: "
                f"give one of {', '.join(wanted)}."
            )
        return [
            _translate_into(
                folder / f"{language}.jsonl",
                language,
                translator,
                english,
                every,
                batch_size,
                progress,
            )
            for language in wanted
        ]


def _require_translatable(source: registry.Dataset, language: str) -> None:
    if "en" not in source.languages:
        raise TranslationFailed(
            f"{source.name} has no English rows to translate, but only "
            f"{', '.join(source.languages)}: add it again with English rows."
        )
    if language not in NAMES:
        raise UnknownLanguage(
            f"{language!r} is not a language to translate into: choose from {', '.join(NAMES)}."
        )
    if language in source.languages:
        raise TranslationFailed(
            f"{source.name} is already published in {NAMES[language]} ({language!r}), which your "
            "own translation cannot replace: leave this language out."
        )


def _make(folder: Path) -> None:
    try:
        make_folder(folder)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise TranslationFailed(f"{folder} cannot be written: name another folder with --output.")


@contextmanager
def _alone_with(languages: Sequence[str], folder: Path) -> Iterator[None]:
    """Keep other processes, which may use another model, from the same files.

    Raises:
        Busy: another process is translating into one of the languages.
        CannotWrite: the folder cannot be written.
    """
    with ExitStack() as locks:
        try:
            for language in languages:
                locks.enter_context(alone(folder / f".translating-{language}", patience=0))
        except OSError as error:
            raise cannot_write(folder, error) from None
        yield


def _translate_into(
    target: Path,
    language: str,
    translator: Translator,
    english: list[rows.Row],
    every: dict[str, str],
    batch_size: int,
    progress: Progress,
) -> Translation:
    partial = target.with_name(f"{target.name}.partial")
    done = {row["id"]: row for row in (*_finished(target, every), *_batches_in(partial))}
    begun = partial if partial.exists() else target
    for row in done.values():
        if not own_translations.is_of(row, every.get(row["id"], "")):
            raise TranslationFailed(
                f"{begun} was made from other English prompts than {target.parent.name} has now: "
                "remove the file."
            )
        if (row.get("model"), row.get("revision")) != (translator.name, translator.revision):
            raise TranslationFailed(
                f"{begun} was made with {row.get('model') or 'an unnamed model'} (revision "
                f"{row.get('revision')}), not {translator.name} (revision "
                f"{translator.revision}): use that model, or remove the file."
            )
    # Rows of similar length waste no padding. The longest come first, to show early whether they
    # fit into memory.
    pending = sorted(
        (row for row in english if row.id not in done), key=lambda row: (-len(row.prompt), row.id)
    )
    progress(language, len(english) - len(pending), len(english))
    if pending or partial.exists():
        for start in range(0, len(pending), batch_size):
            asked = pending[start : start + batch_size]
            prompts = translator.translate([row.prompt for row in asked], "en", language)
            batch = [
                {
                    "id": row.id,
                    "prompt": prompt,
                    "english_sha256": own_translations.checksum(row.prompt),
                    "model": translator.name,
                    "revision": translator.revision,
                }
                for row, prompt in zip(asked, prompts, strict=True)
            ]
            _append(partial, batch)
            done.update((row["id"], row) for row in batch)
            progress(language, sum(row.id in done for row in english), len(english))
        kept = [row for row in done.values() if row["prompt"]]
        places = {row_id: place for place, row_id in enumerate(every)}
        _write(target, sorted(kept, key=lambda row: places[row["id"]]))
        partial.unlink(missing_ok=True)
    present = sum(bool(done[row.id]["prompt"]) for row in english)
    return Translation(
        dataset=target.parent.name,
        language=language,
        path=target,
        rows=present,
        left_out=len(english) - present,
        model=translator.name,
        revision=translator.revision,
    )


def _finished(target: Path, english: dict[str, str]) -> list[dict[str, Any]]:
    """Read and check the rows of an existing target."""
    if not target.is_file():
        return []
    own_translations.read(target, english)
    return [json.loads(line) for line in target.read_bytes().splitlines() if line.strip()]


def _batches_in(partial: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of every complete batch of an interrupted run."""
    if not partial.is_file():
        return
    for line in partial.read_bytes().splitlines():
        try:
            yield from json.loads(line)
        except ValueError:  # the batch that the interruption tore
            continue


def _append(partial: Path, batch: list[dict[str, Any]]) -> None:
    with partial.open("ab") as file:
        # The line break comes first, so that it also ends a torn line of an interrupted run.
        file.write(b"\n" + json.dumps(batch, ensure_ascii=False).encode())


def _write(target: Path, finished: list[dict[str, Any]]) -> None:
    write_whole(target, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in finished))
