"""Keep unfinished training on disk, so that the same command can continue it."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from polyrefuse_shared.drafts import discard
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.writing import write_whole

IDENTITY = "identity.json"


class OtherTraining(UserError):
    """There is a checkpoint of a training with other settings."""


ARTIFACT = "artifact"
"""The entry with the finished prompt's checksum. It is written before the artifact."""


def folder_of(output: Path) -> Path:
    """Return the hidden folder beside the output that holds a training until it has ended."""
    return output.parent / f".{output.name}.train"


class Checkpoint:
    """Files in a hidden folder beside the output, each written completely or not at all.

    If other processes may train for the same output, the caller has to keep the folder `locked`.

    Args:
        output: the folder that the training will write.
        identity: everything that the result depends on, in values that JSON can hold.

    Raises:
        OtherTraining: the folder exists already and belongs to another identity.
        CannotWrite: the folder cannot be written.
    """

    def __init__(self, output: Path, identity: dict[str, Any]) -> None:
        self.folder = folder_of(output)
        self.output = output
        mine = json.loads(json.dumps(identity))
        try:
            theirs = json.loads((self.folder / IDENTITY).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # There is none, or it was killed before it began.
            text = json.dumps(mine, indent=1, ensure_ascii=False)
            write_whole(self.folder / IDENTITY, text)
            return
        other = sorted(
            key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)
        )
        if other:
            raise OtherTraining(
                f"{self.folder} was left by a training for {output} that differs in "
                f"{', '.join(other)}; remove the folder, name another --output, or give the same "
                "options."
            )

    def read(self, name: str) -> Any:
        """Read what was written under a name; None if there is nothing."""
        try:
            return torch.load(self.folder / name, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            return None

    def write(self, name: str, value: Any) -> None:
        """Write tensors, numbers, or lists and dictionaries of them.

        Raises:
            CannotWrite: the disk is full or fails.
        """
        content = io.BytesIO()
        torch.save(value, content)
        write_whole(self.folder / name, content.getvalue())

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Read what was written under a name. If there is nothing, make it and write it."""
        value = self.read(name)
        if value is None:
            value = make()
            self.write(name, value)
        return value

    def remove(self) -> None:
        """Remove the whole folder at once, when training is done."""
        discard(self.folder)
