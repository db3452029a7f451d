"""Reads `summary.json`, in which `polyrefuse study run` says what became of each job."""

from __future__ import annotations

import re
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal, get_args

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.printing import clean
from polyrefuse_shared.reading import parse_json, read_bytes
from polyrefuse_tasks.saved_results.folders import find_results

AT_MOST = 2**26
"""Bytes of a summary, at most."""

LONGEST = 500
"""Characters of a name, and of the reason why a job has not finished, at most."""

State = Literal["finished", "failed", "not begun"]
"""What became of a job."""


_COLOUR = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
"""A control sequence of a terminal (ECMA-48, 5.4), such as that of a colour."""


class BadSummary(UserError):
    """A file that is no summary of a study."""


@dataclass(frozen=True)
class StudyJob:
    """A job of a study.

    Attributes:
        name: "model/what".
        kind: what it is for: "answers", "capability", "transfer", "drift", "judging", ...
        model: what the study calls its model.
        condition: what the study calls its condition; "" where it has none.
        state: what became of it.
        why: the reason, where it is not finished.
        place: where it wrote, from the study's folder on.
        folder: the same, to be read.
        results: its results, with the labels of all judges beside them.
        command: as a user would type it in the study's folder.
        rests_on: what tells it from others: weights, files, versions.
    """

    name: str
    kind: str
    model: str
    condition: str
    state: State
    why: str
    place: str
    folder: Path
    results: Path
    command: str
    rests_on: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_finished(self) -> bool:
        """Whether it ended well."""
        return self.state == "finished"

    def dates(self) -> list[str]:
        """The dates in the names of the results files that it wrote, as `Run.run` ends."""
        return [file.date_id for file in find_results([self.results], [])]


@dataclass(frozen=True)
class StudySummary:
    """A study and its jobs.

    Attributes:
        study: its name.
        versions: of what ran it.
        jobs: in the order of the study.
    """

    study: str
    versions: Mapping[str, str]
    jobs: Sequence[StudyJob]

    @property
    def models(self) -> list[str]:
        """What it calls its models, in their order."""
        return list(dict.fromkeys(job.model for job in self.jobs))

    def of(self, model: str, *kinds: str) -> list[StudyJob]:
        """The jobs of a model, of these kinds or of all."""
        return [job for job in self.jobs if job.model == model and (not kinds or job.kind in kinds)]

    def finished(self, model: str, *kinds: str) -> list[StudyJob]:
        """Those of them that have finished."""
        return [job for job in self.of(model, *kinds) if job.state == "finished"]


def read_study(file: Path) -> StudySummary:
    """The study that a summary is of.

    Raises:
        BadSummary: the file cannot be read, or is none.
    """
    try:
        return _study(parse_json(read_bytes(file, AT_MOST)), file.parent)
    except OSError as error:
        raise BadSummary(f"{file} cannot be read ({error.strerror}); name another.") from None
    except ValueError as error:
        raise BadSummary(
            f"{file} is no summary of a study ({error}); name the summary.json that `polyrefuse "
            "study run` wrote."
        ) from None


def _study(document: Any, folder: Path) -> StudySummary:
    """Raises:
    ValueError: the document is no summary.
    """
    named = _object(document, "it")
    versions = _object(named.get("versions"), "versions")
    entries = named.get("jobs")
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"jobs is {reprlib.repr(entries)}, not a list of jobs")
    jobs = [
        _job(_object(entry, f"job {number}"), f"job {number}", folder)
        for number, entry in enumerate(entries, 1)
    ]
    for name, count in Counter(job.name for job in jobs).items():
        if count > 1:
            raise ValueError(f"it has {count} jobs called {name}")
    return StudySummary(
        study=_name(named.get("study"), "study"),
        versions={
            _name(package, "a package of versions"): _name(version, f"the version of {package}")
            for package, version in versions.items()
        },
        jobs=jobs,
    )


def _job(entry: Mapping[str, Any], where: str, folder: Path) -> StudyJob:
    def name(key: str) -> str:
        return _name(entry.get(key), f"{key} of {where}")

    state: Any = entry.get("state")
    if state not in get_args(State):
        raise ValueError(
            f"state of {where} is {reprlib.repr(state)}, not one of {', '.join(get_args(State))}"
        )
    command = entry.get("command")
    if not isinstance(command, str):
        raise ValueError(f"command of {where} is {reprlib.repr(command)}, not a text")
    return StudyJob(
        name=name("name"),
        kind=name("kind"),
        model=name("model"),
        condition=name("condition") if entry.get("condition") else "",
        state=state,
        why=_why(entry),
        place=name("folder"),
        folder=folder / _inside(name("folder"), where),
        results=folder / _inside(name("results" if entry.get("results") else "folder"), where),
        # A line of it may be one within quotes.
        command="\n".join(map(_shown, command.splitlines())),
        rests_on=_object(entry.get("rests_on", {}), f"rests_on of {where}"),
    )


def _why(entry: Mapping[str, Any]) -> str:
    """The reason why a job has not finished: what it waits for, or the last line that it wrote."""
    for reason in (entry.get("because"), entry.get("said")):
        if isinstance(reason, str) and reason.strip():
            last = _COLOUR.sub("", reason.strip().splitlines()[-1])
            return shorten(clean(last), LONGEST, placeholder=" ...")
    return "it left no message" if entry.get("state") != "finished" else ""


def _inside(place: str, where: str) -> Path:
    """A folder of the study: what lies elsewhere is nothing that the study measured."""
    path = Path(place)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"the folder of {where} is {place!a}, which is not in the study's own")
    return path


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is {reprlib.repr(value)}, not an object")
    return value


def _name(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"{what} is {reprlib.repr(value)}, not a name")
    if len(value) > LONGEST:
        raise ValueError(f"{what} has {len(value)} characters, of which {LONGEST} can be shown")
    return value


def _shown(line: str) -> str:
    """A line without what moves a cursor or turns the direction of text."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in line)
