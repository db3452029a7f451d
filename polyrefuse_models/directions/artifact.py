"""A direction on disk: a folder with tensors, every candidate's scores, and how it came about."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from polyrefuse_models.provenance import warn_of_another_model
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.writing import whole_folder

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformers import PretrainedConfig

    from polyrefuse_models.directions.select import Candidate

TENSORS, SCORES, METADATA = "direction.safetensors", "scores.json", "metadata.json"


class BadDirection(UserError):
    """A direction artifact that cannot be used."""


@dataclass(frozen=True)
class Direction:
    """A refusal direction and its provenance.

    Attributes:
        direction: the chosen one, float32, not normalised.
        candidates: one a position and layer, float32, not normalised.
        scores: of every candidate.
        metadata: model and revision, source language, data checksums, position, layer, template
            suffix tokens, refusal tokens, versions.
    """

    direction: Float[Tensor, "d"]
    candidates: Float[Tensor, "position layer d"]
    scores: list[Candidate] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Checksum of the chosen direction's numbers, wherever they are stored."""
        return hashlib.sha256(self.direction.float().contiguous().numpy().tobytes()).hexdigest()

    def check(self, width: int, origin: str) -> None:
        """Refuse a direction that no residual stream of that width can be ablated along.

        Raises:
            BadDirection: another width, NaN or infinity, or the zero vector.
        """
        if self.direction.shape != (width,):
            raise BadDirection(
                f"{origin}: the direction has shape {tuple(self.direction.shape)} and the model's "
                f"residual stream {width} dimensions; extract one from this model."
            )
        if not torch.isfinite(self.direction).all():
            raise BadDirection(
                f"{origin}: the direction has NaN or infinite entries; extract it anew."
            )
        if not self.direction.any():
            raise BadDirection(f"{origin}: the direction is the zero vector; extract it anew.")

    def warn_of_another_model(self, config: PretrainedConfig) -> None:
        """Say so where the metadata names another model or revision than `config` does."""
        warn_of_another_model("The direction was extracted from", self.metadata, config)


def save(
    direction: Direction, folder: str | Path, pictures: Mapping[str, bytes] | None = None
) -> None:
    """Write the artifact, whole or not at all.

    Args:
        pictures: file name -> content, written beside the three files.

    Raises:
        CannotWrite: `folder` exists already, or cannot be written.
    """
    from safetensors.torch import save_file

    with whole_folder(Path(folder)) as draft:
        # Cloned, because the direction is usually a view of its candidate.
        tensors = {
            "direction": direction.direction.float().clone(),
            "candidates": direction.candidates.float().clone(),
        }
        save_file(tensors, draft / TENSORS)
        scores = [candidate.record() for candidate in direction.scores]
        (draft / SCORES).write_text(json.dumps(scores, indent=1), encoding="utf-8")
        metadata = json.dumps(direction.metadata, indent=1, ensure_ascii=False)
        (draft / METADATA).write_text(metadata, encoding="utf-8")
        for name, content in (pictures or {}).items():
            (draft / name).write_bytes(content)


def load(folder: str | Path) -> Direction:
    """Read an artifact.

    Raises:
        BadDirection: no such folder, a file of it is missing or cannot be read, or `position` and
            `layer` in its metadata are of no candidate.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from polyrefuse_models.directions.select import Candidate

    folder = Path(folder)
    if not os.path.isdir(folder):
        raise BadDirection(
            f"direction={folder} is no folder; give a direction artifact (a folder with "
            f"{TENSORS}, {SCORES} and {METADATA}) or direction=auto."
        )
    try:
        tensors = load_file(folder / TENSORS)
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        scores = json.loads((folder / SCORES).read_text(encoding="utf-8"))
        if not isinstance(metadata, dict):
            raise ValueError(f"{METADATA} is not an object")
        n_positions, n_layers, _ = tensors["candidates"].shape
        _check_index(metadata, "position", range(-n_positions, 0))
        _check_index(metadata, "layer", range(n_layers))
        return Direction(
            direction=tensors["direction"],
            candidates=tensors["candidates"],
            scores=[Candidate(**row) for row in scores],
            metadata=metadata,
        )
    except FileNotFoundError as missing:
        raise BadDirection(
            f"{folder} is no direction artifact: no {Path(missing.filename or TENSORS).name} in it."
        ) from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as broken:
        raise BadDirection(
            f"{folder} is no direction artifact, or a damaged one: {broken}; extract it anew."
        ) from None


def _check_index(metadata: dict[str, Any], name: str, known: range) -> None:
    """A ValueError where `metadata` has a position or layer that no candidate has."""
    if name in metadata and (type(metadata[name]) is not int or metadata[name] not in known):
        raise ValueError(
            f"its {name} is {metadata[name]!r}, not an integer from {known.start} to "
            f"{known.stop - 1}"
        )
