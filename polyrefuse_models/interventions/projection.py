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

    The projection is taken in the finer of the two precisions. Where they are one, it is two calls
    of torch, since a hook's time in decoding is that of its calls.
    """
    if x.dtype != r.dtype:
        wide = torch.promote_types(x.dtype, r.dtype)
        return ablate(x.to(wide), r.to(wide), coefficient).to(x.dtype)
    return torch.addcmul(x, (x @ r).unsqueeze(-1), r, value=-coefficient)


def ablate_rows(
    x: Float[Tensor, "... d"], r: Float[Tensor, "candidate d"], coefficient: float = 1.0
) -> Float[Tensor, "... d"]:
    """`ablate` with a unit vector of its own for each row of a batch, or for as many rows each.

    Args:
        x: [row, token, d], or [row * token, d] as some mixtures of experts return it; the rows of
            the first vector come first.
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

    All of them go at once: the coordinates are one matrix product, and the rest is another that
    subtracts what it computes, so that a hook makes as many calls of torch as `ablate` does.
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

    It is the affine concept editing of arXiv 2411.09003 without its last term, where `value` is the
    component of the mean of harmless prompts. It is computed as `ablate` is.
    """
    if x.dtype != r.dtype:
        wide = torch.promote_types(x.dtype, r.dtype)
        return set_along(x.to(wide), r.to(wide), value.to(wide)).to(x.dtype)
    return torch.addcmul(x, (value - x @ r).unsqueeze(-1), r)


def orthogonal_to(direction: Float[Tensor, "d"], other: Float[Tensor, "d"]) -> Float[Tensor, "d"]:
    """The direction without its part along another vector, in float64: r - (r.m) m / |m|^2.

    Args:
        direction: of any length; what is left of it is not normalised.
        other: of any length but 0.
    """
    r, m = direction.double(), other.double()
    return r - (r @ m) / (m @ m) * m


def orthonormal(vectors: Float[Tensor, "rank d"]) -> Float[Tensor, "rank d"]:
    """Each vector less its part along those before it, with length 1 (Gram and Schmidt); float64.

    Args:
        vectors: linearly independent, of any length.
    """
    basis, triangle = torch.linalg.qr(vectors.double().T)
    return (basis * triangle.diagonal().sign()).T.contiguous()


def add(x: Float[Tensor, "... d"], direction: Float[Tensor, "d"]) -> Float[Tensor, "... d"]:
    """Add the direction, not normalised (2505.17306, eq. 2; 2406.11717, sec. 2.4)."""
    return x + direction.to(x.dtype)


def add_rows(
    x: Float[Tensor, "row token d"], directions: Float[Tensor, "candidate d"]
) -> Float[Tensor, "row token d"]:
    """Add a vector of its own to each row of a batch, or to as many rows each."""
    rows = x.reshape(len(directions), -1, directions.shape[-1])
    return (rows + directions.unsqueeze(1).to(x.dtype)).view(x.shape)


class Copies:
    """A tensor where a hook needs it: one copy a device and type, since a model may be spread over
    several devices, and a copy made anew at every call would be most of the call's time.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._made: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def at(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """The copy on `device` in `dtype`."""
        made = self._made.get((device, dtype))
        if made is None:
            # One that is made while answers are generated may be used in training afterwards.
            with torch.inference_mode(False):
                made = self._made[device, dtype] = self._tensor.to(device, dtype)
        return made
