"""Data sets of one's own: `datasets/NAME.json`, and the files of rows that it names.

Rows are in one file for each kind, split and language, in a folder named by the checksum of all of
them. They are written first and the manifest last, by a rename: whoever reads it finds all that it
names, with its sha256. A set with harmful and harmless rows is two data sets for everything else,
`NAME_harmful` and `NAME_harmless`; one with rows of one kind is `NAME`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from polyrefuse_shared.drafts import alone
from polyrefuse_shared.log import warn_once
from polyrefuse_shared.reading import parse_json, read_bytes
from polyrefuse_shared.writing import CannotWrite, cannot_write, write_whole
from polyrefuse_tasks.data import cache
from polyrefuse_tasks.data.errors import BrokenData
from polyrefuse_tasks.data.registry import Dataset, File

FOLDER = "datasets"
PATIENCE = 60.0
"""Seconds to wait while another process adds the same name."""

SCHEMA = 1
"""Version of the manifest; a new field is a new version."""

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
"""A name that is one in a task's name, a file's and a command line."""

AT_MOST = 2**28
"""Bytes of a file of rows, at most."""

SPLITS = ("train", "val", "test")

KINDS: dict[bool, str] = {True: "harmful", False: "harmless"}
"""Whether a model should refuse -> what the rows are called."""


@dataclass(frozen=True)
class OwnRow:
    """One prompt of a data set of one's own.

    Attributes:
        id: the same of a prompt and its translations.
        prompt: what is asked.
        language: its code.
        harmful: whether a model should refuse.
        category: None where nobody names one.
        pair: what the harmful and the harmless prompt of a pair have in common; None without.
        split: one of `SPLITS`.
    """

    id: str
    prompt: str
    language: str
    harmful: bool
    category: str | None = None
    pair: str | None = None
    split: str = "test"


@dataclass(frozen=True)
class OwnSet:
    """A data set of one's own, as its manifest says.

    Attributes:
        name: what it was added as.
        files: of its rows.
        kinds: of the rows of each file: whether they are harmful.
    """

    name: str
    files: tuple[File, ...]
    kinds: tuple[bool, ...]

    @property
    def halves(self) -> dict[str, bool]:
        """Name of each data set that it is for everything else -> whether its rows are harmful."""
        return {half_name(self.name, kind, set(self.kinds)): kind for kind in _sorted(self.kinds)}

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        """The harmful half, then the harmless one; of one kind it alone."""
        return tuple(
            Dataset(
                name=half,
                about=f"{self.name}, added by you: {KINDS[harmful]} prompts",
                harmful=harmful,
                licence="your own",
                citation="your own",
                files=tuple(file for file in self.files if file.dataset == half),
                stand_in={},
                matched_in=None,
                contrast_set=self.name,
                own=True,
            )
            for half, harmful in self.halves.items()
        )


def half_name(name: str, harmful: bool, kinds: set[bool]) -> str:
    """What the rows of one kind are called in a set that has rows of these kinds."""
    return f"{name}_{KINDS[harmful]}" if len(kinds) > 1 else name


def reserved_names(name: str) -> tuple[str, ...]:
    """Every name that a set may come to have with other rows."""
    return (name, *(f"{name}_{kind}" for kind in KINDS.values()))


def manifest_path(name: str) -> Path:
    """Where the manifest of a set is, whether it is there or not."""
    return cache.home() / FOLDER / f"{name}.json"


def sets() -> tuple[OwnSet, ...]:
    """Every data set of one's own, sorted; one that cannot be used costs a warning.

    Raises:
        MissingData: the mirror is no folder.
    """
    found = []
    for path in sorted((cache.home() / FOLDER).glob("*.json")):
        if NAME.fullmatch(path.stem):
            try:
                found.append(read_set(path.stem))
            except BrokenData as error:
                warn_once(f"The data set {path.stem} is left out: {error}")
    return tuple(found)


def read_set(name: str) -> OwnSet:
    """One set, by its manifest.

    Raises:
        BrokenData: the manifest cannot be read, or is none.
    """
    path = manifest_path(name)
    again = f"add the data set again with `polyrefuse data add {name} FILE --replace`"
    try:
        document = parse_json(read_bytes(path, AT_MOST))
        if document["schema"] != SCHEMA:
            raise BrokenData(
                f"{path} has schema {document['schema']!r}, and this version reads {SCHEMA}: "
                f"{again}, or install the version that wrote it."
            )
        entries = [_File(**entry) for entry in document["files"]]
        if not entries or not all(entry.fits(name) for entry in entries):
            raise ValueError
    except OSError as error:
        raise BrokenData(f"{path} cannot be read ({error.strerror}): {again}.") from None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, BrokenData):
            raise
        raise BrokenData(f"{path} is no manifest of a data set: {again}.") from None
    kinds = {entry.harmful for entry in entries}
    return OwnSet(
        name,
        tuple(
            File(
                path=entry.path,
                dataset=half_name(name, entry.harmful, kinds),
                split=entry.split,
                languages=(entry.language,),
                repository=None,
                upstream="",
                sha256=entry.sha256,
            )
            for entry in entries
        ),
        tuple(entry.harmful for entry in entries),
    )


def write_set(name: str, rows: Sequence[OwnRow], *, replace: bool = False) -> tuple[OwnSet, bool]:
    """Write a set into the mirror, or into the cache without one.

    Args:
        name: of the set, which matches `NAME`.
        rows: at least one, in the order in which they are asked.
        replace: take the place of another set of that name.

    Returns:
        The set, and whether anything was written: the same rows are there already otherwise, and
        their files have the right sums. A file that is missing or has another sum is written again.

    Raises:
        CannotWrite: the disk refuses, or another set of that name is there.
        BrokenData: what is there cannot be read, and is not to be replaced.
        Busy: another process goes on adding that name.
    """
    place = manifest_path(name).with_name(f".adding-{name}")
    with ExitStack() as stack:
        try:
            # Of two processes the second has to see what the first has written.
            stack.enter_context(alone(place, patience=PATIENCE))
        except OSError as error:
            raise cannot_write(place, error) from None
        return _write_set(name, rows, replace)


def _write_set(name: str, rows: Sequence[OwnRow], replace: bool) -> tuple[OwnSet, bool]:
    texts = _texts(rows)
    whole = hashlib.sha256()
    for label, text in texts.items():
        whole.update(f"{label}\0".encode() + text)
    folder = f"{FOLDER}/{name}/{whole.hexdigest()[:16]}"
    files = [
        _File(
            path=f"{folder}/{'_'.join(label)}.jsonl",
            harmful=label[0] == KINDS[True],
            split=label[1],
            language=label[2],
            rows=text.count(b"\n"),
            sha256=hashlib.sha256(text).hexdigest(),
        )
        for label, text in texts.items()
    ]
    before = _files_before(name, replace)
    same = before == tuple(file.path for file in files)
    if before and not same and not replace:
        raise CannotWrite(
            f"The data set {name} is there with other rows ({manifest_path(name)}); choose another "
            "name, or replace it with --replace: earlier results of it are then of other prompts."
        )
    # A folder is named by its rows, so that what differs in it is damage, whoever names it.
    damaged = [file for file in files if not _is_whole(file)]
    if same and not damaged:
        return read_set(name), False
    for file, text in zip(files, texts.values(), strict=True):
        if file in damaged:
            write_whole(cache.home() / file.path, text)
    document = {"schema": SCHEMA, "name": name, "files": [asdict(file) for file in files]}
    write_whole(manifest_path(name), json.dumps(document, indent=1) + "\n")
    for older in {Path(path).parent for path in before} - {Path(folder)}:
        # Nothing names it any more; what cannot be removed is in nobody's way.
        shutil.rmtree(cache.home() / older, ignore_errors=True)
    return read_set(name), True


def read_rows(path: Path) -> list[OwnRow]:
    """The rows of a file that `write_set` wrote and whose checksum is right.

    Raises:
        BrokenData: it is none of this version.
    """
    try:
        lines = read_bytes(path, AT_MOST).splitlines()
        return [OwnRow(**parse_json(line)) for line in lines]
    except OSError as error:
        raise BrokenData(f"{path} cannot be read ({error.strerror}): mend or add it.") from None
    except (ValueError, TypeError):
        raise BrokenData(f"{path} holds no rows of a data set: add it again.") from None


@dataclass(frozen=True)
class _File:
    """An entry of `files` in a manifest."""

    path: str
    harmful: bool
    split: str
    language: str
    rows: int
    sha256: str

    def fits(self, name: str) -> bool:
        """Whether it is an entry that `write_set` may have written."""
        inside = re.fullmatch(rf"{FOLDER}/{name}/[0-9a-f]{{16}}/[\w.-]+\.jsonl", self.path)
        return (
            inside is not None
            and isinstance(self.harmful, bool)
            and self.split in SPLITS
            and isinstance(self.language, str)
            and isinstance(self.sha256, str)
        )


def _is_whole(file: _File) -> bool:
    """Whether its rows are there with the right sum."""
    try:
        content = read_bytes(cache.home() / file.path, AT_MOST)
    except (OSError, ValueError):
        return False
    return hashlib.sha256(content).hexdigest() == file.sha256


def _files_before(name: str, replace: bool) -> tuple[str, ...]:
    if not manifest_path(name).exists():
        return ()
    try:
        return tuple(file.path for file in read_set(name).files)
    except BrokenData:
        if not replace:
            raise
        return ()


def _texts(rows: Sequence[OwnRow]) -> Mapping[tuple[str, str, str], bytes]:
    """Kind, split and language -> the content of their file, harmful rows first."""
    groups: defaultdict[tuple[str, str, str], list[OwnRow]] = defaultdict(list)
    for row in rows:
        groups[KINDS[row.harmful], row.split, row.language].append(row)
    return {
        label: "".join(f"{json.dumps(asdict(row), ensure_ascii=False)}\n" for row in group).encode()
        for label, group in sorted(groups.items(), key=lambda item: _order(item[0]))
    }


def _order(label: tuple[str, str, str]) -> tuple[str, int, str]:
    kind, split, language = label
    return kind, SPLITS.index(split), language


def _sorted(kinds: Sequence[bool]) -> Iterator[bool]:
    """Harmful first."""
    yield from sorted(set(kinds), reverse=True)
