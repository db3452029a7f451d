"""Compare the harmfulness direction with the refusal direction by the angle between them.

A model represents harmfulness and refusal separately (2507.11878). The state at the last token of
the user's text separates harmful from harmless prompts. The state at the last token of the chat
template, after which the answer begins, shows whether the model will refuse. Each direction is the
difference of the mean states of harmful and harmless prompts at its token. An angle near 90 degrees
means that harmfulness and refusal are separate in that language, so the model may recognise a
prompt as harmful and still answer it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from polyrefuse_shared.intervals import z_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Float
    from torch import Tensor

    from polyrefuse_models.directions.states import Positions

WITHOUT_TEMPLATE = (
    "the chat template puts no token after the user's text, so harmfulness and refusal are read at "
    "the same token and cannot be distinguished"
)

CLEAR = 1.0
"""A difference of means has a direction if its squared length is above so many times what the
choice of prompts adds to it. Otherwise, its angle would mostly be that of noise."""


def harmfulness(
    means: Mapping[str, Float[Tensor, "kind=2 token=2 layer d"]],
    noise: Mapping[str, Float[Tensor, "token=2 token=2 layer"]],
    states: Mapping[
        str, tuple[Float[Tensor, "harmful token=2 d"], Float[Tensor, "harmless token=2 d"]]
    ],
    layer: int,
    unit: Float[Tensor, "d"],
    positions: Positions,
) -> dict[str, Any]:
    """Compute the angle between the two directions, by language and layer.

    Args:
        means: `Seen.means` of the prompts of each language; English is among the languages.
        noise: `Seen.noise` of the prompts of each language.
        states: `Seen.at_layer` of the harmful and of the harmless prompts of each language, at
            least two of each, at the layer of the refusal direction.
        layer: the layer of the refusal direction.
        unit: a unit vector along the refusal direction, in float64.
        positions: the tokens that were read.

    Returns:
        `user` and `last` are the positions of the two tokens. `languages` has, at the layer of the
        refusal direction, the `cosine` and the `angle` (in degrees) between the two directions of
        each language, without the bias that comes from estimating them from few prompts, and the
        ends `angle_low` and `angle_high` of the angle's 95% interval. It also has
        `harmfulness_against_direction` and `refusal_against_direction` (the cosine of each with the
        given direction), and `harmfulness_against_english` (the cosine with the harmfulness
        direction of English). `layers` has the `cosine` and `angle` of each language at every
        layer. An angle is null if a difference of means is not longer than `CLEAR`
        demands. If the template puts no token after the user's text, `languages` and `layers` are
        null, and `note` says so.
    """
    places = {"user": positions.user, "last": positions.last}
    if not positions.has_template:
        return {**places, "languages": None, "layers": None, "note": WITHOUT_TEMPLATE}
    # [token, layer, d]: harmfulness at the first token, refusal at the second.
    directions = {language: of[0] - of[1] for language, of in means.items()}
    angles = {
        language: _degrees(
            torch.einsum("tld,sld->lts", of, of), noise[language].permute(2, 0, 1), CLEAR
        ).tolist()
        for language, of in directions.items()
    }
    n_layers = next(iter(directions.values())).shape[1]
    english = directions["en"][0, layer]
    return {
        **places,
        "languages": {
            language: _between(angles[language][layer])
            | dict(zip(("angle_low", "angle_high"), angle_interval(*states[language]), strict=True))
            | {
                "harmfulness_against_direction": _cosine(of[0, layer], unit),
                "refusal_against_direction": _cosine(of[1, layer], unit),
                "harmfulness_against_english": _cosine(of[0, layer], english),
            }
            for language, of in directions.items()
        },
        "layers": [
            {
                "layer": at,
                "languages": {language: _between(of[at]) for language, of in angles.items()},
            }
            for at in range(n_layers)
        ],
        "note": None,
    }


def angle_interval(
    harmful: Float[Tensor, "harmful token=2 d"], harmless: Float[Tensor, "harmless token=2 d"]
) -> tuple[float, float] | tuple[None, None]:
    """Compute the 95% interval of the angle between the two directions of one language.

    The variance of the angle comes from the jackknife over prompts (Efron, The Jackknife, the
    Bootstrap and Other Resampling Plans, 1982, ch. 2): from the angles without each single prompt.
    The interval covers the chance by which these prompts were chosen.

    Args:
        harmful: the states of at least three harmful prompts, at the tokens of harmfulness and of
            refusal.
        harmless: the states of at least three harmless prompts, at the same tokens.

    Returns:
        The lower and upper end in degrees, between 0 and 180. Both are None with fewer prompts, and
        where there is no angle, with all prompts or without one of them.
    """
    kinds = [kind.double() for kind in (harmful, harmless)]
    if min(map(len, kinds)) < 3:
        return None, None
    direction = kinds[0].mean(0) - kinds[1].mean(0)
    around = [kind - kind.mean(0) for kind in kinds]
    scatters = [torch.einsum("ptd,psd->ts", of, of) for of in around]
    noise = [
        scatter / (len(of) * (len(of) - 1)) for scatter, of in zip(scatters, around, strict=True)
    ]
    angle = _degrees(direction @ direction.T, noise[0] + noise[1], CLEAR)
    variance = torch.zeros((), dtype=torch.float64)
    for kind, sign in ((0, 1), (1, -1)):
        n, scatter, other = len(around[kind]), scatters[kind], noise[1 - kind]
        without = direction - sign * around[kind] / (n - 1)
        own = torch.einsum("ptd,psd->pts", around[kind], around[kind])
        left = (scatter - own * n / (n - 1)) / ((n - 1) * (n - 2))
        angles = _degrees(torch.einsum("ptd,psd->pts", without, without), left + other)
        variance += angles.var(correction=0) * (n - 1)
    spread = z_value() * variance.sqrt()
    if not spread.isfinite() or not angle.isfinite():
        return None, None
    return (angle - spread).clamp(min=0).item(), (angle + spread).clamp(max=180).item()


def _between(angle: float) -> dict[str, float | None]:
    if math.isnan(angle):
        return {"cosine": None, "angle": None}
    return {"cosine": math.cos(math.radians(angle)), "angle": angle}


def _degrees(
    products: Float[Tensor, "*any token=2 token=2"],
    noise: Float[Tensor, "*any token=2 token=2"],
    least: float = 0.0,
) -> Float[Tensor, "*any"]:
    """Compute the angle between two directions from their inner products, without the noise.

    It is NaN where a squared length, without its noise, is not above `least` times the noise.
    """
    true = products - noise
    lengths = true.diagonal(dim1=-2, dim2=-1)
    there = lengths > least * noise.diagonal(dim1=-2, dim2=-1)
    cosine = true[..., 0, 1] / lengths.prod(-1).sqrt()
    return cosine.clamp(-1, 1).acos().rad2deg().where(there.all(-1), torch.nan)


def _cosine(one: Float[Tensor, "d"], other: Float[Tensor, "d"]) -> float | None:
    """Compute the cosine between two vectors; None if one of them is zero."""
    length = one.norm() * other.norm()
    if not length:
        return None
    return float(torch.dot(one, other).div(length).clamp(-1, 1))
