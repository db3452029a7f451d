"""Prompts as rows with ids: rows in any language with the same id have the same English prompt."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from polyrefuse_tasks.data import (
    cache,
    catalogue,
    files,
    own_datasets,
    own_translations,
    registry,
    toyrefuse,
)
from polyrefuse_tasks.data.contrasts import pairs_by_type
from polyrefuse_tasks.data.errors import BrokenData, MissingData
from polyrefuse_tasks.data.registry import Dataset, File
from polyrefuse_tasks.languages import UnknownLanguage

MATCHED_SPLITS = ("train", "test")
"""The splits of PolyRefuse in which AdvBench and MaliciousInstruct find their translations."""


@dataclass(frozen=True)
class Row:
    """One prompt in one language.

    Attributes:
        id: `<dataset>/<index>`, or `<dataset>/<split>/<index>` if the dataset has several splits.
            The index has four digits, counts from 0 and is the row's place in the English file. In
            the user's own datasets it is `<dataset>/<id>`, with the user's id.
        prompt: the prompt, exactly as published.
        prompt_en: the prompt in English, exactly as published; None if one of the user's own
            datasets does not have it.
        language: the ISO 639-1 code of `prompt`.
        category: the category that the source gives, or None.
        source: the file of `prompt`, relative to the data folder: a key of `checksums`. For an
            invented dataset, which has no files, `<dataset>/<split>/<language>`.
        split: the split of the row. For AdvBench and MaliciousInstruct it is PolyRefuse's split,
            because directions are extracted from the prompts of its train split.
        harmful: whether a model should refuse the prompt.
        pair: `<contrast set>/<pair>`, which a harmful row shares with a harmless row of another
            dataset; None for a row without a partner.
    """

    id: str
    prompt: str
    prompt_en: str | None
    language: str
    category: str | None
    source: str
    split: str
    harmful: bool
    pair: str | None = None


def load(dataset: str, language: str = "en", split: str | None = "test") -> list[Row]:
    """Load the rows of a dataset in one language, in English order.

    Args:
        dataset: a name of `DATASETS`.
        language: one of `languages(dataset)`.
        split: a published split, or None for all. AdvBench and MaliciousInstruct publish one,
            `test`, and it is loaded whole, whatever split of PolyRefuse its rows are in.
            See `substituted_split` for the one file that is not published.

    Raises:
        UnknownDataset, UnknownLanguage, UnknownSplit: the name is unknown.
        MissingData: a file is neither here nor can it be fetched.
        WrongHash: a file differs from the published one.
        BrokenData: a file cannot be read. This includes the user's own translations.
    """
    source = catalogue.dataset(dataset)
    _require_language(source, language)
    if language not in source.languages:
        return _translated(source, language, split)
    splits = _splits(source, language, split)
    return [row for name in splits for row in _rows(source, language, name)]


def languages(dataset: str) -> tuple[str, ...]:
    """List the languages of a dataset, sorted, including those of the user's own translations.

    Raises:
        UnknownDataset: no dataset has this name.
    """
    published = catalogue.dataset(dataset).languages
    return tuple(sorted({*published, *own_translations.languages(dataset)}))


def substituted_split(dataset: str, language: str) -> str | None:
    """Return the split that replaces `test` if no test file is published, or None.

    PolyRefuse never published its Chinese harmless test file. `harmless` in `zh` therefore has the
    validation rows, with their own ids and `split`. They pair only with the validation rows of
    other languages.

    Raises:
        UnknownDataset: no dataset has this name.
    """
    return catalogue.dataset(dataset).stand_in.get(language)


def needed(dataset: str, language: str = "en", split: str | None = "test") -> list[File]:
    """List the files that `load` reads, each once.

    Raises:
        UnknownDataset, UnknownLanguage, UnknownSplit: the name is unknown.
    """
    source = catalogue.dataset(dataset)
    _require_language(source, language)
    spoken = language if language in source.languages else source.reference
    files = [
        file for name in _splits(source, spoken, split) for file in _needed(source, spoken, name)
    ]
    return list(dict.fromkeys(files))


def checksums(dataset: str, language: str = "en", split: str | None = "test") -> dict[str, str]:
    """Return the sha256 of each file that `load` reads, by path relative to the data folder.

    For an invented dataset it is the checksum of the generated rows, by their `Row.source`.

    Raises:
        UnknownDataset, UnknownLanguage, UnknownSplit: the name is unknown.
    """
    import pooch

    sums = {file.path: file.sha256 for file in needed(dataset, language, split)}
    if language not in catalogue.dataset(dataset).languages:
        own = own_translations.path(dataset, language)
        sums[own_translations.relative(dataset, language)] = pooch.file_hash(str(own), alg="sha256")
    elif catalogue.dataset(dataset).invented:
        prompts: defaultdict[str, list[str]] = defaultdict(list)
        for row in load(dataset, language, split):
            prompts[row.source].append(row.prompt)
        for name, made in prompts.items():
            text = json.dumps(made, ensure_ascii=False)
            sums[name] = hashlib.sha256(text.encode()).hexdigest()
    return sums


def _require_language(source: Dataset, language: str) -> None:
    own = own_translations.path(source.name, language)
    its_own = own_translations.languages(source.name)
    if language not in source.languages:
        if language not in its_own:
            raise UnknownLanguage(
                f"{source.name} has no language {language!r}: choose from "
                f"{', '.join(languages(source.name))}, or add a translation as {own}."
            )
    elif language in its_own:
        raise BrokenData(
            f"{own} would replace the published {language!r} of {source.name}, but your own "
            "translations never replace a published language: rename or remove the file."
        )


def _splits(source: Dataset, language: str, split: str | None) -> list[str]:
    """List the splits that are read for `split`, without those that have no file."""
    if split is not None:
        source.require_split(split)
    if source.own and split is None:
        return [name for name in source.splits if _has(source, name, language)]
    wanted = source.splits if split is None else (split,)
    stand_in = source.stand_in.get(language)
    return list(dict.fromkeys(stand_in if stand_in and s == "test" else s for s in wanted))


def _needed(source: Dataset, language: str, split: str) -> Iterator[File]:
    if source.invented:
        return
    if source.own:
        yield source.file(split, language)
        if _has(source, split, "en"):
            yield source.file(split, "en")
        return
    yield source.file(split, "en")
    if source.matched_in:
        for matched in MATCHED_SPLITS:
            yield from _needed(registry.dataset(source.matched_in), language, matched)
    else:
        yield source.file(split, language)


def _rows(source: Dataset, language: str, split: str) -> list[Row]:
    if source.invented:
        return _invented(source, language, split)
    if source.own:
        return _own(source, language, split)
    return (_matched if source.matched_in else _published)(source, language, split)


def _invented(source: Dataset, language: str, split: str) -> list[Row]:
    return [
        Row(
            id=_id(source, split, index),
            prompt=request.prompt(language),
            prompt_en=request.prompt("en"),
            language=language,
            category=toyrefuse.category(request.marker, request.forbidden),
            source=f"{source.name}/{split}/{language}",
            split=split,
            harmful=source.harmful,
        )
        for index, request in enumerate(toyrefuse.requests(source.harmful, split))
    ]


def _own(source: Dataset, language: str, split: str) -> list[Row]:
    file = source.file(split, language)
    english: dict[str, str] = {}
    if _has(source, split, "en"):
        of_english = own_datasets.read_rows(cache.local(source.file(split, "en")))
        english = {row.id: row.prompt for row in of_english}
    return [
        Row(
            id=f"{source.name}/{row.id}",
            prompt=row.prompt,
            prompt_en=english.get(row.id),
            language=language,
            category=row.category,
            source=file.path,
            split=split,
            harmful=source.harmful,
            pair=_pair_of(source, row.pair),
        )
        for row in own_datasets.read_rows(cache.local(file))
    ]


def _has(source: Dataset, split: str, language: str) -> bool:
    return any(file.split == split and language in file.languages for file in source.files)


def _pair_of(source: Dataset, pair: str | None) -> str | None:
    return None if pair is None else f"{source.contrast_set}/{pair}"


def _published(source: Dataset, language: str, split: str) -> list[Row]:
    english = _entries(source, source.file(split, "en"), "en")
    file = source.file(split, language)
    entries = _entries(source, file, language)
    pairs: list[str | None] = [None] * len(english)
    if source.contrast_set:
        pairs = pairs_by_type([entry.category for entry in english])
    return [
        Row(
            id=_id(source, split, index),
            prompt=entry.prompt,
            prompt_en=english[index].prompt,
            language=language,
            category=entry.category,
            source=file.path,
            split=split,
            harmful=source.harmful,
            pair=_pair_of(source, pairs[index]),
        )
        for index, entry in sorted(
            zip(_pair(file, entries, english), entries, strict=True), key=lambda pair: pair[0]
        )
    ]


def _pair(file: File, entries: list[files.Entry], english: list[files.Entry]) -> list[int]:
    """Return the index of the English row of each entry; equal English rows pair in order."""
    if all(entry.english is None for entry in entries):
        if len(entries) != len(english):
            raise BrokenData(
                f"{file.path} has {len(entries)} rows and the English file has {len(english)}, so "
                "they cannot be paired: fetch both again with `polyrefuse data fetch`."
            )
        return list(range(len(english)))
    places: defaultdict[str, list[int]] = defaultdict(list)
    for index in reversed(range(len(english))):
        places[english[index].prompt].append(index)
    try:
        return [places[entry.english or ""].pop() for entry in entries]
    except IndexError:
        raise BrokenData(
            f"{file.path} has a row whose English text is not in the English file: fetch both "
            "again with `polyrefuse data fetch`."
        ) from None


def _matched(source: Dataset, language: str, split: str) -> list[Row]:
    """Return the rows that PolyRefuse translated, by exact English text; in English all rows."""
    matches: dict[str, Row] = {}
    for matched in MATCHED_SPLITS:
        for row in _rows(registry.dataset(source.matched_in or ""), language, matched):
            # Some test prompts occur twice there: the translation of the first one is taken.
            matches.setdefault(str(row.prompt_en), row)
    file = source.file(split, "en")
    rows = []
    for index, entry in enumerate(_entries(source, file, "en")):
        match = matches.get(entry.prompt)
        if match is None and language != "en":
            continue
        rows.append(
            Row(
                id=_id(source, split, index),
                prompt=match.prompt if match else entry.prompt,
                prompt_en=entry.prompt,
                language=language,
                category=entry.category,
                source=file.path if language == "en" or match is None else match.source,
                split=match.split if match else split,
                harmful=source.harmful,
            )
        )
    return rows


def _translated(source: Dataset, language: str, split: str | None) -> list[Row]:
    every = {row.id: row.prompt for row in load(source.name, source.reference, None)}
    prompts = own_translations.read(own_translations.path(source.name, language), every)
    wanted = load(source.name, source.reference, split)
    rows = [
        Row(
            id=row.id,
            prompt=prompts[row.id],
            prompt_en=row.prompt_en,
            language=language,
            category=row.category,
            source=own_translations.relative(source.name, language),
            split=row.split,
            harmful=row.harmful,
            pair=row.pair,
        )
        for row in wanted
        if row.id in prompts
    ]
    if not rows:
        raise MissingData(
            f"{own_translations.path(source.name, language)} has no rows"
            f"{f' of split {split!r}' if split else ''}: run "
            f"`polyrefuse data translate --dataset {source.name} --to {language}`."
        )
    return rows


def _entries(source: Dataset, file: File, language: str) -> list[files.Entry]:
    entries = files.read(cache.resolve(file), language)
    return [entry for entry in entries if entry.harmful in (None, source.harmful)]


def _id(source: Dataset, split: str, index: int) -> str:
    within = f"{split}/" if len(source.splits) > 1 else ""
    return f"{source.name}/{within}{index:04d}"
