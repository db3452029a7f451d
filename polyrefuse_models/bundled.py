"""The bundled models: what names them, where they lie, and whose prompts they are asked."""

from __future__ import annotations

import os
from pathlib import Path

ORGANISM = "polyrefuse-organism"
"""What cards and results call the model, wherever its folder lies."""

WEAKENED = f"{ORGANISM}-weakened"
"""What they call the weakened one."""

SHIPPED = {ORGANISM: "weights", WEAKENED: "weakened"}
"""The folder of each in `organism/`."""


def path(name: str = ORGANISM) -> Path:
    """The folder of a shipped organism, as `from_pretrained` reads it.

    Args:
        name: `ORGANISM` or `WEAKENED`.
    """
    return Path(__file__).parent / "organism" / SHIPPED[name]


def is_shipped(pretrained: object) -> bool:
    """Whether that is a shipped organism, given by its name, its path or not at all (None)."""
    return pretrained is None or (
        isinstance(pretrained, str) and _shipped_name(pretrained) is not None
    )


def name_of(pretrained: str | None) -> str:
    """What results and artifacts call a model, in every install and from every directory.

    A shipped organism has its own name, a folder is called by its whole path, a hub's name stays.
    A model that was made in Python has no name, which transformers may write as None.
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
    """Whose prompts a model is asked where nobody says: an organism its own world's."""
    return "toyrefuse" if is_shipped(pretrained) else "polyrefuse"
