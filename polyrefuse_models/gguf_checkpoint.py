"""Check and remember checkpoints in a GGUF file, llama.cpp's format (`gguf_file=`).

transformers reads such a file. It unpacks quantised weights if it has no kernel for the packed
ones, so most of these checkpoints become models like any other.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.reading import regular_file

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

MAGIC = b"GGUF"
"""The bytes that a GGUF file begins with."""


class BadGguf(UserError):
    """A GGUF file that cannot be loaded."""


def check_gguf(pretrained: object, gguf_file: object) -> None:
    """Refuse what transformers would refuse late and unclearly, or read from another folder.

    Args:
        pretrained: a folder, or a name on the hub.
        gguf_file: the name of a file there; None for a checkpoint of safetensors files.

    Raises:
        BadGguf: one of the two is missing, or is not what it should be.
    """
    folder = Path(pretrained) if isinstance(pretrained, str | PurePath) else None
    here = folder is not None and os.path.isdir(folder)
    files = sorted(path.name for path in folder.glob("*.gguf")) if folder and here else []
    listed = f"one of its GGUF files ({', '.join(files)})" if files else "a folder with GGUF files"
    if gguf_file is None:
        if folder and files and not (folder / "config.json").exists():
            raise BadGguf(f"{folder} has no config.json; give {listed} as gguf_file.")
        return
    name = str(gguf_file)
    if folder is None:
        raise BadGguf(
            f"gguf_file={name} needs pretrained=; give the folder, or the repository on the hub, "
            "that has the file."
        )
    if not name or os.path.isabs(name) or ".." in PurePath(name).parts:
        raise BadGguf(
            f"gguf_file={name} is not the name of a file in {folder}; give the file's folder as "
            "pretrained, and its name there as gguf_file."
        )
    if find_spec("gguf") is None:
        raise BadGguf(
            f"Reading gguf_file={name} needs the package gguf, which is not installed; run "
            "pip install 'lm-eval-polyrefuse[gguf]'."
        )
    if os.path.isfile(name) and not (here and _same(folder / name, Path(name))):
        raise BadGguf(
            f"gguf_file={name} is also a file in the current folder, and transformers would read "
            f"that one instead of the one in {folder}; run from another folder."
        )
    if here:
        _check_file(folder / name, listed)


def file_of(config: PretrainedConfig) -> str | None:
    """Return the GGUF file that a model came from; None for any other checkpoint."""
    return getattr(config, "gguf_file", None)


def remember_file(model: PreTrainedModel, gguf_file: str | None) -> None:
    """Record for `file_of` which GGUF file a model came from, since a folder may have many."""
    if gguf_file is not None:
        model.config.gguf_file = gguf_file


def is_unpacked(model: PreTrainedModel) -> bool:
    """Whether a model came from a GGUF file and all of its weights are unpacked numbers."""
    method = getattr(model, "quantization_method", None)
    gguf = str(getattr(method, "value", method)) == "gguf"
    return gguf and all(weight.is_floating_point() for weight in model.parameters())


def _check_file(path: Path, listed: str) -> None:
    """Refuse a file that is missing or is not a GGUF file.

    Raises:
        BadGguf: the file cannot be read, or does not begin as a GGUF file does.
    """
    try:
        with regular_file(path, sys.maxsize) as file:
            begins = file.read(len(MAGIC))
    except OSError as error:
        raise BadGguf(
            f"{path} cannot be read ({error.strerror}); give {listed} as gguf_file."
        ) from None
    if begins != MAGIC:
        raise BadGguf(
            f"{path} is not a GGUF file, because it does not begin with {MAGIC.decode()}; give "
            f"{listed} as gguf_file."
        )


def _same(one: Path, other: Path) -> bool:
    return one.exists() and os.path.samefile(one, other)
