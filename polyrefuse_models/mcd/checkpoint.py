"""What unfinished training keeps on disk, so that the same command goes on where it was killed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.writing import CannotWrite

IDENTITY = "identity.json"


class OtherTraining(UserError):
    """A checkpoint that training with other settings left."""


class Checkpoint:
    """Files in a hidden folder beside the output; each appears whole or not at all.

    Args:
        output: of the training.
        identity: all that its result depends on, as JSON has it.

    Raises:
        OtherTraining: the folder is there already, and of another identity.
        CannotWrite: it cannot be written.
    """

    def __init__(self, output: Path, identity: dict[str, Any]) -> None:
        self.folder = output.with_name(f".{output.name}.train")
        self.output = output
        mine = json.loads(json.dumps(identity))
        try:
            theirs = json.loads((self.folder / IDENTITY).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # None, or one that was killed before it began.
            text = json.dumps(mine, indent=1, ensure_ascii=False)
            self._write(IDENTITY, lambda draft: draft.write_text(text, encoding="utf-8"))
            return
        other = sorted(
            key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)
        )
        if other:
            raise OtherTraining(
                f"{self.folder} was left by training for {output} with another "
                f"{', '.join(other)}: remove it, name another --output, or give the same options."
            )

    def read(self, name: str) -> Any:
        """What was written under that name; None where nothing was."""
        try:
            return torch.load(self.folder / name, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            return None

    def write(self, name: str, value: Any) -> None:
        """Write tensors, numbers, and lists and dictionaries of them.

        Raises:
            CannotWrite: the disk fails or is full.
        """
        self._write(name, lambda draft: torch.save(value, draft))

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What was written under that name; made and written where nothing was."""
        found = self.read(name)
        if found is None:
            found = make()
            self.write(name, found)
        return found

    def remove(self) -> None:
        """Training is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, name: str, save: Callable[[Path], Any]) -> None:
        draft = self.folder / f"{name}.partial"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save(draft)
            os.replace(draft, self.folder / name)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CannotWrite(
                f"{self.folder} cannot be written ({reason}); name another --output or make room."
            ) from error
