"""Reading files that others wrote: only regular files of a bounded size, and JSON.

Every fault of a file is an `OSError` whose `strerror` describes it, and every fault of JSON is a
`ValueError` with a message of one line, so that a reader needs only two `except` clauses.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import reprlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

MOST_DEPTH = 200
"""The greatest depth of lists and objects in a JSON document. Code that walks through a document
does it by recursion, and Python allows about 1,000 levels of everything together."""

_TOO_DEEP = "it is nested too deeply"


@contextmanager
def regular_file(path: Path, at_most: int) -> Iterator[BinaryIO]:
    """Open a regular file for reading, without ever waiting for a pipe or a device.

    Args:
        path: the file.
        at_most: the largest size that is read, in bytes.

    Raises:
        OSError: the file is missing, cannot be opened, is not a regular file, or is larger.
    """
    try:
        # Opening a device may have effects, and opening a pipe waits for a writer.
        _require_regular(os.stat(path), path, at_most)
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except ValueError:
        raise OSError(errno.EINVAL, "its name holds a NUL byte", str(path)) from None
    with open(descriptor, "rb") as file:
        # The file may have been replaced since it was checked.
        _require_regular(os.fstat(descriptor), path, at_most)
        yield file


def read_bytes(path: Path, at_most: int) -> bytes:
    """Return the content of a regular file of at most `at_most` bytes.

    Raises:
        OSError: as `regular_file`.
    """
    with regular_file(path, at_most) as file:
        # The file may grow while it is read.
        return file.read(at_most)


def folder_sha256(folder: Path) -> str:
    """Return a checksum of the names and contents of a folder's files, 16 hex digits.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(f"{path.name}\0".encode())
        with open(path, "rb") as file:
            while block := file.read(2**22):
                digest.update(block)
    return digest.hexdigest()[:16]


class RepeatedKey(ValueError):
    """An object in a JSON document has a key twice, and a reader would drop one of the values."""


def parse_json(text: bytes | str, *, finite: bool = False, unique: bool = False) -> Any:
    """Return the value of a JSON document, which can be written in UTF-8 again.

    Args:
        text: the document.
        finite: refuse NaN and infinities, which JSON does not have and Python's reader accepts.
        unique: refuse objects that have a key twice.

    Raises:
        RepeatedKey: with `unique`, an object has a key twice.
        ValueError: as `load_json`, or the document contains half of a surrogate pair, which UTF-8
            cannot encode.
    """
    decoded = _decoded(text)
    document = load_json(decoded, finite=finite, unique=unique)
    # In a text that was decoded, only an escape can stand for half of a pair.
    if "\\ud" in decoded.lower():
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it holds half of a surrogate pair") from None
    return document


def load_json(text: bytes | str, *, finite: bool = False, unique: bool = False) -> Any:
    """Return the value of a JSON document, with any halves of surrogate pairs.

    Args:
        text: the document.
        finite, unique: as for `parse_json`.

    Raises:
        RepeatedKey: as for `parse_json`.
        ValueError: the text is not JSON, or is nested more than `MOST_DEPTH` levels deep.
    """
    how: dict[str, Any] = {"parse_float": _finite, "parse_constant": _finite} if finite else {}
    if unique:
        how["object_pairs_hook"] = _without_repetition
    decoded = _decoded(text)
    try:
        document = json.loads(decoded, **how)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    # Counting brackets is quick, and a document with fewer brackets cannot be deeper.
    if decoded.count("[") + decoded.count("{") > MOST_DEPTH and _is_deep(document):
        raise ValueError(_TOO_DEEP)
    return document


def _decoded(text: bytes | str) -> str:
    # `json.loads` lets halves of surrogate pairs through.
    return text.decode(json.detect_encoding(text)) if isinstance(text, bytes) else text


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise RepeatedKey(f"it has the key {reprlib.repr(key)} twice")
        found[key] = value
    return found


def _is_deep(document: Any) -> bool:
    level = [document]
    for _ in range(MOST_DEPTH):
        level = [
            below
            for value in level
            for below in (value.values() if isinstance(value, dict) else value)
            if isinstance(below, (dict, list))
        ]
        if not level:
            return False
    return True


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"it holds {text}, which is not a finite number")
    return number


def _require_regular(status: os.stat_result, path: Path, at_most: int) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    if status.st_size > at_most:
        limit = f"{at_most / 2**20:.3g} MiB"
        raise OSError(errno.EFBIG, f"it is larger than {limit}", str(path))
