"""Write and read a soft prompt: a folder with its vectors and metadata."""

from __future__ import annotations

import hashlib
import os
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from polyrefuse_models import artifact_folder
from polyrefuse_models.artifact_folder import METADATA
from polyrefuse_models.provenance import warn_of_another_model
from polyrefuse_shared.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformers import PretrainedConfig

TENSORS, VECTORS = "soft_prompt.safetensors", "soft_prompt"
"""The file with the vectors, and the name of their tensor in it."""


class BadPrompt(UserError):
    """A soft prompt that cannot be used."""


@dataclass(frozen=True)
class Prompt:
    """A soft prompt and its provenance.

    Attributes:
        vectors: the vectors in float32, at the scale of the model's embeddings.
        metadata: model and revision, languages, checksums of the anchors, losses, versions.
    """

    vectors: Float[Tensor, "n d"]
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """The checksum of the vectors' numbers in float32. It does not depend on the file."""
        numbers = self.vectors.detach().cpu().float().contiguous().numpy()
        return hashlib.sha256(numbers.tobytes()).hexdigest()

    def check(self, width: int, origin: str) -> None:
        """Refuse vectors that a model of a given width cannot read.

        Args:
            width: the number of dimensions of the model's embeddings.
            origin: where the soft prompt comes from, for messages.

        Raises:
            BadPrompt: there are no vectors, they have the wrong width or type, or they have NaN or
                infinite entries.
        """
        if not self.vectors.is_floating_point() or self.vectors.element_size() < 2:
            raise BadPrompt(
                f"{origin}: the soft prompt is of type {self.vectors.dtype}; save it as "
                "torch.float32."
            )
        shape = tuple(self.vectors.shape)
        if len(shape) != 2 or shape[0] == 0 or shape[1] != width:
            raise BadPrompt(
                f"{origin}: the soft prompt has shape {shape}, and the model's embedding has "
                f"{width} dimensions; train a soft prompt for this model."
            )
        if not torch.isfinite(self.vectors).all():
            raise BadPrompt(
                f"{origin}: the soft prompt has NaN or infinite entries; train it again."
            )

    def warn_of_another_model(self, config: PretrainedConfig) -> None:
        """Warn if the metadata names another model or revision than `config` does."""
        warn_of_another_model("The soft prompt was trained for", self.metadata, config)


def save(prompt: Prompt, folder: str | Path, pictures: Mapping[str, bytes] | None = None) -> None:
    """Write the artifact completely or not at all.

    Args:
        prompt: the soft prompt.
        folder: a folder that does not exist yet.
        pictures: the contents of pictures by file name, to write beside vectors and metadata.

    Raises:
        CannotWrite: `folder` exists already, or cannot be written.
    """
    vectors = prompt.vectors.detach().cpu().float().contiguous().clone()
    artifact_folder.write(
        Path(folder),
        tensors={TENSORS: {VECTORS: vectors}},
        documents={METADATA: prompt.metadata},
        pictures=pictures,
    )


def load(folder: str | Path) -> Prompt:
    """Read an artifact.

    Raises:
        BadPrompt: there is no such folder, or a file in it is missing or cannot be read.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise BadPrompt(
            f"prompt={folder} is not a folder; give the folder of a soft prompt, which holds "
            f"{TENSORS} and {METADATA}."
        )
    with artifact_folder.damage_as(
        BadPrompt, folder, kind="soft prompt's folder", remedy="train it again"
    ):
        tensors, metadata = artifact_folder.read(folder, TENSORS)
        _check_metadata(metadata)
        return Prompt(tensors[VECTORS], metadata)


def _check_metadata(metadata: dict[str, Any]) -> None:
    """Refuse metadata of a wrong type, which results could not repeat.

    Raises:
        ValueError: an entry is of the wrong type.
    """
    kinds: dict[str, type | tuple[type, ...]] = {
        "model": (str, type(None)),
        "revision": (str, type(None)),
        "gguf_file": (str, type(None)),
        "dataset": (str, type(None)),
        "languages": list,
        "settings": dict,
        "anchors": dict,
        "warnings": list,
    }
    for name, kind in kinds.items():
        if name in metadata and not isinstance(metadata[name], kind):
            raise ValueError(f"its {name} is {reprlib.repr(metadata[name])}")
    overlap = metadata.get("anchors", {}).get("overlap")
    if overlap is not None and not isinstance(overlap, dict):
        raise ValueError(f"the overlap of its anchors is {reprlib.repr(overlap)}")
