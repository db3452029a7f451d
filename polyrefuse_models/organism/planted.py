"""Read the directions that were planted in a model organism."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from polyrefuse_models import bundled

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

PLANTED = "planted/direction.safetensors"
"""The file in an organism's folder that holds the planted direction. It is in a folder of its own,
because vLLM would read any `*.safetensors` file beside the weights."""


def planted(folder: Path | None = None) -> Float[Tensor, d]:
    """Read the unit direction that was planted in an organism, in float32.

    Args:
        folder: the folder of an organism; None means the first organism that is shipped.
    """
    from safetensors.torch import load_file

    return load_file((folder or bundled.path()) / PLANTED)["direction"]


def planted_directions(folder: Path) -> Float[Tensor, "planted d"]:
    """Read the orthonormal directions of an organism with several directions, in float32.

    Args:
        folder: the folder of the organism.
    """
    from safetensors.torch import load_file

    return load_file(folder / PLANTED)["directions"]
