"""A folder with tensors, JSON documents and pictures: how every artifact is written and read.

What the files of an artifact are called and what has to be in them is the artifact's own matter
(`directions.artifact`, `mcd.artifact`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from polyrefuse_shared import writing
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.reading import parse_json, read_bytes, regular_file

if TYPE_CHECKING:
    from torch import Tensor

DOCUMENT_AT_MOST = 2**28
"""Bytes of an artifact's JSON file, at most."""

TENSORS_AT_MOST = 2**33
"""Bytes of an artifact's safetensors file, at most."""

METADATA = "metadata.json"
"""The document that says how an artifact came about; every artifact has one."""


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A draft of `folder` to write into, as `writing.whole_folder` gives it.

    safetensors raises an error of its own where the disk is full; here it counts as any other.

    Raises:
        CannotWrite: `folder` exists already, or cannot be written.
    """
    with writing.whole_folder(folder) as draft:
        try:
            yield draft
        except SafetensorError as error:
            raise OSError(str(error)) from error


def write(
    folder: Path,
    *,
    tensors: Mapping[str, Mapping[str, Tensor]] | None = None,
    documents: Mapping[str, Any] | None = None,
    pictures: Mapping[str, bytes] | None = None,
    allow_nan: bool = True,
) -> None:
    """Write a new folder, whole or not at all.

    Args:
        folder: must not exist.
        tensors: name of a safetensors file -> the tensors in it, by name.
        documents: name of a JSON file -> its content.
        pictures: name of a PNG file -> its content.
        allow_nan: whether documents may hold NaN, which other readers of JSON refuse.

    Raises:
        CannotWrite: `folder` exists already, or cannot be written.
        ValueError: a document holds NaN that is not allowed.
    """
    from safetensors.torch import save_file

    with whole_folder(folder) as draft:
        for name, named_tensors in (tensors or {}).items():
            save_file(dict(named_tensors), draft / name)
        for name, document in (documents or {}).items():
            text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=allow_nan)
            (draft / name).write_text(text, encoding="utf-8")
        for name, picture in (pictures or {}).items():
            (draft / name).write_bytes(picture)


@contextmanager
def damage_as(mistake: type[UserError], folder: Path, *, kind: str, remedy: str) -> Iterator[None]:
    """Raise `mistake`, with one sentence, for every way in which reading `folder` can fail.

    Args:
        kind: what the folder should be, such as "direction artifact".
        remedy: what to do about a damaged one, such as "extract it anew".
    """
    try:
        yield
    except FileNotFoundError as missing:
        raise mistake(f"{folder} is no {kind}: no {Path(missing.filename).name} in it.") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as damage:
        raise mistake(f"{folder} is no {kind}, or a damaged one: {damage}; {remedy}.") from None


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name.

    Raises:
        FileNotFoundError: there is no such file; the error has its name, safetensors' has not.
        SafetensorError, OSError: it cannot be read.
    """
    from safetensors.torch import load_file

    with regular_file(file, TENSORS_AT_MOST):
        return load_file(file)


def read_document(file: Path) -> Any:
    """The content of a JSON file.

    Raises:
        OSError, ValueError: it cannot be read, or is no JSON.
    """
    return parse_json(read_bytes(file, DOCUMENT_AT_MOST))


def read_metadata(folder: Path) -> dict[str, Any]:
    """How the artifact came about.

    Raises:
        OSError, ValueError: as `read_document`, or it is not an object.
    """
    metadata = read_document(folder / METADATA)
    if not isinstance(metadata, dict):
        raise ValueError(f"{METADATA} is not an object")
    return metadata
