"""Write and read the folder of an artifact: tensors, JSON documents and pictures.

What the files of an artifact are called and what they hold is up to the module of its kind
(`directions.artifact`, `mcd.artifact`).
"""

from __future__ import annotations

import hashlib
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
"""The largest size of an artifact's JSON file, in bytes."""

TENSORS_AT_MOST = 2**33
"""The largest size of an artifact's safetensors file, in bytes."""

METADATA = "metadata.json"
"""The document that says how an artifact was made; every artifact has one."""

SUMS = "files_sha256"
"""The entry of the metadata that maps the name of each safetensors file to its sha256."""


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a draft of `folder` to write into, as `writing.whole_folder` does.

    If the disk is full, safetensors raises an error of its own. It is turned into an OSError here.

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
    """Write a new folder, completely or not at all.

    Args:
        folder: must not exist.
        tensors: name of a safetensors file -> the tensors in it, by name.
        documents: name of a JSON file -> its content.
        pictures: name of a PNG file -> its content.
        allow_nan: whether documents may hold NaN, which most JSON readers outside Python refuse.

    Raises:
        CannotWrite: `folder` exists already, or cannot be written.
        ValueError: a document holds NaN that is not allowed.
    """
    from safetensors.torch import save

    contents = {name: save(dict(named)) for name, named in (tensors or {}).items()}
    documents = dict(documents or {})
    if METADATA in documents:
        sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        documents[METADATA] = documents[METADATA] | {SUMS: sums}
    with whole_folder(folder) as draft:
        for name, content in contents.items():
            (draft / name).write_bytes(content)
        for name, document in documents.items():
            text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=allow_nan)
            (draft / name).write_text(text, encoding="utf-8")
        for name, picture in (pictures or {}).items():
            (draft / name).write_bytes(picture)


@contextmanager
def damage_as(mistake: type[UserError], folder: Path, *, kind: str, remedy: str) -> Iterator[None]:
    """Turn any error that reading `folder` can raise into a `mistake` with one sentence.

    Args:
        mistake: the type of error to raise.
        folder: the folder that is read.
        kind: what the folder should be, such as "direction artifact".
        remedy: what to do about a damaged one, such as "extract it again".
    """
    try:
        yield
    except FileNotFoundError as missing:
        raise mistake(
            f"{folder} is not a {kind}: it has no {Path(missing.filename).name}."
        ) from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as damage:
        raise mistake(f"{folder} is not a {kind}, or is damaged: {damage}; {remedy}.") from None


def read_tensors(file: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, by name.

    Args:
        file: the file.
        sha256: the checksum that the file has to have, if it is known.

    Raises:
        FileNotFoundError: there is no such file. Unlike safetensors' error, this one names it.
        SafetensorError, OSError: the file cannot be read.
        ValueError: the file has another checksum.
    """
    from safetensors.torch import load

    content = read_bytes(file, TENSORS_AT_MOST)
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise ValueError(
            f"{file.name} was changed after it was written (its sha256 is {found[:12]}..., not "
            f"{sha256[:12]}...)"
        )
    return load(content)


def read_document(file: Path) -> Any:
    """Read a JSON file.

    Raises:
        OSError, ValueError: it cannot be read, or is not JSON.
    """
    return parse_json(read_bytes(file, DOCUMENT_AT_MOST))


def read(folder: Path, tensors: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors of an artifact's file, and the artifact's metadata.

    Older artifacts have no checksum, and are read without a check.

    Args:
        folder: the artifact.
        tensors: the name of the safetensors file.

    Raises:
        SafetensorError, OSError, ValueError: as in `read_tensors` and `read_document`, or the
            metadata is not an object, or its checksums leave that file out.
    """
    with regular_file(folder / tensors, TENSORS_AT_MOST):
        pass  # If both files are missing, this one is named.
    metadata = read_document(folder / METADATA)
    if not isinstance(metadata, dict):
        raise ValueError(f"{METADATA} is not an object")
    sums = metadata.pop(SUMS, None)
    if sums is not None and not (isinstance(sums, dict) and isinstance(sums.get(tensors), str)):
        raise ValueError(f"{METADATA} has no checksum of {tensors} in its {SUMS}")
    sha256 = None if sums is None else sums[tensors]
    return read_tensors(folder / tensors, sha256), metadata
