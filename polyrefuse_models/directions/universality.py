"""Measure how universal refusal directions are across languages.

There are three measures, and the model generates no answers for them: the cosine between the
directions of every two languages at every layer (2505.17306, sec. 4, has it at one layer), the
share of all languages' directions that one vector explains, and the principal angles between the
languages' subspaces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from polyrefuse_models.directions.extract import cosines
from polyrefuse_models.directions.subspace import RANK, differences, span, states_at
from polyrefuse_models.interventions import orthonormal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxtyping import Float
    from torch import Tensor

    from polyrefuse_models.chat_model import ChatModel
    from polyrefuse_models.directions.artifact import Direction
    from polyrefuse_models.directions.prompts import Prompts


def by_layer(directions: Sequence[Direction], position: int) -> dict[str, Any]:
    """Compute the cosines and the explained shares at every layer, for the JSON document.

    Args:
        directions: the directions of the languages.
        position: the position of the candidates to compare.

    Returns:
        `cosine_by_layer` [layer][language][language] and `explained_by_one_by_layer` [layer]. An
        entry is None at a layer where the candidate of a language is zero, as at the embedding of a
        template token, or not finite.
    """
    candidates = torch.stack([each.candidates[position] for each in directions], dim=1)
    there = [bool((layer.any(dim=-1) & layer.isfinite().all(dim=-1)).all()) for layer in candidates]
    return {
        "cosine_by_layer": [
            cosines(layer).tolist() if any_ else None
            for layer, any_ in zip(candidates, there, strict=True)
        ],
        "explained_by_one_by_layer": [
            explained_by_one(layer) if any_ else None
            for layer, any_ in zip(candidates, there, strict=True)
        ],
    }


def explained_by_one(directions: Float[Tensor, "language d"]) -> float:
    """Compute the largest share of the languages' directions that lies along one vector.

    Each direction is scaled to length 1, so that all languages count alike. If s are the singular
    values of the matrix of directions, the share is s_1^2 / sum s_i^2. It is 1 if all directions
    are parallel, and 1 / n if n directions are at right angles.
    """
    unit = torch.nn.functional.normalize(directions.double(), dim=-1)
    squares = torch.linalg.svdvals(unit).square()
    return (squares[0] / squares.sum()).item()


def principal_angles(
    one: Float[Tensor, "rank d"], other: Float[Tensor, "rank d"]
) -> Float[Tensor, "rank"]:
    """Compute the principal angles between two subspaces in degrees, ascending.

    The cosines are the singular values of A B^T. The cosines of small angles round to 1, so small
    angles are computed from their sines, the singular values of B without its component in A
    (Knyazev and Argentati, SIAM J. Sci. Comput. 23 (2002) 2008-2040).

    Args:
        one, other: vectors that span the two subspaces, which have the same rank.
    """
    a, b = orthonormal(one), orthonormal(other)
    along = b @ a.T
    cosine = torch.linalg.svdvals(along).clamp(max=1)
    sine = torch.linalg.svdvals(b - along @ a).flip(0).clamp(max=1)
    return torch.where(cosine.square() < 0.5, cosine.acos(), sine.asin()).rad2deg()


def angles(
    subspaces: Mapping[str, Float[Tensor, "rank d"]] | str, place: tuple[int, int]
) -> dict[str, Any]:
    """Compute the principal angles between every two languages, for the JSON document.

    Args:
        subspaces: the subspaces of the languages at one place, or a sentence that says why there
            are none.
        place: their position and layer.

    Returns:
        The place, the `rank`, and the `degrees` [language][language][rank]. If there are no
        subspaces, these two are None, and `reason` says why.
    """
    at = {"position": place[0], "layer": place[1], "of": "prompts"}
    if isinstance(subspaces, str):
        return {**at, "rank": None, "degrees": None, "reason": subspaces}
    rank = min(map(len, subspaces.values()))
    first = [vectors[:rank] for vectors in subspaces.values()]
    return {
        **at,
        "rank": rank,
        "degrees": [[principal_angles(a, b).tolist() for b in first] for a in first],
        "reason": None,
    }


def subspaces_of(
    chat: ChatModel,
    directions: Mapping[str, Direction],
    prompts: Mapping[str, Prompts],
    place: tuple[int, int],
) -> dict[str, Float[Tensor, "rank d"]]:
    """Find the subspaces of the languages' per-prompt differences at one position and layer.

    The model reads the prompts of a language again if its own subspace is at another place.

    Args:
        chat: the model, without an intervention.
        directions: the directions of the languages, extracted from this model.
        prompts: the prompts that they were extracted from.
        place: a position and layer.
    """
    found = {}
    for language, direction in directions.items():
        own = kept(direction, language, place)
        if isinstance(own, str):
            reads_tokens = direction.metadata["refusal_tokens"] is not None
            states = states_at(chat, prompts[language], place, reads_tokens, [])
            own = span(direction.candidates[place], differences(*states)).vectors
        found[language] = own[:RANK]
    return found


def kept_subspaces(
    directions: Mapping[str, Direction], place: tuple[int, int]
) -> dict[str, Float[Tensor, "rank d"]] | str:
    """Collect the subspaces that were saved with directions, or say why they do not compare."""
    found = {}
    for language, direction in directions.items():
        own = kept(direction, language, place)
        if isinstance(own, str):
            return own
        found[language] = own[:RANK]
    return found


def kept(
    direction: Direction, language: str, place: tuple[int, int]
) -> Float[Tensor, "rank d"] | str:
    """Find the subspace of a language at a place, or say in a sentence why there is none."""
    made = direction.metadata.get("subspace") or {}
    named = f"The direction of {language} "
    if direction.subspace is None:
        return named + "was written without a subspace; extract it again."
    if made.get("of") != "prompts" or made.get("langs") != [language]:
        return (
            named
            + "has a subspace that does not come from the differences of its own prompts alone."
        )
    if (direction.metadata.get("position"), direction.metadata.get("layer")) != place:
        return named + (
            f"has its subspace at another place than position {place[0]}, layer {place[1]}."
        )
    return direction.subspace
