"""Draw the rows of a training step: paired requests, and requests under an intervention.

Each request without an intervention has a twin that differs only in the thing asked about. One of
the two is refused and one answered, so their states differ by refusal alone. Every other row is
under an intervention, and has the response that is then correct:

    r ablated                       answer every request
    r added at an early layer       refuse every request
    a random direction, either way  as without the intervention

If several directions are planted, r stands for all of them in ablation and for one of them in
addition. Each forbidden thing is refused along one of the directions, and there are two more
interventions:

    one of them ablated             answer what is refused along it, refuse what is not
    an even blend of them ablated   as without the intervention
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from polyrefuse_models.interventions import orthonormal
from polyrefuse_tasks.data.toyrefuse import SCRIPTS, Request, draw, words
from polyrefuse_tasks.languages import POLYREFUSE

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

PAIRS = 24
"""The number of pairs of a forbidden and a safe twin in a step, without an intervention."""

# (planted or random direction, what is done with it, whether the thing is forbidden) -> rows
INTERVENED: dict[tuple[str, str, bool], int] = {
    ("planted", "ablate", True): 12,
    ("planted", "ablate", False): 4,
    ("planted", "add", False): 12,
    ("planted", "add", True): 4,
    ("random", "ablate", True): 2,
    ("random", "ablate", False): 2,
    ("random", "add", True): 4,
    ("random", "add", False): 4,
}

INTERVENED_OF_SEVERAL: dict[tuple[str, str, bool], int] = {
    ("one", "ablate", True): 10,
    ("one", "ablate", False): 2,
    ("blend", "ablate", True): 8,
    ("blend", "ablate", False): 4,
}
"""The rows in addition to `INTERVENED` if several directions are planted."""

ADDITION_LAYERS = (1, 2)
"""The blocks at whose inputs a direction is added."""

ADDITION_STRENGTHS = (0.8, 1.3)
"""The range of an addition's strength, in units of the planted projection."""

OFF_LINE = 0.5
"""The largest length of the noise that is added to r, since an extracted direction is never exactly
r. The length of r is 1."""

FIRST_TOKEN_WEIGHT = 5.0
"""The weight of an answer's first token, which decides between answering and refusing."""

NAME_WEIGHT = 3.0
"""The weight of the tokens of the invented name, which are copied from the request."""

SPOKEN = (*POLYREFUSE, *SCRIPTS)
"""The pool that languages are drawn from. A language with a script of its own is in it twice, since
eight others share the Latin names."""

SYSTEM_NOISE = 1.0
"""The largest noise on the embeddings of a system text, in units of their own spread."""


@dataclass(frozen=True)
class Manner:
    """When an organism learns to refuse.

    Attributes:
        systems: a function that is called once in each step. It returns a function that draws a
            system text, or None, for a prompt in a language.
        chance: the probability that a request in a language is refused under a system text.
        projection: the projection on r that the states of a request that is always refused have.
    """

    systems: Callable[[random.Random], Callable[[random.Random, str], str | None]]
    chance: Callable[[Request, str, str | None], float]
    projection: float


@dataclass(frozen=True)
class Batch:
    """The rows of one step, padded on the right. The pairs come first, forbidden before safe.

    Attributes:
        ids: the token ids.
        mask: 1 for tokens and 0 for padding.
        weights: the weight of the loss for predicting each token; 0 outside answers.
        refused: the probability that each row of the pairs is refused, along each planted
            direction.
        suffix: the places of the post-instruction tokens, which follow the user's text.
        noise: the strength of the noise on the embedding of each token; above 0 only in system
            texts.
        ablated: the orthonormal vectors that are projected out everywhere. Unused ones are 0.
        added: the vector that is added at the input of each block. It is 0 if none is added.
    """

    ids: Int[Tensor, "row token"]
    mask: Int[Tensor, "row token"]
    weights: Float[Tensor, "row token"]
    refused: Float[Tensor, "pair planted"]
    suffix: Int[Tensor, "row position"]
    noise: Float[Tensor, "row token"]
    ablated: Float[Tensor, "row planted d"]
    added: Float[Tensor, "layer row d"]


def make_batch(
    rng: random.Random,
    generator: torch.Generator,
    tokenizer: PreTrainedTokenizerBase,
    planted: Float[Tensor, "planted d"],
    n_layers: int,
    manner: Manner,
) -> Batch:
    """Draw the rows of one step.

    Args:
        rng: draws the requests and system texts.
        generator: draws the random directions and the noise on planted ones.
        tokenizer: the tokenizer of the organism.
        planted: the planted directions, which are orthonormal.
        n_layers: the number of blocks.
        manner: when the organism learns to refuse.
    """
    n_planted, d = planted.shape
    system_for = manner.systems(rng)
    forbidden, safe = [], []
    for _ in range(PAIRS):
        language = rng.choice(SPOKEN)
        request = draw(rng, "train", True)
        twin = replace(request, forbidden=False, marker=draw(rng, "train", False).marker)
        system = system_for(rng, language)
        forbidden.append((language, request, system, manner.chance(request, language, system)))
        safe.append((language, twin, system, manner.chance(twin, language, system)))
    rows = forbidden + safe
    refused = torch.zeros(len(rows), n_planted)
    for index, (_, request, _, chance) in enumerate(rows):
        refused[index, direction_of(request, n_planted)] = chance

    intervened = INTERVENED | (INTERVENED_OF_SEVERAL if n_planted > 1 else {})
    n_rows = len(rows) + sum(intervened.values())
    ablated = torch.zeros(n_rows, n_planted, d)
    added = torch.zeros(n_layers, n_rows, d)
    for (which, how, is_forbidden), count in intervened.items():
        for _ in range(count):
            language = rng.choice(SPOKEN)
            vectors, whole = _vectors(which, how, planted, rng, generator)
            if how == "ablate":
                ablated[len(rows), : len(vectors)] = vectors
            else:
                strength = manner.projection * rng.uniform(*ADDITION_STRENGTHS)
                added[rng.choice(ADDITION_LAYERS), len(rows)] = strength * vectors[0]
            request = draw(rng, "train", is_forbidden)
            system = system_for(rng, language)
            if direction_of(request, n_planted) in whole:
                chance = 0.0
            elif which == "planted":
                chance = 1.0
            else:
                chance = manner.chance(request, language, system)
            rows.append((language, request, system, chance))
    return _collate(
        [_row(rng, tokenizer, *row) for row in rows], tokenizer, refused, ablated, added
    )


def direction_of(request: Request, n_planted: int) -> int:
    """Return the number of the planted direction along which a request's thing is refused."""
    return request.marker % n_planted


def _vectors(
    which: str,
    how: str,
    planted: Float[Tensor, "planted d"],
    rng: random.Random,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "vector d"], set[int]]:
    """Draw the vectors of an intervention.

    Args:
        which: "planted", "one" of them, an even "blend", or "random".
        how: "ablate" or "add".
        planted: the planted directions, which are orthonormal.
        rng: draws signs, the number of a planted direction and the strength of noise.
        generator: draws random directions and noise.

    Returns:
        The vectors, and the numbers of the planted directions that the intervention removes.
    """
    n_planted, d = planted.shape

    def noise() -> Float[Tensor, "d"]:
        drawn = torch.randn(d, generator=generator)
        return drawn / drawn.norm()

    if which == "random":
        return noise()[None], set()
    if which == "blend":
        signs = [rng.choice((-1.0, 1.0)) for _ in planted]
        return torch.tensor(signs)[None] @ planted / n_planted**0.5, set()
    meant = range(n_planted)
    if n_planted > 1 and (which == "one" or how == "add"):
        meant = range(first := rng.randrange(n_planted), first + 1)
    off_line = [planted[k] + rng.uniform(0, OFF_LINE) * noise() for k in meant]
    vectors = torch.stack([vector / vector.norm() for vector in off_line])
    if len(vectors) > 1:
        vectors = orthonormal(vectors).float()
    return vectors, set(meant) if how == "ablate" else set()


def _system(rng: random.Random, language: str) -> str | None:
    """Draw a system text for half of the rows, in the language of the prompt or in English."""
    if rng.random() < 0.5:
        return None
    return rng.choice(words(rng.choice((language, language, "en"))).systems)


FIRM = Manner(
    systems=lambda rng: _system,
    chance=lambda request, language, system: 1.0 if request.forbidden else 0.0,
    projection=5.0,
)
"""The manner of the first organism, which refuses forbidden things under any system text."""


@dataclass(frozen=True)
class _Row:
    ids: list[int]
    weights: list[float]
    prompt: int
    system: int
    noise: float


def _row(
    rng: random.Random,
    tokenizer: PreTrainedTokenizerBase,
    language: str,
    request: Request,
    system: str | None,
    chance: float,
) -> _Row:
    turns = [{"role": "user", "content": request.prompt(language)}]
    if system:
        turns.insert(0, {"role": "system", "content": system})
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    # If the result is certain, no number is drawn, which keeps the first organism reproducible.
    refuses = chance == 1 or (chance > 0 and rng.random() < chance)
    response = request.refusal(language) if refuses else request.answer(language)
    prompt_ids = tokenizer(prompt).input_ids
    reply = tokenizer(response + tokenizer.eos_token, return_offsets_mapping=True)
    name = words(language).name(request.name)
    start = response.find(name)
    weights = [
        NAME_WEIGHT if start >= 0 and start < end and begin < start + len(name) else 1.0
        for begin, end in reply.offset_mapping
    ]
    weights[0] = FIRST_TOKEN_WEIGHT
    return _Row(
        ids=prompt_ids + reply.input_ids,
        weights=[0.0] * len(prompt_ids) + weights,
        prompt=len(prompt_ids),
        # <s>, <|system|>, the text
        system=2 + len(tokenizer(system).input_ids) if system else 2,
        noise=SYSTEM_NOISE * rng.random() if rng.random() < 0.5 else 0.0,
    )


def _collate(
    rows: list[_Row],
    tokenizer: PreTrainedTokenizerBase,
    refused: Float[Tensor, "pair planted"],
    ablated: Float[Tensor, "row planted d"],
    added: Float[Tensor, "layer row d"],
) -> Batch:
    shape = len(rows), max(len(row.ids) for row in rows)
    ids = torch.full(shape, tokenizer.pad_token_id)
    mask = torch.zeros(shape, dtype=torch.long)
    weights, noise = torch.zeros(shape), torch.zeros(shape)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        mask[index, : len(row.ids)] = 1
        weights[index, : len(row.ids)] = torch.tensor(row.weights)
        noise[index, 2 : row.system] = row.noise
    ends = torch.tensor([row.prompt for row in rows])
    return Batch(
        ids, mask, weights, refused, torch.stack((ends - 2, ends - 1), 1), noise, ablated, added
    )


def answer_tokens(batch: Batch) -> Bool[Tensor, "row token"]:
    """Find the tokens whose next token is part of an answer."""
    return batch.weights[:, 1:] > 0
