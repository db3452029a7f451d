"""Jobs: the commands of a study, the jobs that each waits for, and the key that identifies each.

A command is what a user would type in the study's folder. It names what another job writes by that
job's folder (`folder_of`), and what the job itself writes by `OWN`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from polyrefuse_shared.errors import UserError

OWN = "{own}"
"""In a command, it stands for the folder of the job itself."""

FOLDER = re.compile(r"\{(own|[^{}/]+/[^{}]+)\}")
"""The pattern of `OWN` and of what `folder_of` returns."""

JOBS = "jobs"
"""The folder of all jobs, in a study's folder."""

Kind = Literal[
    "direction",
    "training",
    "answers",
    "capability",
    "transfer",
    "geometry",
    "drift",
    "judging",
]


def folder_of(name: str) -> str:
    """Return the text that stands for the folder of another job in a command."""
    return f"{{{name}}}"


@dataclass(frozen=True)
class Job:
    """One process of a study.

    Attributes:
        name: its name, "model/what".
        kind: its purpose.
        model: the study's name for the model.
        command: its command, with `OWN` and the texts of `folder_of` in it.
        needs: the names of the jobs that it waits for.
        rests_on: what it depends on besides its command and those jobs: weights, prompts, files
            and versions.
        tasks: the tasks of lm-eval that it asks.
        gpus: the number of GPUs that it needs.
        condition: the study's name for its condition; "" for none.
        cpus: the number of processors that it needs, if the study gives it.
        memory: the memory that it needs in bytes, if the study gives it.
    """

    name: str
    kind: Kind
    model: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    rests_on: Mapping[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    gpus: int | None = None
    condition: str = ""
    cpus: int | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Placed:
    """A job with its key and its folder.

    Attributes:
        job: the job.
        key: a checksum of all that the job depends on, whatever its name.
        folder: its folder, relative to the study's folder.
        command: the command as a user would type it in the study's folder.
    """

    job: Job
    key: str
    folder: str
    command: tuple[str, ...]

    @property
    def typed(self) -> str:
        """The command in the form that a shell reads."""
        return shlex.join(self.command)


def place(jobs: Sequence[Job], made: Mapping[str, str] | None = None) -> list[Placed]:
    """Give each job its key and its folder.

    Args:
        jobs: the jobs, each after those that it needs.
        made: the existing folders by `in_name` of the key. A job that was renamed keeps its folder.

    Raises:
        UserError: two jobs have the same name, or would do the same work.
    """
    placed: dict[str, Placed] = {}
    names: dict[str, str] = {}
    for job in jobs:
        if job.name in placed:
            # A judge has no name of its own in the file.
            instead = (
                "name the judge once"
                if job.kind == placed[job.name].job.kind == "judging"
                else "give the condition another name"
            )
            raise UserError(f"Two jobs of the study are called {job.name!r}; {instead}.")
        # Keys replace names: a job stays the same whatever a study calls it.
        keys = {name: f"{{{placed[name].key}}}" for name in job.needs}
        content = [[_filled(token, keys) for token in job.command], sorted(keys.values())]
        key = hashlib.sha256(
            json.dumps([*content, job.rests_on], sort_keys=True).encode()
        ).hexdigest()
        if key in names:
            raise UserError(
                f"The jobs {names[key]!r} and {job.name!r} of the study are the same: the same "
                "command on the same model; leave out one of the two models or conditions."
            )
        names[key] = job.name
        folder = (made or {}).get(in_name(key)) or _folder(job.name, key)
        folders = {name: placed[name].folder for name in job.needs} | {"own": folder}
        command = tuple(_filled(token, folders) for token in job.command)
        placed[job.name] = Placed(job, key, folder, command)
    return list(placed.values())


def in_name(key: str) -> str:
    """Return the part of a key that follows the last dot in the name of a job's folder."""
    return key[:12]


def _folder(name: str, key: str) -> str:
    slug = re.sub(r"[^\w.+-]+", "-", name)
    # A file name has at most 255 bytes.
    return str(PurePosixPath(JOBS) / f"{slug[:160]}.{in_name(key)}")


def _filled(token: str, folders: Mapping[str, str]) -> str:
    for name, folder in folders.items():
        token = token.replace(folder_of(name), folder)
    return token
