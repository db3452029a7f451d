"""Read `summary.json`, in which `polyrefuse study run` records the state of each job."""

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
"""The most bytes of a summary."""

LONGEST = 500
"""The most characters of a name, and of the reason why a job has not finished."""

State = Literal["finished", "failed", "not begun"]
"""The state of a job."""


_COLOUR = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
"""A control sequence of a terminal (ECMA-48, 5.4), for example one that sets a colour."""


class BadSummary(UserError):
    """A file is not the summary of a study."""


@dataclass(frozen=True)
class StudyJob:
    """A job of a study.

    Attributes:
        name: the name of the job, "model/purpose".
        kind: its purpose: "answers", "capability", "transfer", "drift", "judging", ...
        model: the study's name for its model.
        condition: the study's name for its condition; "" if it has none.
        state: the state of the job.
        why: the reason why it has not finished; "" if it has.
        place: the folder that it wrote, relative to the study's folder.
        folder: the path of that folder.
        results: the folder with its results and the labels of all judges.
        command: the command of the job, as you would type it in the study's folder.
        rests_on: what the result depends on: weights, files, versions.
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
        """Whether the job ended without an error."""
        return self.state == "finished"

    def dates(self) -> list[str]:
        """Return the dates in the names of its results files, with which `Run.run` ends."""
        return [file.date_id for file in find_results([self.results], [])]


@dataclass(frozen=True)
class StudySummary:
    """A study and its jobs.

    Attributes:
        study: the name of the study.
        versions: package -> its version when the study ran.
        jobs: the jobs in the order of the study.
    """

    study: str
    versions: Mapping[str, str]
    jobs: Sequence[StudyJob]

    @property
    def models(self) -> list[str]:
        """The study's names for its models, in their order."""
        return list(dict.fromkeys(job.model for job in self.jobs))

    def of(self, model: str, *kinds: str) -> list[StudyJob]:
        """Return the jobs of a model of some kinds, or of all kinds."""
        return [job for job in self.jobs if job.model == model and (not kinds or job.kind in kinds)]

    def finished(self, model: str, *kinds: str) -> list[StudyJob]:
        """Return the jobs of a model that have finished."""
        return [job for job in self.of(model, *kinds) if job.state == "finished"]


def read_study(file: Path) -> StudySummary:
    """Read the summary of a study.

    Raises:
        BadSummary: the file cannot be read, or is not a summary.
    """
    try:
        return _study(parse_json(read_bytes(file, AT_MOST)), file.parent)
    except OSError as error:
        raise BadSummary(
            f"{file} cannot be read ({error.strerror}); name the summary.json of a study."
        ) from None
    except ValueError as error:
        raise BadSummary(
            f"{file} is not the summary of a study ({error}); name the summary.json that "
            "`polyrefuse study run` wrote."
        ) from None


def _study(document: Any, folder: Path) -> StudySummary:
    """Read the document of a summary.

    Raises:
        ValueError: the document is not a summary.
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
        # A quoted argument may contain a line break.
        command="\n".join(map(_shown, command.splitlines())),
        rests_on=_object(entry.get("rests_on", {}), f"rests_on of {where}"),
    )


def _why(entry: Mapping[str, Any]) -> str:
    """Return why a job has not finished: what it waits for, or the last line that it wrote."""
    for reason in (entry.get("because"), entry.get("said")):
        if isinstance(reason, str) and reason.strip():
            last = _COLOUR.sub("", reason.strip().splitlines()[-1])
            return shorten(clean(last), LONGEST, placeholder=" ...")
    return "it left no message" if entry.get("state") != "finished" else ""


def _inside(place: str, where: str) -> Path:
    """Refuse a folder outside the study's own, which the study cannot have written."""
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
    """Replace the characters that move a cursor or turn the direction of text."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in line)
