"""The bundled model organisms: their names, their folders and their default dataset."""

from __future__ import annotations

import os
from pathlib import Path

ORGANISM = "polyrefuse-organism"
"""The name of the model organism in cards and results, wherever its folder lies."""

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
    """The folder of the soft safety prompt that was trained for the weakened organism (MCD).

    `polyrefuse mcd train --model polyrefuse-organism-weakened --langs en,de --answers 2
    --max-gen-toks 40` made it, as its `metadata.json` says.
    """
    return path(WEAKENED) / "prompt"


def is_shipped(pretrained: object) -> bool:
    """Whether `pretrained` means a bundled organism: by name, by path, or None, the default."""
    return pretrained is None or (
        isinstance(pretrained, str) and _shipped_name(pretrained) is not None
    )


def name_of(pretrained: str | None) -> str:
    """Return the name of a model in results and artifacts, which is the same everywhere.

    A bundled organism has its own name, a folder its whole path, and a model of the hub its name
    there. A model that was made in Python has no name, which transformers may write as None.
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
    """Return the default dataset of a model: an organism's own world, else PolyRefuse."""
    return "toyrefuse" if is_shipped(pretrained) else "polyrefuse"
