"""What models and their adapters are called, so that no path of somebody's disk is published.

A name of the hub stays as it is. Of a path the last part is the name, whatever other models there
are: a baseline made today and results read tomorrow agree on it. Two models that would have one
name are refused, until a file of names tells them apart.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from polyrefuse_leaderboard.reading.identity import WEIGHTS
from polyrefuse_leaderboard.reading.runs import Run

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.reading import parse_json, read_bytes
from polyrefuse_tasks.saved_results.documents import printable
from polyrefuse_tasks.saved_results.folders import shown_folder

AT_MOST = 2**24
"""Bytes of a file of names, at most."""

LONGEST = 200
"""Characters of a name that a file gives, at most."""

Names = Mapping[str, str]
"""Path of a model or an adapter, or name on the hub -> the name that is shown."""

NO_NAMES: Names = MappingProxyType({})
"""Every model is called by the last part of its path."""


class GivenNames(dict[str, str]):
    """The names of a file, and those that it gives for the results of some folders alone.

    Attributes:
        within: folder of results -> names.
    """

    def __init__(self, names: Names, within: Mapping[str, Names]) -> None:
        super().__init__(names)
        self.within = within


_PATH = re.compile(r"[/~\\]|\.{1,2}([/\\]|$)|[A-Za-z]:[/\\]|[^/]*\\|[^/]*/[^/]*/|[^/]*/$")
"""How what is no name of the hub begins: absolute or relative, Windows' own, of many parts."""

_IN_TEXT = re.compile(r"(?<![\w./:~\\-])(?:~|[A-Za-z]:)?(?:[/\\][^\s/\\'\"`,;:()<>|]+){2,}[/\\]?")
"""A path within a sentence; not what follows the colon of an address."""

_CHANGE = re.compile(rf"(?:^|(?<= ))({'|'.join(WEIGHTS)})=(.*?)(?= (?:{'|'.join(WEIGHTS)})=|$)")
"""An argument in a revision that changes the weights, as `identity.revision` writes it."""


class BadNames(UserError):
    """A file of names that cannot be used."""


class SameName(UserError):
    """Two models that would be called the same."""


def read_names(file: Path) -> GivenNames:
    """The names of --model-names, a JSON object.

    Raises:
        BadNames: it cannot be read, is no such object, or a name in it cannot be shown.
    """
    wanted = 'a JSON object such as {"/models/a/chat": "chat-a"}'
    try:
        names = parse_json(read_bytes(file, AT_MOST))
    except OSError as error:
        raise BadNames(f"{file} cannot be read ({error.strerror}); name {wanted}.") from None
    except ValueError as error:
        raise BadNames(f"{file} is not JSON ({error}); make it {wanted}.") from None
    if not isinstance(names, dict):
        raise BadNames(f"{file} is not an object; make it {wanted}.")
    folders = {path: inside for path, inside in names.items() if isinstance(inside, dict)}
    everywhere = {path: name for path, name in names.items() if path not in folders}
    for given in (everywhere, *folders.values()):
        _require_names(given, file)
    return GivenNames(
        {_plain(path): name for path, name in everywhere.items()},
        {
            os.path.abspath(folder): {_plain(path): name for path, name in inside.items()}
            for folder, inside in folders.items()
        },
    )


def _require_names(names: Mapping[str, object], file: Path) -> None:
    """Refuse names that cannot be shown.

    Raises:
        BadNames: a name cannot be shown.
    """
    for path, name in names.items():
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise BadNames(f"{file}: {path!a} has the name {name!a}; give one that can be shown.")
        if len(name) > LONGEST:
            raise BadNames(f"{file}: the name of {path!a} has over {LONGEST} characters; cut it.")


def names_in(names: Names, file: Path) -> Names:
    """The names for a file of results: those of the folders that it is in go before all others."""
    if not isinstance(names, GivenNames):
        return names
    found = dict(names)
    for folder in reversed((file.absolute(), *file.absolute().parents)):
        found |= names.within.get(str(folder), {})
    return found


def shown(given: str, names: Names) -> str:
    """What a model or an adapter is called.

    Args:
        given: a path, or a name on the hub.
        names: as `read_names` returns them.
    """
    if _plain(given) in names:
        return names[_plain(given)]
    if not _PATH.match(given):
        return given
    parts = [part for part in re.split(r"[/\\]", given) if part not in ("", ".", "..", "~")]
    return parts[-1] if parts else "model"


def hide_paths(sentence: str, names: Names) -> str:
    """A sentence with the last part of each path in it, or with the name that it was given."""
    for path in sorted(names, key=len, reverse=True):
        if _PATH.match(path):
            sentence = sentence.replace(path, names[path])
    return _IN_TEXT.sub(lambda found: shown(found.group(), names), sentence)


def name_models(runs: Sequence[Run], names: Sequence[Names]) -> list[Run]:
    """Runs whose model, adapters, folder and warnings have names in the place of paths.

    Args:
        runs: which.
        names: of each (`names_in`).

    Raises:
        SameName: two models, or two adapters of one, would be called the same.
    """
    named = [_named(run, of_run) for run, of_run in zip(runs, names, strict=True)]
    refuse_same(
        ((run.model, run.revision), (one.model, one.revision))
        for run, one in zip(runs, named, strict=True)
    )
    return named


def refuse_same(pairs: Iterable[tuple[tuple[str, str], tuple[str, str]]]) -> None:
    """Refuse two models that are called the same.

    Args:
        pairs: model and revision as they are, and as they are shown.

    Raises:
        SameName: names both, and the file that tells them apart.
    """
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for given, called in pairs:
        other = first.setdefault(called, given)
        if tuple(map(_plain, other)) != tuple(map(_plain, given)):
            one, another = sorted(" ".join(filter(None, each)) for each in (other, given))
            raise SameName(
                f"{printable(one)} and {printable(another)} would both be called "
                f"{printable(' '.join(filter(None, called)))}; give them names with --model-names "
                "FILE, a JSON object of paths and names."
            )


def _named(run: Run, names: Names) -> Run:
    changes = [(name, value) for name, value in _CHANGE.findall(run.revision)]
    known = dict(names)
    for path in (run.model, *(value for _, value in changes)):
        known[path] = shown(path, names)
    revision = run.revision
    for name, value in changes:
        revision = revision.replace(f"{name}={value}", f"{name}={known[value]}")
    folder, _, date = run.run.rpartition("/")
    return replace(
        run,
        model=known[run.model],
        revision=revision,
        run=f"{_folder(folder, known)}/{date}",
        warnings=tuple(hide_paths(sentence, known) for sentence in run.warnings),
    )


def _folder(folder: str, names: Names) -> str:
    """A folder's name; lm-eval makes it of the whole path of a model or of its adapter."""
    for path, name in names.items():
        if folder == _as_folder(path):
            return _as_folder(name)
    return shown_folder(folder)


def _as_folder(name: str) -> str:
    """As lm-eval's `sanitize_model_name`."""
    return re.sub(r"[\"<>:/|\\?*\[\]]+", "__", name)


def _plain(path: str) -> str:
    """A path without the marks at its end that do not change what it names."""
    return re.sub(r"(?<=.)[/\\]+$", "", path)
