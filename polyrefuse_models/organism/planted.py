"""The direction that was planted in a model organism, or several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from polyrefuse_models import bundled

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

PLANTED = "planted/direction.safetensors"
"""The file in an organism's folder that holds the planted direction. It is not beside the weights:
vLLM reads every `*.safetensors` there."""


def planted(folder: Path | None = None) -> Float[Tensor, d]:
    """The unit direction that was planted in an organism, float32.

    Args:
        folder: of an organism; the first shipped one where None.
    """
    from safetensors.torch import load_file

    return load_file((folder or bundled.path()) / PLANTED)["direction"]


def planted_directions(folder: Path) -> Float[Tensor, "planted d"]:
    """The orthonormal directions that were planted in an organism of several, float32.

    Args:
        folder: of the organism.
    """
    from safetensors.torch import load_file

    return load_file(folder / PLANTED)["directions"]
