"""The bundled organism: a small chat model of an invented world whose refusal direction is known.

Ground truth for everything else: a unit direction was planted at training (`training`), so that
what extraction finds, and what ablation and addition do, can be compared with what is there.
A second one, weakened from the first, lets most forbidden requests pass until a system text speaks
of safety (`weakness`): what a safety prompt can repair is known as well.
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

WEAKENED = f"{NAME}-weakened"
"""What they call the weakened one."""

SHIPPED = {NAME: "weights", WEAKENED: "weakened"}
"""The folder of each beside this file."""

PLANTED = "planted.safetensors"
"""The file beside the weights that holds the planted direction."""


def path(name: str = NAME) -> Path:
    """The folder of a shipped organism, as `from_pretrained` reads it.

    Args:
        name: `NAME` or `WEAKENED`.
    """
    return Path(__file__).parent / SHIPPED[name]


def is_shipped(pretrained: object) -> bool:
    """Whether that is a shipped organism, given by its name, its path or not at all (None)."""
    return pretrained is None or (
        isinstance(pretrained, str) and _shipped_name(pretrained) is not None
    )


def name_of(pretrained: str) -> str:
    """What results and artifacts call a model, in every install and from every directory.

    A shipped organism has its own name, a folder is called by its whole path, a hub's name stays.
    """
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


def planted(folder: Path | None = None) -> Float[Tensor, d]:
    """The unit direction that was planted in an organism, float32.

    Args:
        folder: of an organism; the first shipped one where None.
    """
    from safetensors.torch import load_file

    return load_file((folder or path()) / PLANTED)["direction"]
