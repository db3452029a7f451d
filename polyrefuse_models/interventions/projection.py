"""The operations on the residual stream, as pure functions of tensors."""

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

    The projection is computed in the finer of the two precisions. If both have the same precision,
    the function makes only two calls of torch, because in decoding the calls are what a hook costs.
    """
    if x.dtype != r.dtype:
        wide = torch.promote_types(x.dtype, r.dtype)
        return ablate(x.to(wide), r.to(wide), coefficient).to(x.dtype)
    return torch.addcmul(x, (x @ r).unsqueeze(-1), r, value=-coefficient)


def ablate_rows(
    x: Float[Tensor, "... d"], r: Float[Tensor, "candidate d"], coefficient: float = 1.0
) -> Float[Tensor, "... d"]:
    """Ablate a different unit vector in each row of a batch, or in each of equal groups of rows.

    Args:
        x: [row, token, d], or [row * token, d] as some mixtures of experts return it. The rows of
            the first vector come first.
        r: the unit vectors, [candidate, d].
        coefficient: the share of the component that is removed.
    """
    if x.dtype != r.dtype:
        wide = torch.promote_types(x.dtype, r.dtype)
        return ablate_rows(x.to(wide), r.to(wide), coefficient).to(x.dtype)
    rows = x.reshape(len(r), -1, r.shape[-1])
    along = torch.bmm(rows, r.unsqueeze(-1))
    return torch.addcmul(rows, along, r.unsqueeze(1), value=-coefficient).view(x.shape)


def ablate_span(
    x: Float[Tensor, "... d"], basis: Float[Tensor, "rank d"], coefficient: float = 1.0
) -> Float[Tensor, "... d"]:
    """Remove the part of `x` in the span of orthonormal vectors, or a share of it: x - x R^T R.

    One matrix product computes the coordinates, and a second one subtracts the vectors, so a hook
    makes no more calls of torch than with `ablate`.
    """
    if x.dtype != basis.dtype:
        wide = torch.promote_types(x.dtype, basis.dtype)
        return ablate_span(x.to(wide), basis.to(wide), coefficient).to(x.dtype)
    rows = x.reshape(-1, x.shape[-1])
    return torch.addmm(rows, rows @ basis.T, basis, alpha=-coefficient).view(x.shape)


def set_along(
    x: Float[Tensor, "... d"], r: Float[Tensor, "d"], value: Float[Tensor, ""]
) -> Float[Tensor, "... d"]:
    """Set the component of `x` along the unit vector `r`: x - (x.r) r + value r.

    If `value` is the component of the mean of harmless prompts, this is the affine concept editing
    of arXiv 2411.09003 without its last term. The precision is that of `ablate`.
    """
    if x.dtype != r.dtype:
        wide = torch.promote_types(x.dtype, r.dtype)
        return set_along(x.to(wide), r.to(wide), value.to(wide)).to(x.dtype)
    return torch.addcmul(x, (value - x @ r).unsqueeze(-1), r)


def orthogonal_to(direction: Float[Tensor, "d"], other: Float[Tensor, "d"]) -> Float[Tensor, "d"]:
    """Return a direction without its part along another vector: r - (r.m) m / |m|^2, in float64.

    Args:
        direction: the direction r, of any length. The result is not normalised.
        other: the vector m, of any length but 0.
    """
    r, m = direction.double(), other.double()
    return r - (r @ m) / (m @ m) * m


def orthonormal(vectors: Float[Tensor, "rank d"]) -> Float[Tensor, "rank d"]:
    """Orthonormalise vectors in the given order (Gram and Schmidt), in float64.

    Args:
        vectors: linearly independent vectors of any length.
    """
    basis, triangle = torch.linalg.qr(vectors.double().T)
    return (basis * triangle.diagonal().sign()).T.contiguous()


def add(x: Float[Tensor, "... d"], direction: Float[Tensor, "d"]) -> Float[Tensor, "... d"]:
    """Add a direction without normalising it (2505.17306, eq. 2; 2406.11717, sec. 2.4)."""
    return x + direction.to(x.dtype)


def add_rows(
    x: Float[Tensor, "row token d"], directions: Float[Tensor, "candidate d"]
) -> Float[Tensor, "row token d"]:
    """Add a different vector to each row of a batch, or to each of equal groups of rows."""
    rows = x.reshape(len(directions), -1, directions.shape[-1])
    return (rows + directions.unsqueeze(1).to(x.dtype)).view(x.shape)


class Copies:
    """Copies of a tensor for hooks, one for each device and type.

    A model may be spread over several devices, and a new copy at every call would take most of the
    call's time.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._made: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def at(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the copy on `device` in `dtype`."""
        made = self._made.get((device, dtype))
        if made is None:
            # A copy that is made during generation may be used in training later.
            with torch.inference_mode(False):
                made = self._made[device, dtype] = self._tensor.to(device, dtype)
        return made
