"""Ablation of several directions at once: keep a subspace out of the residual stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from polyrefuse_models.interventions.ablation import Ablation, Method
from polyrefuse_models.interventions.projection import ablate_span

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class SubspaceAblation(Ablation):
    """An intervention that keeps the span of K orthonormal vectors out of the residual stream.

    It computes x <- x - x R^T R, where the rows of R are the vectors. The hooks are in the same
    places as those of `Ablation`, or the same weights are edited, W <- (I - R^T R) W. Because the
    vectors are orthogonal, removing them one after the other would have the same result, but would
    take K operations instead of one.

    Args:
        subspace: a matrix with orthonormal rows.
        coefficient: as in `Ablation`.
        layers: as in `Ablation`.
        method: as in `Ablation`.
        control: as in `Ablation`.
        provenance: as in `Ablation`.
    """

    def __init__(
        self,
        subspace: Float[Tensor, "rank d"],
        *,
        coefficient: float = 1.0,
        layers: range | None = None,
        method: Method = "hooks",
        control: str | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            subspace,
            coefficient=coefficient,
            layers=layers,
            method=method,
            control=control,
            called="subspace-ablation",
            provenance=provenance,
        )
        self._ablate = ablate_span

    @property
    def rank(self) -> int:
        """The number of directions that are removed."""
        return len(self.direction)

    def identity(self) -> dict[str, Any]:
        """Return what identifies the subspace, and how it is ablated."""
        return super().identity() | {"rank": self.rank}
