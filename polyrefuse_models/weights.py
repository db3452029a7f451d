"""Which weights a model has."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def weights_checksum(model: PreTrainedModel) -> str:
    """sha256 of the names, types, shapes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def weights_identity(model: PreTrainedModel, *, of_the_hub: bool) -> str:
    """What tells a model's weights from others, as cheaply as it is proved.

    - A snapshot of the hub is its commit: `commit:<hash>`.
    - Any other model is its weights in memory: `sha256:<checksum>`, about 0.6 s a GB (a model of
      70B parameters in bfloat16 takes a minute and a half, as long as reading it from a fast disk).
      They hold adapters, deltas and quantisation too. A folder's files could be looked at instead,
      but their sizes are equal for two trainings of one architecture, and copying tools set times.
    - Where weights are not whole in memory (offloaded to the disk, split among processes), the
      names, sizes and times of the folder's files have to do: `files:<checksum>`.

    Args:
        model: as loaded, before any of its weights is edited.
        of_the_hub: it came from there by name, without an adapter or a delta.
    """
    commit = getattr(model.config, "_commit_hash", None)
    if of_the_hub and commit:
        return f"commit:{commit}"
    if not any(weight.is_meta for weight in model.state_dict().values()):
        with suppress(RuntimeError, TypeError, NotImplementedError):  # no bytes of its own
            return f"sha256:{weights_checksum(model)}"
    return f"files:{_files_checksum(Path(str(model.config.name_or_path)))}"


def contents_identity(folder: Path) -> str:
    """`weights_identity` of a folder whose model is loaded elsewhere: `contents:<checksum>`.

    The files of weights are read once, at about 1 s a GB.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".bin", ".pt", ".gguf"):
            digest.update(path.name.encode())
            with path.open("rb") as file:
                while part := file.read(2**24):
                    digest.update(part)
    return f"contents:{digest.hexdigest()}"


def _files_checksum(folder: Path) -> str:
    """sha256 of names, sizes and modification times of a folder's files; of chance where none."""
    entries = [
        f"{path.relative_to(folder)} {path.stat().st_size} {path.stat().st_mtime_ns}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    # Without a proof two models must not be taken for one.
    return hashlib.sha256("\n".join(entries).encode() if entries else os.urandom(32)).hexdigest()
