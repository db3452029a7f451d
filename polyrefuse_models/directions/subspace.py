"""Find the refusal subspace: the refusal direction and further vectors.

One direction may not carry all of a model's refusal. A model may refuse different things along
different directions, and languages may have directions of their own. The other vectors come from
one of two matrices of states at the position and layer of the direction (`OF`):

- "prompts" has a row for each harmful prompt that the model refuses: its state minus the mean state
  of the harmless prompts that the model answers;
- "languages" has a row for each language: its refusal direction with length 1.

The first vector of the subspace is the direction r, so a subspace of rank 1 gives plain ablation.
The others are the right singular vectors of the matrix without its component along r, in descending
order of their singular values. All vectors are orthonormal, and the subspace of each rank is
contained in that of the next.
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
"""The names of the matrices whose singular vectors can follow the direction."""

RANK = 5
"""The default rank of an artifact's subspace, if its prompts span as many dimensions."""

LEAST = 1e-4
"""The smallest usable singular value, as a share of the matrix's largest; below it is rounding."""


class NoSubspace(UserError):
    """A rank or a matrix that no subspace can be made from."""


@dataclass(frozen=True)
class Asked:
    """The subspace to find.

    Attributes:
        rank: the number of vectors; None for `RANK`, or fewer if the matrix has fewer.
        of: one of `OF`.
        others: the prompts of the other languages that the matrix has rows for.
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
                "name more with --langs, or use --subspace-of prompts."
            )


@dataclass(frozen=True)
class Subspace:
    """A direction and the vectors that follow it.

    Attributes:
        vectors: orthonormal vectors in float32; the first is the direction with length 1.
        explained: the share of the matrix's squared length along each vector, between 0 and 1.
        n: the number of rows of the matrix.
    """

    vectors: Float[Tensor, "rank d"]
    explained: list[float]
    n: int


def span(
    direction: Float[Tensor, "d"], evidence: Float[Tensor, "n d"], rank: int | None = None
) -> Subspace:
    """Compute the subspace of a direction and a matrix, in float64.

    The sign of a singular vector is arbitrary, so its largest entry is made positive.

    Args:
        direction: a direction of any length but 0.
        evidence: the matrix whose singular vectors follow the direction.
        rank: the number of vectors, the direction included; None for `RANK`, or fewer if the matrix
            has fewer.

    Raises:
        NoSubspace: the direction and the matrix span fewer dimensions.
    """
    r = direction.double() / direction.double().norm()
    wide = evidence.double()
    beside = wide - torch.outer(wide @ r, r)
    _, values, rows = torch.linalg.svd(beside, full_matrices=False)
    there = 1 + int((values > LEAST * torch.linalg.matrix_norm(wide, 2)).sum())
    if rank is not None and rank > there:
        raise NoSubspace(
            f"--rank {rank} is more than the {there} dimensions that the direction and the "
            f"{len(evidence)} rows of its matrix span; give at most {there}."
        )
    others = rows[: min(there, rank or RANK) - 1]
    largest = others.gather(1, others.abs().argmax(1, keepdim=True))
    basis = orthonormal(torch.cat([r[None], others * largest.sign()]))
    along = (wide @ basis.T).square().sum(0) / wide.square().sum()
    return Subspace(basis.float(), along.tolist(), len(evidence))


def differences(
    refused: Float[Tensor, "prompt d"], answered: Float[Tensor, "prompt d"]
) -> Float[Tensor, "prompt d"]:
    """Subtract the mean state of answered prompts from each refused one's state, in float64."""
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
    """Find the subspace of a direction that was extracted.

    Args:
        chat: the model.
        direction: the chosen direction.
        refused: the states of its harmful training prompts, at its position and layer.
        answered: the states of its harmless training prompts, likewise.
        asked: the subspace to find.
        language: the language of those prompts.
        place: the position and layer of the direction.
        reads_tokens: whether the rule that chose the direction reads refusal tokens.
        warnings: a list to which a sentence is added if few prompts of another language pass the
            filter.

    Returns:
        The vectors, and the entry in the metadata of the artifact.

    Raises:
        NoSubspace: there is no subspace of that rank.
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
    """Read the states of refused and of answered training prompts of a language at one place.

    Args:
        chat: the model.
        prompts: the prompts of the language.
        place: a position and layer.
        reads_tokens: whether refusal tokens decide which prompts the model refuses and answers. If
            not, all prompts are used.
        warnings: a list to which a sentence is added if few prompts pass the filter.
    """
    position, layer = place
    harmful = observe(chat, prompts.harmful["train"], -position)
    harmless = observe(chat, prompts.harmless["train"], -position)
    tokens = refusal_tokens(harmful.logits, harmless.logits) if reads_tokens else None
    which = f"training, {prompts.language},"
    refused = filtered(f"harmful {which}", harmful, tokens, True, warnings)
    answered = filtered(f"harmless {which}", harmless, tokens, False, warnings)
    return harmful.states[refused, position, layer], harmless.states[answered, position, layer]
