"""The user's own datasets: the manifest `datasets/NAME.json`, and the files of rows that it names.

Rows are in one file for each kind, split and language, in a folder that is named by the checksum of
all of them. The rows are written first and the manifest last, by a rename, so a reader of the
manifest finds every file that it names, with its sha256. All other code sees a set with harmful and
harmless rows as two datasets, `NAME_harmful` and `NAME_harmless`, and a set of one kind as `NAME`.
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
"""How long to wait, in seconds, while another process adds a dataset of the same name."""

SCHEMA = 1
"""Version of the manifest; a new field is a new version."""

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
"""The form of a name that is valid in the name of a task, in a file name and on a command line."""

AT_MOST = 2**28
"""The largest size of a file of rows, in bytes."""

SPLITS = ("train", "val", "test")

KINDS: dict[bool, str] = {True: "harmful", False: "harmless"}
"""Whether a model should refuse -> the name of this kind of rows."""


@dataclass(frozen=True)
class OwnRow:
    """One prompt of one of the user's own datasets.

    Attributes:
        id: the name that a prompt shares with its translations.
        prompt: the text of the prompt.
        language: the code of its language.
        harmful: whether a model should refuse it.
        category: any text of the user, or None.
        pair: the name that the harmful and the harmless prompt of a pair share, or None.
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
    """One of the user's own datasets, as its manifest describes it.

    Attributes:
        name: the name under which it was added.
        files: the files of its rows.
        kinds: for each file, whether its rows are harmful.
    """

    name: str
    files: tuple[File, ...]
    kinds: tuple[bool, ...]

    @property
    def halves(self) -> dict[str, bool]:
        """The name of each dataset that it forms -> whether the rows are harmful."""
        return {half_name(self.name, kind, set(self.kinds)): kind for kind in _sorted(self.kinds)}

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        """The harmful half and then the harmless half, each only if it has rows."""
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
    """Return the name of the rows of one kind in a set that has rows of these kinds."""
    return f"{name}_{KINDS[harmful]}" if len(kinds) > 1 else name


def reserved_names(name: str) -> tuple[str, ...]:
    """List all names that a set of this name may use, whatever rows it has."""
    return (name, *(f"{name}_{kind}" for kind in KINDS.values()))


def manifest_path(name: str) -> Path:
    """Return the path of the manifest of a set, whether or not it exists."""
    return cache.home() / FOLDER / f"{name}.json"


def sets() -> tuple[OwnSet, ...]:
    """Read all of the user's own datasets, sorted; a warning names one that cannot be used.

    Raises:
        MissingData: the mirror is not a folder.
    """
    found = []
    for path in sorted((cache.home() / FOLDER).glob("*.json")):
        if NAME.fullmatch(path.stem):
            try:
                found.append(read_set(path.stem))
            except BrokenData as error:
                warn_once(f"The dataset {path.stem} is left out: {error}")
    return tuple(found)


def read_set(name: str) -> OwnSet:
    """Read one set by its manifest.

    Raises:
        BrokenData: the file cannot be read or is not a manifest.
    """
    path = manifest_path(name)
    again = f"add the dataset again with `polyrefuse data add {name} FILE --replace`"
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
        raise BrokenData(f"{path} is not the manifest of a dataset: {again}.") from None
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
    """Write a set into the mirror, or into the cache if there is no mirror.

    Args:
        name: the name of the set, which matches `NAME`.
        rows: at least one row, in the order in which they are asked.
        replace: whether to replace another set of that name.

    Returns:
        The set, and whether anything was written. Nothing is written if the same rows exist and
        their files have the right checksums. A missing or damaged file is written again.

    Raises:
        CannotWrite: the files cannot be written, or another set of that name exists.
        BrokenData: the existing set cannot be read, and `replace` is not set.
        Busy: another process is still adding that name.
    """
    place = manifest_path(name).with_name(f".adding-{name}")
    with ExitStack() as stack:
        try:
            # The second of two processes has to see what the first has written.
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
            f"The dataset {name} already exists with other rows ({manifest_path(name)}): choose "
            "another name, or replace it with --replace. Earlier results then have other prompts."
        )
    # A folder is named by the checksum of its rows, so a different file in it is damaged.
    damaged = [file for file in files if not _is_whole(file)]
    if same and not damaged:
        return read_set(name), False
    for file, text in zip(files, texts.values(), strict=True):
        if file in damaged:
            write_whole(cache.home() / file.path, text)
    document = {"schema": SCHEMA, "name": name, "files": [asdict(file) for file in files]}
    write_whole(manifest_path(name), json.dumps(document, indent=1) + "\n")
    for older in {Path(path).parent for path in before} - {Path(folder)}:
        # Nothing refers to the folder any more, so leftovers do no harm.
        shutil.rmtree(cache.home() / older, ignore_errors=True)
    return read_set(name), True


def read_rows(path: Path) -> list[OwnRow]:
    """Read the rows of a file that `write_set` wrote and whose checksum is right.

    Raises:
        BrokenData: the file cannot be read, or another version wrote it.
    """
    try:
        lines = read_bytes(path, AT_MOST).splitlines()
        return [OwnRow(**parse_json(line)) for line in lines]
    except OSError as error:
        raise BrokenData(
            f"{path} cannot be read ({error.strerror}): correct its permissions, or add the "
            "dataset again."
        ) from None
    except (ValueError, TypeError):
        raise BrokenData(f"{path} holds no rows of a dataset: add the dataset again.") from None


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
        """Return whether `write_set` may have written this entry."""
        inside = re.fullmatch(rf"{FOLDER}/{name}/[0-9a-f]{{16}}/[\w.-]+\.jsonl", self.path)
        return (
            inside is not None
            and isinstance(self.harmful, bool)
            and self.split in SPLITS
            and isinstance(self.language, str)
            and isinstance(self.sha256, str)
        )


def _is_whole(file: _File) -> bool:
    """Return whether the file exists with the right checksum."""
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
    """Map kind, split and language to the content of their file, harmful rows first."""
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
    """Yield each kind once, harmful first."""
    yield from sorted(set(kinds), reverse=True)
