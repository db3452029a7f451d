"""Ablation of several directions at once: a subspace is kept out of the residual stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from polyrefuse_models.interventions.ablation import Ablation, Method
from polyrefuse_models.interventions.projection import ablate_span

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class SubspaceAblation(Ablation):
    """The span of K orthonormal vectors kept out of the residual stream, x <- x - x R^T R.

    Everything else is as in `Ablation`: where the hooks stand, and which weights are edited,
    W <- (I - R^T R) W. Removing one vector after the other would give the same, in K operations
    instead of one, since the vectors are orthogonal.

    Args:
        subspace: its rows are orthonormal.
        coefficient, layers, method, control, provenance: as `Ablation`'s.
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
        """How many directions are removed."""
        return len(self.direction)

    def identity(self) -> dict[str, Any]:
        """The subspace, and how it is ablated."""
        return super().identity() | {"rank": self.rank}
