"""What is done to the residual stream, as pure functions of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def ablate(
    x: Float[Tensor, "... d"], r: Float[Tensor, "d"], coefficient: float = 1.0
) -> Float[Tensor, "... d"]:
    """Remove the component of `x` along the unit vector `r` (2505.17306, eq. 3), or a share of it.

    The projection is taken in the finer of the two precisions: a dot product over thousands of
    dimensions in bfloat16 would lose it.
    """
    wide = torch.promote_types(x.dtype, r.dtype)
    rows, r = x.to(wide).flatten(0, -2), r.to(wide)
    return torch.addr(rows, rows @ r, r, alpha=-coefficient).view(x.shape).to(x.dtype)


def ablate_rows(
    x: Float[Tensor, "... d"], r: Float[Tensor, "row d"], coefficient: float = 1.0
) -> Float[Tensor, "... d"]:
    """`ablate` with a unit vector of its own for each row of a batch.

    Args:
        x: [row, token, d], or [row * token, d] as some mixtures of experts return it.
    """
    wide = torch.promote_types(x.dtype, r.dtype)
    rows, r = x.to(wide).reshape(len(r), -1, r.shape[-1]), r.to(wide)[:, None]
    cleaned = rows - coefficient * (rows * r).sum(-1, keepdim=True) * r
    return cleaned.view(x.shape).to(x.dtype)


def add(
    x: Float[Tensor, "... d"], direction: Float[Tensor, "d"], coefficient: float = 1.0
) -> Float[Tensor, "... d"]:
    """Add the direction, not normalised (2505.17306, eq. 2; 2406.11717, sec. 2.4)."""
    return x + (coefficient * direction).to(x.dtype)
