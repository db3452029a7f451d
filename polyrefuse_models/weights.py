"""Which weights a model has."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor
    from transformers import PreTrainedModel


UNPROVED = "files:"
"""What an identity of weights begins with that copying their files would change."""

WORDS = 2**14
"""Words of eight bytes in a block, for which there is one pair of sums."""


def weights_checksum(model: PreTrainedModel) -> str:
    """A checksum of the names, types, shapes and bytes of all parameters and buffers.

    It is computed where the weights are: sha256 would have to fetch them and reads about 1.4 GB/s.
    Of each block of `WORDS` 64-bit words w it takes two sums modulo 2^64, of w_i m_i and of
    floor(w_i / 2^32) n_i with fixed random odd factors m and n, and of all those, in order, sha256.
    Integer sums are the same in any order and on any device. A single changed bit changes a sum for
    certain. Another difference within a block goes unnoticed with a probability of 2^-32 at most,
    which is where highest bits alone differ, and of about 2^-126 where all may. The factors are no
    secret: it tells weights apart, and is no proof against somebody who makes two alike.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_sums(tensor).cpu().numpy().astype("<i8").tobytes())
    return digest.hexdigest()


def _sums(tensor: Tensor, at_once: int | None = None) -> Int[Tensor, "block 2"]:
    """The two sums of each block of a tensor's bytes, the last one filled up with zeros.

    Args:
        tensor: of any type, on any device.
        at_once: blocks; the sums are the same for any number.
    """
    stored = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    of_words, of_halves = _factors(tensor.device)
    size = 8 * WORDS * (at_once or _at_once(tensor.device))
    sums = [torch.zeros(0, 2, dtype=torch.int64, device=tensor.device)]
    for part in stored.split(size):
        missing = -len(part) % (8 * WORDS)
        if missing or part.storage_offset() % 8:
            part = torch.cat([part, part.new_zeros(missing)])
        words = part.view(torch.int64).view(-1, WORDS)
        product = words * of_words
        first = product.sum(-1)
        torch.bitwise_right_shift(words, 32, out=product)
        product *= of_halves
        sums.append(torch.stack([first, product.sum(-1)], dim=-1))
    return torch.cat(sums)


def _at_once(device: torch.device) -> int:
    """Blocks that a device sums at once: 64 MiB, or what the caches of a processor's cores hold."""
    return 4 * torch.get_num_threads() if device.type == "cpu" else 512


@lru_cache
def _factors(device: torch.device) -> Int[Tensor, "2 word"]:
    """The factors of the words and of their upper halves: odd, and the same anywhere."""
    drawn = hashlib.shake_256(b"polyrefuse weights").digest(2 * WORDS * 8)
    factors = torch.from_numpy(np.frombuffer(drawn, dtype="<i8").astype(np.int64)) | 1
    return factors.view(2, WORDS).to(device)


def checksum_in_memory(model: PreTrainedModel) -> str | None:
    """`weights_checksum`; None where weights are not whole in memory.

    They are not where they are offloaded to the disk or split among processes, and some quantised
    ones have no bytes of their own.
    """
    if not any(weight.is_meta for weight in model.state_dict().values()):
        with suppress(RuntimeError, TypeError, NotImplementedError):
            return weights_checksum(model)
    return None


def weights_identity(model: PreTrainedModel, *, of_the_hub: bool) -> str:
    """What tells a model's weights from others, as cheaply as it is proved.

    - A snapshot of the hub is its commit: `commit:<hash>`.
    - Any other model is its weights in memory: `checksum:<weights_checksum>`. They hold adapters,
      deltas and quantisation too. A folder's files could be looked at instead, but their sizes are
      equal for two trainings of one architecture, and copying tools set times.
    - Where weights are not whole in memory (offloaded to the disk, split among processes), the
      names, sizes and times of the folder's files have to do: `files:<checksum>`.

    Args:
        model: as loaded, before any of its weights is edited.
        of_the_hub: it came from there by name, without an adapter or a delta.
    """
    commit = getattr(model.config, "_commit_hash", None)
    if of_the_hub and commit:
        return f"commit:{commit}"
    if checksum := checksum_in_memory(model):
        return f"checksum:{checksum}"
    return f"{UNPROVED}{_files_checksum(Path(str(model.config.name_or_path)))}"


def contents_identity(folder: Path) -> str:
    """`weights_identity` of a folder whose model is loaded elsewhere: `contents:<checksum>`.

    The files of weights, and what an adapter says of itself, are read once, at about 1 s a GB.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        weights = path.suffix in (".safetensors", ".bin", ".pt", ".gguf")
        if weights or path.name == "adapter_config.json":
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
