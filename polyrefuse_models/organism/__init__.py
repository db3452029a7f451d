"""The bundled organism: a small chat model of an invented world whose refusal direction is known.

Ground truth for everything else: a unit direction was planted at training (`training`), so that
what extraction finds, and what ablation and addition do, can be compared with what is there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

NAME = "polyrefuse-organism"
"""What cards and results call the model, wherever its folder lies."""

PLANTED = "planted.safetensors"
"""The file beside the weights that holds the planted direction."""


def path() -> Path:
    """The folder of the shipped organism, as `from_pretrained` reads it."""
    return Path(__file__).parent / "weights"


def is_shipped(pretrained: object) -> bool:
    """Whether that is the shipped organism, given by its name, its path or not at all (None)."""
    if not isinstance(pretrained, str):
        return pretrained is None
    return pretrained == NAME or Path(pretrained).resolve() == path().resolve()


def name_of(pretrained: str) -> str:
    """What results and artifacts call a model, in every install and from every directory.

    The organism has its own name, a folder is called by its whole path, a hub's name stays.
    """
    if is_shipped(pretrained):
        return NAME
    return str(Path(pretrained).resolve()) if os.path.isdir(pretrained) else pretrained


def own_dataset(pretrained: object) -> str:
    """Whose prompts a model is asked where nobody says: the organism its own world's."""
    return "toyrefuse" if is_shipped(pretrained) else "polyrefuse"


def planted(folder: Path | None = None) -> Float[Tensor, d]:
    """The unit direction that was planted in an organism, float32.

    Args:
        folder: of an organism; the shipped one where None.
    """
    from safetensors.torch import load_file

    return load_file((folder or path()) / PLANTED)["direction"]
