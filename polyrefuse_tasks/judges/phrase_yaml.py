"""Reads the YAML of phrase files, which others may have written, without more work than it is long.

YAML may name a part again, and a part that is named so may name others: a page of it can stand for
more than fits any memory. A reader calls itself for what is nested, until the process ends without
a word. Both are told by the marks of the file alone, before anything is built.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.reading import read_bytes

AT_MOST = 2**20
"""Bytes of a phrase file; the longest of the bundled ones has 35,071."""

MOST_PARTS = 20_000
"""Texts, lists and mappings in a phrase file, what it names again counted again; the bundled ones
have up to 1,000."""

DEEPEST = 8
"""Lists and mappings around a text; a phrase file has three."""

LONGEST = 1_000
"""Characters of a text; the longest of the bundled ones has 514."""


class BadPhraseFile(UserError):
    """A phrase file that cannot be used, with its name and what is wrong in it."""


def read_phrase_yaml(path: Path) -> Any:
    """What a phrase file holds, read ten times as fast where libyaml is installed.

    Raises:
        BadPhraseFile: it is no regular file, cannot be read or is too large, is not YAML in UTF-8,
            is nested too deeply, names a part within itself, has a text that is too long, or stands
            for too many parts.
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
    # A date that is none, as 2020-13-40, is a ValueError of Python's.
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise _not_yaml(path, error) from None


def _check(path: Path, events: Iterable[yaml.Event]) -> None:
    """Raises:
    BadPhraseFile: as `read_phrase_yaml`, of what the events of a file tell.
    """
    # How many parts an anchor stands for; None while it is not closed.
    named: dict[str | None, int | None] = {}
    open_ones: list[tuple[str | None, int]] = []
    parts = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            size = named.get(event.anchor, 0)
            if size is None:
                raise BadPhraseFile(f"{path}: *{event.anchor} names what it is a part of")
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
                f"{path}: stands for {parts} texts and lists or more, what it names again "
                f"included; a phrase file may hold at most {MOST_PARTS}"
            )


def _not_yaml(path: Path, error: Exception) -> BadPhraseFile:
    reason = " ".join(str(error).split())
    return BadPhraseFile(f"{path}: not a YAML file in UTF-8 ({reason})")
