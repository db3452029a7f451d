"""Jobs: the commands of a study, what each waits for, and the key by which it is known again.

A command is what a user would type in the study's folder. Where it names what another job writes,
it has that job's folder; a job's own is `OWN`.
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
"""In a command, the folder of the job itself."""

FOLDER = re.compile(r"\{(own|[^{}/]+/[^{}]+)\}")
"""What `OWN` and `folder_of` look like."""

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
    """In a command, the folder of another job."""
    return f"{{{name}}}"


@dataclass(frozen=True)
class Job:
    """One process.

    Attributes:
        name: "model/what".
        kind: what it is for.
        model: the study's name of the model.
        command: with `OWN` and `folder_of` in it.
        needs: names of the jobs that it waits for.
        rests_on: what it depends on beside its command and those jobs: weights, prompts, files,
            versions.
        tasks: that it asks, of lm-eval.
        gpus: that it needs.
        condition: what the study calls the condition that it asks; "" for none.
        cpus: processors that it needs, where the study says so.
        memory: bytes that it needs, where the study says so.
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
        job: which.
        key: a checksum of all that it depends on, whatever it is called.
        folder: in the study's folder.
        command: as a user would type it in the study's folder.
    """

    job: Job
    key: str
    folder: str
    command: tuple[str, ...]

    @property
    def typed(self) -> str:
        """The command as a shell reads it."""
        return shlex.join(self.command)


def place(jobs: Sequence[Job], made: Mapping[str, str] | None = None) -> list[Placed]:
    """Give each job its key and its folder.

    Args:
        jobs: each behind those that it needs.
        made: folders that are there already, by `in_name` of the key. A job that is called
            otherwise now stays in its own.

    Raises:
        UserError: two of them have one name, or would do the same.
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
        # Keys in the place of names: a job is the same one whatever a study calls it.
        keys = {name: f"{{{placed[name].key}}}" for name in job.needs}
        content = [[_filled(token, keys) for token in job.command], sorted(keys.values())]
        key = hashlib.sha256(
            json.dumps([*content, job.rests_on], sort_keys=True).encode()
        ).hexdigest()
        if key in names:
            raise UserError(
                f"The jobs {names[key]!r} and {job.name!r} of the study are the same: the same "
                "command, of the same model; leave out one of the two models or conditions."
            )
        names[key] = job.name
        folder = (made or {}).get(in_name(key)) or _folder(job.name, key)
        folders = {name: placed[name].folder for name in job.needs} | {"own": folder}
        command = tuple(_filled(token, folders) for token in job.command)
        placed[job.name] = Placed(job, key, folder, command)
    return list(placed.values())


def in_name(key: str) -> str:
    """What of a key is in the name of a job's folder, behind the last dot."""
    return key[:12]


def _folder(name: str, key: str) -> str:
    slug = re.sub(r"[^\w.+-]+", "-", name)
    # A file's name has 255 bytes at most.
    return str(PurePosixPath(JOBS) / f"{slug[:160]}.{in_name(key)}")


def _filled(token: str, folders: Mapping[str, str]) -> str:
    for name, folder in folders.items():
        token = token.replace(folder_of(name), folder)
    return token
