"""Read the YAML of phrase files, which others may have written, in a time linear in its length.

YAML may refer to a part again, and that part may refer to others, so a page of YAML can stand for
more than fits into memory. Deep nesting may end the process without a message, because the reader
is recursive. Both are recognised by the events of the parser, before anything is built.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.reading import read_bytes

AT_MOST = 2**20
"""The largest size of a phrase file, in bytes; the largest bundled one has 35,110."""

MOST_PARTS = 20_000
"""The most texts, lists and mappings in a phrase file, where repeated parts count again; bundled
files have up to 1,000."""

DEEPEST = 8
"""The most lists and mappings around a text; bundled files have three."""

LONGEST = 1_000
"""The longest text, in characters; the longest in the bundled files has 514."""


class BadPhraseFile(UserError):
    """A phrase file cannot be used; the message names the file and the fault."""


def read_phrase_yaml(path: Path) -> Any:
    """Read the content of a phrase file, ten times faster if libyaml is installed.

    Raises:
        BadPhraseFile: the file is not a regular file, cannot be read, is too large, is not YAML in
            UTF-8, is nested too deeply, repeats a part within itself, has a text that is too long,
            or stands for too many parts.
    """
    try:
        text = read_bytes(path, AT_MOST).decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_yaml(path, error) from None
    except OSError as error:
        raise BadPhraseFile(
            f"{path} cannot be read ({error.strerror}); a phrase file is a text file of at most "
            f"{AT_MOST // 2**20} MiB"
        ) from None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check(path, yaml.parse(text, Loader=loader))
        return yaml.load(text, Loader=loader)
    # An invalid date such as 2020-13-40 is a ValueError of Python.
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise _not_yaml(path, error) from None


def _check(path: Path, events: Iterable[yaml.Event]) -> None:
    """Refuse a file by the events of its parser.

    Raises:
        BadPhraseFile: see `read_phrase_yaml`.
    """
    # The number of parts that an anchor stands for; None until it is closed.
    named: dict[str | None, int | None] = {}
    open_ones: list[tuple[str | None, int]] = []
    parts = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            size = named.get(event.anchor, 0)
            if size is None:
                raise BadPhraseFile(f"{path}: *{event.anchor} repeats a part within itself")
            parts += size
        elif isinstance(event, yaml.NodeEvent):
            if event.anchor is not None:
                named[event.anchor] = None
            if isinstance(event, yaml.ScalarEvent):
                length = len(event.value)
                if length > LONGEST:
                    raise BadPhraseFile(
                        f"{path}: {event.value[:20]!r}... has {length} characters; a text of a "
                        f"phrase file has at most {LONGEST}"
                    )
                parts += 1
                if event.anchor is not None:
                    named[event.anchor] = 1
            else:
                open_ones.append((event.anchor, parts))
                parts += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_ones.pop()
            if anchor is not None:
                named[anchor] = parts - before
        if len(open_ones) > DEEPEST:
            raise BadPhraseFile(
                f"{path}: is nested {len(open_ones)} levels deep or more; a phrase file has at "
                f"most {DEEPEST}"
            )
        if parts > MOST_PARTS:
            raise BadPhraseFile(
                f"{path}: stands for {parts} texts and lists or more, where repeated parts count "
                f"again; a phrase file may hold at most {MOST_PARTS}"
            )


def _not_yaml(path: Path, error: Exception) -> BadPhraseFile:
    reason = " ".join(str(error).split())
    return BadPhraseFile(f"{path}: not a YAML file in UTF-8 ({reason})")
