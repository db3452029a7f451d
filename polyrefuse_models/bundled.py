"""The bundled model organisms: their names, their folders and their default dataset."""

from __future__ import annotations

import os
from pathlib import Path

ORGANISM = "polyrefuse-organism"
"""The name of the model organism in cards and results, wherever its folder is."""

WEAKENED = f"{ORGANISM}-weakened"
"""The name of the weakened model organism."""

SHIPPED = {ORGANISM: "weights", WEAKENED: "weakened"}
"""The name of each organism -> its folder in `organism/`."""


def path(name: str = ORGANISM) -> Path:
    """Return the folder of a bundled organism, as `from_pretrained` reads it.

    Args:
        name: `ORGANISM` or `WEAKENED`.
    """
    return Path(__file__).parent / "organism" / SHIPPED[name]


def soft_prompt() -> Path:
    """Return the folder of the soft prompt that MCD trained for the weakened organism.

    `polyrefuse mcd train --model polyrefuse-organism-weakened --langs en,de --answers 2
    --max-gen-toks 40` made it, as its `metadata.json` says.
    """
    return path(WEAKENED) / "prompt"


def is_shipped(pretrained: object) -> bool:
    """Whether `pretrained` is the name or path of a bundled organism, or None, the default."""
    return pretrained is None or (
        isinstance(pretrained, str) and _shipped_name(pretrained) is not None
    )


def name_of(pretrained: str | None) -> str:
    """Return the name that results and artifacts use for a model.

    For a bundled organism this is its own name, for a folder its absolute path, and for a model of
    the hub its name there. It is empty for a model that was made in Python, whose name may be None
    or empty in transformers.
    """
    pretrained = pretrained or ""
    if name := _shipped_name(pretrained):
        return name
    return str(Path(pretrained).resolve()) if os.path.isdir(pretrained) else pretrained


def _shipped_name(pretrained: str) -> str | None:
    for name in SHIPPED:
        if pretrained == name or Path(pretrained).resolve() == path(name).resolve():
            return name
    return None


def own_dataset(pretrained: object) -> str:
    """Return a model's default dataset: `toyrefuse` for an organism, otherwise `polyrefuse`."""
    return "toyrefuse" if is_shipped(pretrained) else "polyrefuse"
