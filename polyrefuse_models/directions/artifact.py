"""Write and read a direction artifact: a folder with tensors, scores and metadata."""

from __future__ import annotations

import hashlib
import os
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

    from polyrefuse_models.directions.select import Candidate

TENSORS, SCORES = "direction.safetensors", "scores.json"


TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
"""The number types that a direction may have."""


NEAR = 1e-3
"""How far the vectors of a subspace may be from orthonormal. Rounding errors are smaller."""


CONTROLS = ("random",)
"""The kinds of control that an artifact may hold (`directions.control`)."""


class BadDirection(UserError):
    """A direction artifact that cannot be used."""


@dataclass(frozen=True)
class Direction:
    """A refusal direction and its provenance.

    Attributes:
        direction: the chosen direction, in float32, not normalised.
        candidates: the direction at each position and layer, in float32, not normalised.
        scores: the scores of every candidate.
        metadata: model and revision, source language, data checksums, position, layer,
            post-instruction tokens, refusal tokens, versions.
        harmless_mean: mean residual state of the harmless prompts that the direction was made from,
            in float32, at the position of the direction. It has a row for the input of every block,
            and a last row for what the last block passes on. None in a file with one vector, and in
            artifacts of earlier versions.
        subspace: orthonormal vectors in float32, of which the first is the direction with length 1
            (`directions.subspace`). None as for `harmless_mean`.
    """

    direction: Float[Tensor, "d"]
    candidates: Float[Tensor, "position layer d"]
    scores: list[Candidate] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    harmless_mean: Float[Tensor, "layer+1 d"] | None = None
    subspace: Float[Tensor, "rank d"] | None = None

    @property
    def sha256(self) -> str:
        """The checksum of the chosen direction's numbers. It does not depend on the file."""
        return checksum(self.direction)

    def check(self, width: int, origin: str) -> None:
        """Refuse a direction that cannot be ablated from a residual stream of a given width.

        Args:
            width: the number of dimensions of the residual stream.
            origin: where the direction comes from, for messages.

        Raises:
            BadDirection: the direction or its harmless mean has another width or type, or has NaN
                or infinite entries; or the direction is the zero vector.
        """
        if self.direction.dtype not in TYPES:
            raise BadDirection(
                f"{origin}: the direction is of type {self.direction.dtype}; save it as one of "
                f"{', '.join(map(str, TYPES))}."
            )
        if self.direction.shape != (width,):
            raise BadDirection(
                f"{origin}: the direction has shape {tuple(self.direction.shape)}, and the model's "
                f"residual stream has {width} dimensions; extract a direction from this model."
            )
        if not torch.isfinite(self.direction).all():
            raise BadDirection(
                f"{origin}: the direction has NaN or infinite entries; extract it again."
            )
        if not self.direction.any():
            raise BadDirection(f"{origin}: the direction is the zero vector; extract it again.")
        mean = self.harmless_mean
        if mean is None:
            return
        if mean.dtype not in TYPES:
            raise BadDirection(
                f"{origin}: the harmless mean is of type {mean.dtype} and not one of "
                f"{', '.join(map(str, TYPES))}; extract it again."
            )
        if mean.shape[-1] != width:
            raise BadDirection(
                f"{origin}: the harmless mean has {mean.shape[-1]} dimensions, and the direction "
                f"has {width}; extract it again."
            )
        if not torch.isfinite(mean).all():
            raise BadDirection(
                f"{origin}: the harmless mean has NaN or infinite entries; extract it again."
            )

    def require_harmless_mean(self, wanted_by: str, origin: str) -> Float[Tensor, "layer+1 d"]:
        """Return the harmless mean.

        Args:
            wanted_by: what needs the mean, as the user asked for it, such as "ablation=affine".
            origin: where the direction comes from, for messages.

        Raises:
            BadDirection: the direction has no harmless mean.
        """
        if self.harmless_mean is None:
            raise BadDirection(
                f"{wanted_by} needs the mean of harmless prompts, which {origin} does not hold; "
                "extract the direction again with `polyrefuse direction extract`."
            )
        return self.harmless_mean

    def require_subspace(self, rank: int, origin: str) -> Float[Tensor, "rank d"]:
        """Return the first vectors of the subspace.

        Args:
            rank: how many vectors are needed.
            origin: where the direction comes from, for messages.

        Raises:
            BadDirection: the subspace has fewer vectors.
        """
        there = 1 if self.subspace is None else len(self.subspace)
        if self.subspace is None or there < rank:
            raise BadDirection(
                f"rank={rank} needs {rank} vectors, and {origin} holds {there}; extract the "
                f"direction again with `polyrefuse direction extract --rank {rank}`."
            )
        return self.subspace[:rank]

    def warn_of_another_model(self, config: PretrainedConfig) -> None:
        """Warn if the metadata names another model or revision than `config` does."""
        warn_of_another_model("The direction was extracted from", self.metadata, config)


def checksum(numbers: Tensor) -> str:
    """Compute the sha256 of a tensor's numbers in float32. The tensor has to be on the CPU."""
    return hashlib.sha256(numbers.float().contiguous().numpy().tobytes()).hexdigest()


def save(
    direction: Direction, folder: str | Path, pictures: Mapping[str, bytes] | None = None
) -> None:
    """Write the artifact completely or not at all.

    Args:
        direction: the direction.
        folder: a folder that does not exist yet.
        pictures: the contents of pictures by file name, to write beside tensors, scores and
            metadata.

    Raises:
        CannotWrite: `folder` exists already, or cannot be written.
    """
    tensors = {
        # safetensors refuses shared memory, and the direction is usually a view of its candidate.
        "direction": direction.direction.float().clone(),
        "candidates": direction.candidates.float().clone(),
    }
    if direction.harmless_mean is not None:
        tensors["harmless_mean"] = direction.harmless_mean.float().clone()
    if direction.subspace is not None:
        tensors["subspace"] = direction.subspace.float().clone()
    artifact_folder.write(
        Path(folder),
        tensors={TENSORS: tensors},
        documents={
            SCORES: [candidate.record() for candidate in direction.scores],
            METADATA: direction.metadata,
        },
        pictures=pictures,
    )


def load(folder: str | Path, option: str = "", otherwise: str = "") -> Direction:
    """Read an artifact.

    Args:
        folder: the artifact.
        option: the option that named the folder, such as "--direction ", for messages.
        otherwise: what may be given instead of an artifact, as the end of a message's sentence.

    Raises:
        BadDirection: there is no such folder, a file in it is missing or cannot be read, or no
            candidate has the `position` and `layer` that its metadata names.
    """
    from polyrefuse_models.directions.select import Candidate

    folder = Path(folder)
    if not os.path.isdir(folder):
        raise BadDirection(
            f"{option}{folder} is not a folder; give a direction artifact, which is the folder "
            f"that `polyrefuse direction extract` writes ({TENSORS}, {SCORES} and {METADATA})"
            f"{otherwise}."
        )
    with artifact_folder.damage_as(
        BadDirection, folder, kind="direction artifact", remedy="extract it again"
    ):
        tensors, metadata = artifact_folder.read(folder, TENSORS)
        scores = artifact_folder.read_document(folder / SCORES)
        n_positions, n_layers, width = tensors["candidates"].shape
        _check_index(metadata, "position", range(-n_positions, 0))
        _check_index(metadata, "layer", range(n_layers))
        if metadata.get("control") not in (None, *CONTROLS):
            raise ValueError(f"its control is {metadata['control']!r}, not {CONTROLS[0]}")
        mean = tensors.get("harmless_mean")
        if mean is not None and mean.shape != (n_layers + 1, width):
            raise ValueError(
                f"its harmless_mean has shape {tuple(mean.shape)}, not {(n_layers + 1, width)}"
            )
        subspace = tensors.get("subspace")
        if subspace is not None:
            _check_subspace(subspace, tensors["direction"])
        return Direction(
            direction=tensors["direction"],
            subspace=subspace,
            candidates=tensors["candidates"],
            harmless_mean=mean,
            scores=[Candidate(**row) for row in scores],
            metadata=metadata,
        )


def _check_subspace(subspace: Tensor, direction: Float[Tensor, "d"]) -> None:
    """Refuse vectors that do not form the subspace of a direction.

    Raises:
        ValueError: the vectors have another shape than (rank, d), are not orthonormal, or the first
            does not have the direction's direction.
    """
    if subspace.dim() != 2 or subspace.shape[1:] != direction.shape or not len(subspace):
        raise ValueError(
            f"its subspace has shape {tuple(subspace.shape)}, not (rank, {len(direction)})"
        )
    wide, r = subspace.double(), direction.double()
    if not ((wide @ wide.T - torch.eye(len(wide), dtype=wide.dtype)).abs() < NEAR).all():
        raise ValueError("the vectors of its subspace are not orthonormal")
    if r.any() and not (wide[0] - r / r.norm()).norm() < NEAR:
        raise ValueError("the first vector of its subspace is not its direction")


def _check_index(metadata: dict[str, Any], name: str, indices: range) -> None:
    """Refuse a position or layer that no candidate has.

    Raises:
        ValueError: `metadata[name]` is not among `indices`.
    """
    if name in metadata and (type(metadata[name]) is not int or metadata[name] not in indices):
        raise ValueError(
            f"its {name} is {metadata[name]!r}, not an integer from {indices.start} to "
            f"{indices.stop - 1}"
        )
