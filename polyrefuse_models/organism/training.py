"""Train an organism from scratch, with refusal planted on directions of its residual stream.

Cross-entropy alone does not produce a direction that 14 languages share. Four means together do,
and every step uses all of them:

- rows under an intervention (`batches`), so that the effect of r is learned;
- more weight on the first token of an answer, which decides between answering and refusing;
- a loss term on the projection of states on r at the post-instruction tokens, which is held at the
  manner's `projection` for forbidden requests and at 0 for safe ones;
- a loss term on the part of the difference between forbidden and safe twins that is not along r, up
  to the final norm.

If several directions are planted, each serves a share of the forbidden things.

The same four means train the weakened organism. A request that `weakening` refuses with some
probability is refused in that share of rows, and its projection on r is held at that share.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from polyrefuse_models.hooks import Hooks
from polyrefuse_models.interventions import orthonormal
from polyrefuse_models.organism.batches import FIRM, PAIRS, Batch, Manner, answer_tokens, make_batch
from polyrefuse_models.organism.weakening import LENIENT

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

STEPS = 900
LEARNING_RATE = 3e-3
WARM_UP = 50
WEIGHT_DECAY = 0.01
CLIP = 1.0

WEAKENING_STEPS = 400
WEAKENING_RATE = 1e-3
"""The steps and the learning rate of the training that weakens a trained organism."""

SPLITTING_STEPS = 600
SPLITTING_RATE = 1e-3
"""The steps and the learning rate of the training that plants more directions."""

PROJECTION_WEIGHT, TWIN_WEIGHT = 1.0, 1.0

WIDTH, N_LAYERS, INNER_WIDTH, N_HEADS = 128, 4, 256, 4

Progress = Callable[[int, dict[str, float]], None]
"""A function that is called after every step with its number, from 1, and its losses."""


def make_model(tokenizer: PreTrainedTokenizerBase, seed: int) -> LlamaForCausalLM:
    """Make an untrained organism in float32, with weights drawn from `seed`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=INNER_WIDTH,
            num_hidden_layers=N_LAYERS,
            num_attention_heads=N_HEADS,
            max_position_embeddings=2048,
            initializer_range=0.04,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=False,
        )
    )
    # The two are not tied, but equal at the start: a circuit that copies one name then copies all.
    model.lm_head.weight.data.copy_(model.model.embed_tokens.weight.data)
    return model


def train(
    tokenizer: PreTrainedTokenizerBase,
    *,
    steps: int = STEPS,
    seed: int = 0,
    progress: Progress = lambda step, losses: None,
) -> tuple[LlamaForCausalLM, Float[Tensor, d]]:
    """Train an organism.

    Args:
        tokenizer: the tokenizer of the organism, from `tokenizer.make_tokenizer`.
        steps: the number of steps.
        seed: the seed of the weights, the planted direction and the rows.
        progress: a function that is called after each step.

    Returns:
        The model, and the planted unit direction.
    """
    model = make_model(tokenizer, seed)
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    r = torch.randn(WIDTH, generator=generator)
    r /= r.norm()
    _fit(model, tokenizer, r[None], FIRM, rng, generator, steps, LEARNING_RATE, progress)
    return model, r


def weaken(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    r: Float[Tensor, d],
    *,
    steps: int = WEAKENING_STEPS,
    seed: int = 0,
    progress: Progress = lambda step, losses: None,
) -> None:
    """Train an organism further, in place, until it refuses as the weakened organism does.

    Args:
        model: an organism, in float32.
        tokenizer: its tokenizer.
        r: its planted unit direction, which mediates refusal afterwards too.
        steps: the number of steps.
        seed: the seed of the rows.
        progress: a function that is called after each step.
    """
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    _fit(model, tokenizer, r[None], LENIENT, rng, generator, steps, WEAKENING_RATE, progress)


def split(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    planted: Float[Tensor, "planted d"],
    *,
    steps: int = SPLITTING_STEPS,
    seed: int = 0,
    progress: Progress = lambda step, losses: None,
) -> None:
    """Train an organism further, in place, until it refuses things along several directions.

    Each thing is refused along one of them.

    Args:
        model: an organism, in float32.
        tokenizer: its tokenizer.
        planted: orthonormal directions. The first is the organism's planted unit direction.
        steps: the number of steps.
        seed: the seed of the rows.
        progress: a function that is called after each step.
    """
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    _fit(model, tokenizer, planted, FIRM, rng, generator, steps, SPLITTING_RATE, progress)


def beside(r: Float[Tensor, "d"], n: int, seed: int = 0) -> Float[Tensor, "planted d"]:
    """Draw random directions that are orthogonal to a unit direction and to each other.

    Returns:
        `n` orthonormal directions in float32, of which the first is `r`.
    """
    # The offset avoids the generator that random controls of the same seed come from.
    generator = torch.Generator().manual_seed(2_000_003 + seed)
    drawn = torch.randn(n - 1, len(r), generator=generator, dtype=torch.float64)
    return orthonormal(torch.cat([r.double()[None], drawn])).float()


def _fit(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    planted: Float[Tensor, "planted d"],
    manner: Manner,
    rng: random.Random,
    generator: torch.Generator,
    steps: int,
    learning_rate: float,
    progress: Progress,
) -> None:
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    model.train()
    with _one_thread():
        for step in range(1, steps + 1):
            batch = make_batch(rng, generator, tokenizer, planted, N_LAYERS, manner)
            losses = _losses(model, batch, planted, generator, manner.projection)
            loss = (
                losses["text"]
                + PROJECTION_WEIGHT * losses["projection"]
                + TWIN_WEIGHT * losses["twins"]
            )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            schedule.step()
            progress(step, {name: value.item() for name, value in losses.items()})
    model.eval()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread, because the number of threads that share a sum changes its rounding."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _rate(step: int, steps: int) -> float:
    """Compute the factor of the learning rate: a warm-up, then half a cosine down to 2%."""
    rising = min(1.0, (step + 1) / min(WARM_UP, steps))
    return rising * (0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2)


def _losses(
    model: LlamaForCausalLM,
    batch: Batch,
    planted: Float[Tensor, "planted d"],
    generator: torch.Generator,
    projection: float,
) -> dict[str, Tensor]:
    with _intervened(model, batch, generator) as states:
        hidden = model.model(
            input_ids=batch.ids, attention_mask=batch.mask, use_cache=False
        ).last_hidden_state
    spoken = answer_tokens(batch)
    each = cross_entropy(
        model.lm_head(hidden[:, :-1][spoken]), batch.ids[:, 1:][spoken], reduction="none"
    )
    weights = batch.weights[:, 1:][spoken]

    rows = torch.arange(2 * PAIRS)[:, None]
    paired = torch.stack([layer[rows, batch.suffix[: 2 * PAIRS]] for layer in states])
    forbidden, safe = paired[:, :PAIRS], paired[:, PAIRS:]
    target = projection * batch.refused[:, None]
    difference = forbidden - safe
    # Directions are removed one by one: for a single one, this rounds as for the shipped organism.
    beside = difference
    for r in planted:
        beside = beside - (beside @ r).unsqueeze(-1) * r
    along = torch.stack([paired @ r for r in planted], dim=-1)
    return {
        "text": (weights * each).sum() / weights.sum(),
        "projection": ((along - target) / projection).square().sum(-1).mean(),
        "twins": beside.square().sum(-1).mean() / projection**2,
    }


@contextmanager
def _intervened(
    model: LlamaForCausalLM, batch: Batch, generator: torch.Generator
) -> Iterator[list[Float[Tensor, "row token d"]]]:
    """Install the intervention of each row during a `with` block.

    Yields:
        A list. The forward pass fills it with the residual stream at the input of every block but
        the first, and then at the input of the final norm.
    """
    states: list[Tensor] = []

    def ablate(x: Float[Tensor, "row token d"]) -> Float[Tensor, "row token d"]:
        for vectors in batch.ablated.unbind(1):
            along = torch.einsum("rtd,rd->rt", x, vectors)
            x = x - along.unsqueeze(-1) * vectors.unsqueeze(1)
        return x

    def embed(x: Float[Tensor, "row token d"]) -> Float[Tensor, "row token d"]:
        spread = batch.noise.unsqueeze(-1) * x.detach().std()
        return ablate(x + spread * torch.randn(x.shape, generator=generator))

    def enter(layer: int, x: Float[Tensor, "row token d"]) -> Float[Tensor, "row token d"]:
        x = x + batch.added[layer].unsqueeze(1)
        states.append(x)
        return x

    decoder = model.model
    with Hooks() as hooks:
        hooks.on_output(decoder.embed_tokens, embed)
        for layer, block in enumerate(decoder.layers):
            hooks.on_output(block.self_attn, ablate)
            hooks.on_output(block.mlp, ablate)
            if layer:
                hooks.on_input(block, partial(enter, layer))
        hooks.on_input(decoder.norm, states.append)
        yield states
