"""The subspace that refusal lies in: a refusal direction, and what is beside it.

One direction may not be all of it: different things may be refused along different directions, and
languages may have directions of their own. The evidence is either of two matrices, of states at the
direction's own position and layer (`OF`):

- "prompts": a row for each harmful prompt that the model refuses, its state less the mean state of
  the harmless prompts that it answers;
- "languages": a row for each language, its refusal direction with length 1.

The first vector is the direction r, so that the subspace of rank 1 is plain ablation's. The others
are the right singular vectors of the evidence without its part along r, the one that most of it
lies along first. So they are orthonormal, and each rank's subspace is in the next one's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from polyrefuse_models.directions.extract import difference_of_means, observe
from polyrefuse_models.directions.filtering import filtered
from polyrefuse_models.directions.refusal import refusal_tokens
from polyrefuse_models.interventions import orthonormal
from polyrefuse_shared.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float
    from torch import Tensor

    from polyrefuse_models.chat_model import ChatModel
    from polyrefuse_models.directions.prompts import Prompts

OF = ("prompts", "languages")
"""What the vectors beside the direction may be singular vectors of."""

RANK = 5
"""Of the subspace that every artifact holds, where its prompts have as many dimensions."""

LEAST = 1e-4
"""Of the largest singular value of the evidence: what is smaller is rounding, in any direction."""


class NoSubspace(UserError):
    """A rank or evidence that no subspace can be made of."""


@dataclass(frozen=True)
class Asked:
    """Which subspace is asked for.

    Attributes:
        rank: None for `RANK`, or as many as there are.
        of: one of `OF`.
        others: prompts of the other languages whose states are evidence.
    """

    rank: int | None = None
    of: str = OF[0]
    others: Sequence[Prompts] = ()

    def __post_init__(self) -> None:
        if self.of not in OF:
            raise NoSubspace(f"--subspace-of {self.of} is not known; use one of {', '.join(OF)}.")
        if self.of == "languages" and not self.others:
            raise NoSubspace(
                "--subspace-of languages needs the directions of several languages; name them with "
                "--langs."
            )
        most = 1 + len(self.others)
        if self.of == "languages" and self.rank is not None and self.rank > most:
            raise NoSubspace(
                f"--rank {self.rank} is more than the directions of {most} languages can span; "
                "name more with --langs, or take --subspace-of prompts."
            )


@dataclass(frozen=True)
class Subspace:
    """A direction and what is beside it.

    Attributes:
        vectors: orthonormal, float32; the first is the direction.
        explained: share of the evidence's squared length along each of them.
        n: rows of the evidence.
    """

    vectors: Float[Tensor, "rank d"]
    explained: list[float]
    n: int


def span(
    direction: Float[Tensor, "d"], evidence: Float[Tensor, "n d"], rank: int | None = None
) -> Subspace:
    """The direction, and the singular vectors of the evidence beside it; in float64.

    A singular vector's sign is arbitrary: its largest entry is made positive.

    Args:
        direction: of any length but 0.
        evidence: what the other vectors are singular vectors of.
        rank: how many there are in all; None for `RANK`, or as many as there are.

    Raises:
        NoSubspace: the evidence has fewer dimensions.
    """
    r = direction.double() / direction.double().norm()
    wide = evidence.double()
    beside = wide - torch.outer(wide @ r, r)
    _, values, rows = torch.linalg.svd(beside, full_matrices=False)
    there = 1 + int((values > LEAST * torch.linalg.matrix_norm(wide, 2)).sum())
    if rank is not None and rank > there:
        raise NoSubspace(
            f"--rank {rank} is more than the {there} dimensions that the direction and "
            f"{len(evidence)} differences span; give at most {there}."
        )
    others = rows[: min(there, rank or RANK) - 1]
    largest = others.gather(1, others.abs().argmax(1, keepdim=True))
    basis = orthonormal(torch.cat([r[None], others * largest.sign()]))
    along = (wide @ basis.T).square().sum(0) / wide.square().sum()
    return Subspace(basis.float(), along.tolist(), len(evidence))


def differences(
    refused: Float[Tensor, "prompt d"], answered: Float[Tensor, "prompt d"]
) -> Float[Tensor, "prompt d"]:
    """Each refused prompt's state less the mean of the answered ones, in float64."""
    return refused.double() - answered.double().mean(0)


def find_subspace(
    chat: ChatModel,
    direction: Float[Tensor, "d"],
    refused: Float[Tensor, "prompt d"],
    answered: Float[Tensor, "prompt d"],
    asked: Asked,
    *,
    language: str,
    place: tuple[int, int],
    reads_tokens: bool,
    warnings: list[str],
) -> tuple[Float[Tensor, "rank d"], dict[str, Any]]:
    """The subspace of a direction that was extracted.

    Args:
        chat: the model.
        direction: as chosen.
        refused: states of its harmful training prompts, at its position and layer.
        answered: of its harmless ones.
        asked: which subspace.
        language: of those prompts.
        place: the position and layer.
        reads_tokens: as of the rule that the direction was chosen by.
        warnings: gets what speaks against other languages' prompts.

    Returns:
        its vectors, and what the artifact's metadata say of them.

    Raises:
        NoSubspace: there is none of that rank.
    """
    states = [(refused, answered)]
    for prompts in asked.others:
        states.append(states_at(chat, prompts, place, reads_tokens, warnings))
    if asked.of == "languages":
        means = [difference_of_means(*of_language).double() for of_language in states]
        evidence = torch.stack([mean / mean.norm() for mean in means])
    else:
        evidence = torch.cat([differences(*of_language) for of_language in states])
    found = span(direction, evidence, asked.rank)
    return found.vectors, {
        "rank": len(found.vectors),
        "of": asked.of,
        "langs": [language, *(prompts.language for prompts in asked.others)],
        "n": found.n,
        "explained": found.explained,
    }


def states_at(
    chat: ChatModel,
    prompts: Prompts,
    place: tuple[int, int],
    reads_tokens: bool,
    warnings: list[str],
) -> tuple[Float[Tensor, "prompt d"], Float[Tensor, "prompt d"]]:
    """States of a language's refused and of its answered training prompts, at one place.

    Args:
        chat: the model.
        prompts: of the language.
        place: a position and layer.
        reads_tokens: whether refusal tokens tell which prompts the model refuses and answers; all
            of them are taken otherwise.
        warnings: gets a sentence where few of them are refused, or answered.
    """
    position, layer = place
    harmful = observe(chat, prompts.harmful["train"], -position)
    harmless = observe(chat, prompts.harmless["train"], -position)
    tokens = refusal_tokens(harmful.logits, harmless.logits) if reads_tokens else None
    which = f"training, {prompts.language},"
    refused = filtered(f"harmful {which}", harmful, tokens, True, warnings)
    answered = filtered(f"harmless {which}", harmless, tokens, False, warnings)
    return harmful.states[refused, position, layer], harmless.states[answered, position, layer]
