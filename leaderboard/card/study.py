"""Reads `summary.json`, in which `polyrefuse study run` says what became of each job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.reading import parse_json, read_bytes
from polyrefuse_tasks.saved_results.documents import printable
from polyrefuse_tasks.saved_results.folders import find_results

AT_MOST = 2**26
"""Bytes of a summary, at most."""


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
        state: "finished", "failed" or "not begun".
        why: the reason, where it is not finished.
        folder: where it wrote.
        results: its results, with the labels of all judges beside them.
        command: as a user would type it in the study's folder.
        rests_on: what tells it from others: weights, files, versions.
    """

    name: str
    kind: str
    model: str
    condition: str
    state: str
    why: str
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


def read_study(file: Path) -> StudySummary:
    """The study that a summary is of.

    Raises:
        BadSummary: the file cannot be read, or is none.
    """
    try:
        document = parse_json(read_bytes(file, AT_MOST))
        return StudySummary(
            study=_text(document["study"]),
            versions={_text(name): _text(value) for name, value in document["versions"].items()},
            jobs=[_job(entry, file.parent) for entry in document["jobs"]],
        )
    except OSError as error:
        raise BadSummary(f"{file} cannot be read ({error.strerror}); name another.") from None
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BadSummary(
            f"{file} is no summary of a study ({error}); name the summary.json that `polyrefuse "
            "study run` wrote."
        ) from None


def _job(entry: Mapping[str, Any], folder: Path) -> StudyJob:
    state = _text(entry["state"])
    said = _text(entry.get("said", "")).splitlines()
    return StudyJob(
        name=_text(entry["name"]),
        kind=_text(entry["kind"]),
        model=_text(entry["model"]),
        condition=_text(entry.get("condition") or ""),
        state=state,
        why=printable(_text(entry.get("because") or (said[-1] if said else ""))),
        folder=folder / _text(entry["folder"]),
        results=folder / _text(entry.get("results") or entry["folder"]),
        command=_text(entry["command"]),
        rests_on=dict(entry.get("rests_on", {})),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
