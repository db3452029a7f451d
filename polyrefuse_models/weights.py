"""Checksums that identify a model's weights."""

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
"""The beginning of an identity that depends on the times of files, which copying would change."""

WORDS = 2**14
"""The number of 8-byte words in a block. Each block has one pair of sums."""


def weights_checksum(model: PreTrainedModel) -> str:
    """Compute a checksum of the names, types, shapes and bytes of all parameters and buffers.

    It is computed on the device that has the weights. sha256 of the weights themselves would have
    to fetch them from there, and reads about 1.4 GB/s. Each block of `WORDS` 64-bit words w has two
    sums modulo 2^64: the sum of w_i m_i, and the sum of floor(w_i / 2^32) n_i, with fixed random
    odd factors m and n. The checksum is the sha256 of all these sums in order. Integer sums are the
    same in any order and on any device.

    A single changed bit always changes a sum. Any other difference within a block goes unnoticed
    with a probability of at most 2^-32 if only the highest bits differ, and of about 2^-126 if all
    may differ. The factors are not secret: the checksum distinguishes different weights, but does
    not protect against somebody who constructs two sets of weights with the same checksum.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_sums(tensor).cpu().numpy().astype("<i8").tobytes())
    return digest.hexdigest()


def _sums(tensor: Tensor, at_once: int | None = None) -> Int[Tensor, "block 2"]:
    """Compute the two sums of each block of a tensor's bytes. Zeros pad the last block.

    Args:
        tensor: a tensor of any type, on any device.
        at_once: the number of blocks to sum at a time, which does not change the sums.
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
    """Return how many blocks to sum at once: 64 MiB, or on a CPU about what its caches hold."""
    return 4 * torch.get_num_threads() if device.type == "cpu" else 512


@lru_cache
def _factors(device: torch.device) -> Int[Tensor, "2 word"]:
    """Return the factors of the words and of their upper halves: odd, and always the same."""
    drawn = hashlib.shake_256(b"polyrefuse weights").digest(2 * WORDS * 8)
    factors = torch.from_numpy(np.frombuffer(drawn, dtype="<i8").astype(np.int64)) | 1
    return factors.view(2, WORDS).to(device)


def checksum_in_memory(model: PreTrainedModel) -> str | None:
    """Compute `weights_checksum`, or return None if it cannot be computed.

    It cannot if weights are offloaded to disk or split among processes, or if quantised weights
    have no bytes of their own.
    """
    if not any(weight.is_meta for weight in model.state_dict().values()):
        with suppress(RuntimeError, TypeError, NotImplementedError):
            return weights_checksum(model)
    return None


def weights_identity(model: PreTrainedModel, *, of_the_hub: bool) -> str:
    """Return an identity of a model's weights, by the cheapest means that is reliable.

    - A snapshot from the hub is identified by its commit: `commit:<hash>`.
    - Any other model is identified by a checksum of its weights in memory:
      `checksum:<weights_checksum>`. It covers adapters, deltas and quantisation too. The sizes and
      times of a folder's files would be cheaper, but two trainings of one architecture have equal
      sizes, and copying tools set times.
    - If the weights are not all in memory (offloaded to disk, split among processes), the names,
      sizes and times of the folder's files have to serve: `files:<checksum>`.

    Args:
        model: the model as loaded, before any of its weights is edited.
        of_the_hub: whether the model came from the hub by name, without an adapter or a delta.
    """
    commit = getattr(model.config, "_commit_hash", None)
    if of_the_hub and commit:
        return f"commit:{commit}"
    if checksum := checksum_in_memory(model):
        return f"checksum:{checksum}"
    return f"{UNPROVED}{_files_checksum(Path(str(model.config.name_or_path)))}"


def contents_identity(folder: Path) -> str:
    """Return the identity of a folder whose model another process loads: `contents:<checksum>`.

    The files of weights and an adapter's configuration are read once, at about 1 s per GB.
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
    """Compute the sha256 of the names, sizes and times of a folder's files.

    If there are no files, the result is random.
    """
    entries = [
        f"{path.relative_to(folder)} {path.stat().st_size} {path.stat().st_mtime_ns}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    # Without files nothing shows that two models are the same, so they must count as different.
    return hashlib.sha256("\n".join(entries).encode() if entries else os.urandom(32)).hexdigest()
