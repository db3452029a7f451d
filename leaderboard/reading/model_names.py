"""Name models and their adapters so that no path of your disk is published.

A name on the hub stays as it is. A model in a folder has the last part of its path as its name,
whatever other models there are, so that a baseline made today and results read tomorrow agree.
Two models with the same name are refused, unless a file of names gives them different ones.
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
"""The most bytes of a file of names."""

LONGEST = 200
"""The most characters of a name that a file gives."""

Names = Mapping[str, str]
"""The path or the hub name of a model or an adapter -> the name that is shown."""

NO_NAMES: Names = MappingProxyType({})
"""The default names: every model in a folder has the last part of its path as its name."""


class GivenNames(dict[str, str]):
    """The names that a file gives, and those that it gives only for results in some folders.

    Attributes:
        within: folder of results -> the names for the results in it.
    """

    def __init__(self, names: Names, within: Mapping[str, Names]) -> None:
        super().__init__(names)
        self.within = within


_PATH = re.compile(r"[/~\\]|\.{1,2}([/\\]|$)|[A-Za-z]:[/\\]|[^/]*\\|[^/]*/[^/]*/|[^/]*/$")
"""Matches a path and not a name on the hub: absolute, relative, of Windows, or of many parts."""

_IN_TEXT = re.compile(r"(?<![\w./:~\\-])(?:~|[A-Za-z]:)?(?:[/\\][^\s/\\'\"`,;:()<>|]+){2,}[/\\]?")
"""A path within a sentence, but not the part of an address after its colon."""

_CHANGE = re.compile(rf"(?:^|(?<= ))({'|'.join(WEIGHTS)})=(.*?)(?= (?:{'|'.join(WEIGHTS)})=|$)")
"""An argument in a revision that changes the weights, as `identity.revision` writes it."""


class BadNames(UserError):
    """A file of names cannot be used."""


class SameName(UserError):
    """Two models would have the same name."""


def read_names(file: Path) -> GivenNames:
    """Read the file of --model-names, which holds a JSON object.

    Raises:
        BadNames: the file cannot be read, does not hold such an object, or has a name that cannot
            be shown.
    """
    wanted = 'a JSON object such as {"/models/a/chat": "chat-a"}'
    try:
        names = parse_json(read_bytes(file, AT_MOST))
    except OSError as error:
        raise BadNames(f"{file} cannot be read ({error.strerror}); give {wanted}.") from None
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
        BadNames: a name is not a printable text, or it is too long.
    """
    for path, name in names.items():
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise BadNames(f"{file}: {path!a} has the name {name!a}; give one that can be shown.")
        if len(name) > LONGEST:
            raise BadNames(f"{file}: the name of {path!a} has over {LONGEST} characters; cut it.")


def names_in(names: Names, file: Path) -> Names:
    """Return the names for a results file. Names for its folders take precedence over others."""
    if not isinstance(names, GivenNames):
        return names
    found = dict(names)
    for folder in reversed((file.absolute(), *file.absolute().parents)):
        found |= names.within.get(str(folder), {})
    return found


def shown(given: str, names: Names) -> str:
    """Return the name of a model or an adapter that is shown.

    Args:
        given: its path or its name on the hub.
        names: the names, as `read_names` returns them.
    """
    if _plain(given) in names:
        return names[_plain(given)]
    if not _PATH.match(given):
        return given
    parts = [part for part in re.split(r"[/\\]", given) if part not in ("", ".", "..", "~")]
    return parts[-1] if parts else "model"


def hide_paths(sentence: str, names: Names) -> str:
    """Replace each path in a sentence by its given name, or by its last part."""
    for path in sorted(names, key=len, reverse=True):
        if _PATH.match(path):
            sentence = sentence.replace(path, names[path])
    return _IN_TEXT.sub(lambda found: shown(found.group(), names), sentence)


def name_models(runs: Sequence[Run], names: Sequence[Names]) -> list[Run]:
    """Replace paths by names in the model, the adapters, the folder and the warnings of runs.

    Args:
        runs: the runs.
        names: the names for each run, as `names_in` returns them.

    Raises:
        SameName: two models, or two adapters of one model, would have the same name.
    """
    named = [_named(run, of_run) for run, of_run in zip(runs, names, strict=True)]
    refuse_same(
        ((run.model, run.revision), (one.model, one.revision))
        for run, one in zip(runs, named, strict=True)
    )
    return named


def refuse_same(pairs: Iterable[tuple[tuple[str, str], tuple[str, str]]]) -> None:
    """Refuse two models that have the same name.

    Args:
        pairs: the model and the revision as they are, and the two as they are shown.

    Raises:
        SameName: two models have the same name. The message names both, and the option that gives
            them different names.
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
    """Return the name of a folder, which lm-eval makes from the path of a model or adapter."""
    for path, name in names.items():
        if folder == _as_folder(path):
            return _as_folder(name)
    return shown_folder(folder)


def _as_folder(name: str) -> str:
    """Return a name in the form of lm-eval's `sanitize_model_name`."""
    return re.sub(r"[\"<>:/|\\?*\[\]]+", "__", name)


def _plain(path: str) -> str:
    """Return a path without slashes at its end, which do not change its meaning."""
    return re.sub(r"(?<=.)[/\\]+$", "", path)
