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


def harmfulness(
    means: Mapping[str, Float[Tensor, "kind=2 token=2 layer d"]],
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
        states: `Seen.at_layer` of the harmful and of the harmless prompts of each language, at
            least two of each, at the layer of the refusal direction.
        layer: the layer of the refusal direction.
        unit: a unit vector along the refusal direction, in float64.
        positions: the tokens that were read.

    Returns:
        `user` and `last` are the positions of the two tokens. `languages` has, at the layer of the
        refusal direction, the `cosine` and the `angle` (in degrees) between the two directions of
        each language, the ends `angle_low` and `angle_high` of the angle's 95% interval,
        `harmfulness_against_direction` and `refusal_against_direction` (the cosine of each with the
        given direction), and `harmfulness_against_english` (the cosine with the harmfulness
        direction of English). `layers` has the `cosine` and `angle` of each language at every
        layer. A value is null if a difference of means is zero. If the template puts no token after
        the user's text, `languages` and `layers` are null, and `note` says so.
    """
    places = {"user": positions.user, "last": positions.last}
    if not positions.has_template:
        return {**places, "languages": None, "layers": None, "note": WITHOUT_TEMPLATE}
    # [token, layer, d]: harmfulness at the first token, refusal at the second.
    directions = {language: of[0] - of[1] for language, of in means.items()}
    n_layers = next(iter(directions.values())).shape[1]
    english = directions["en"][0, layer]
    return {
        **places,
        "languages": {
            language: _between(*of[:, layer])
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
                "languages": {
                    language: _between(*of[:, at]) for language, of in directions.items()
                },
            }
            for at in range(n_layers)
        ],
        "note": None,
    }


def angle_interval(
    harmful: Float[Tensor, "harmful token=2 d"], harmless: Float[Tensor, "harmless token=2 d"]
) -> tuple[float, float] | tuple[None, None]:
    """Compute the 95% interval of the angle between the two directions of one language.

    The method is the delta method (infinitesimal jackknife; Efron, The Jackknife, the Bootstrap and
    Other Resampling Plans, 1982, ch. 6): to first order, the angle changes by the mean over the
    prompts of how far each prompt turns the two directions, and the variance of such a mean is
    known. The interval covers the chance by which these prompts were chosen. It does not correct
    the angle's bias.

    Args:
        harmful: the states of at least two harmful prompts, at the tokens of harmfulness and of
            refusal.
        harmless: the states of at least two harmless prompts, at the same tokens.

    Returns:
        The lower and upper end in degrees, between 0 and 180. Both are None if a direction is zero
        or the two are parallel.
    """
    kinds = [kind.double() for kind in (harmful, harmless)]
    direction = kinds[0].mean(0) - kinds[1].mean(0)
    length = direction.norm(dim=-1, keepdim=True)
    cosine = _cosine(*direction)
    if cosine is None or abs(cosine) == 1:
        return None, None
    unit = direction / length
    # The angle falls fastest if each direction turns towards the part of the other that is
    # perpendicular to it. The shorter a direction is, the further a prompt turns it.
    towards = torch.nn.functional.normalize(unit.flip(0) - cosine * unit, dim=-1) / length
    variance = sum((kind * towards).sum((1, 2)).var() / len(kind) for kind in kinds)
    spread = z_value() * math.degrees(variance**0.5)
    angle = math.degrees(math.acos(cosine))
    return max(0.0, angle - spread), min(180.0, angle + spread)


def _between(
    harmfulness: Float[Tensor, "d"], refusal: Float[Tensor, "d"]
) -> dict[str, float | None]:
    cosine = _cosine(harmfulness, refusal)
    angle = None if cosine is None else math.degrees(math.acos(cosine))
    return {"cosine": cosine, "angle": angle}


def _cosine(one: Float[Tensor, "d"], other: Float[Tensor, "d"]) -> float | None:
    """Compute the cosine between two vectors; None if one of them is zero."""
    length = one.norm() * other.norm()
    if not length:
        return None
    return float(torch.dot(one, other).div(length).clamp(-1, 1))
