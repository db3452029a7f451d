"""Compare continuous batches with static batches of one size where few answers are long.

    python -m benchmarks.batching [--device cuda] [--dtype bfloat16] [--shape 7b] [--requests 512]

The answers are scripted in the weights. The embedding of a token is so large that the unembedding
sees nothing else, and the unembedding answers each token with the next token of a chain. The last
letter of the prompt selects the chain: nine of ten requests get a chain of 40 tokens, and the tenth
gets a chain of 512. All ways must therefore give the same answers in any dtype. The weights cost as
much time as any others of their shape.

All ways go through `baseline-hf`: static batches, continuous batches as `batching=continuous` makes
them, and continuous batches with the SDPA attention that the model is loaded with. The set-up of
continuous batching (its cache and its CUDA graphs) is timed separately, and the ratios are printed
with and without it.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from lm_eval.api.instance import Instance
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.random_model import SHAPES, make_model
from benchmarks.rounds import ratios, seconds, spread
from polyrefuse_models.wrappers import continuous
from polyrefuse_models.wrappers.hf import BaselineHF
from tests.models import make_tokenizer

SHORT, LONG = "s", "l"
"""The last letters of a prompt with a short answer and of a prompt with a long answer."""


@torch.no_grad()
def script(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, short: int, long: int
) -> None:
    """Make the model give a short or a long answer, as the last letter of the prompt says.

    The function changes the model's weights in place. It also adds the tokens of the answers to the
    tokenizer, so that the text of an answer shows its tokens.

    Args:
        short: the number of tokens of the answer to a prompt that ends with `SHORT`.
        long: the number of tokens of the answer to a prompt that ends with `LONG`.

    Raises:
        SystemExit: the model's vocabulary is too small for both chains.
    """
    embedding = model.get_input_embeddings().weight
    unembedding = model.get_output_embeddings().weight
    end = model.config.eos_token_id
    next_id = len(tokenizer)
    for letter, length in ((SHORT, short), (LONG, long)):
        chain = [tokenizer.convert_tokens_to_ids(letter)]
        chain += range(next_id, next_id + length - 1)
        next_id += length - 1
        if next_id > model.config.vocab_size:
            raise SystemExit(f"The chains need {next_id} tokens, which the vocabulary lacks.")
        tokenizer.add_tokens([f"<{token}>" for token in chain[1:]])
        for here, follows in zip(chain, [*chain[1:], end], strict=True):
            unit = torch.nn.functional.normalize(torch.randn_like(embedding[here]), dim=0)
            embedding[here] = 1e3 * embedding.shape[1] ** 0.5 * unit
            # Both chains lead to the end token, so its row is the sum of their vectors.
            if follows == end:
                unembedding[end] += 2 * unit
            else:
                unembedding[follows] = 2 * unit


def make_requests(n: int, tokens: int) -> list[Instance]:
    """Return `n` requests in random order. Nine in ten ask for a short answer.

    Args:
        tokens: the largest number of tokens that an answer may have.
    """
    draw = random.Random(0)
    kinds = [LONG if i % 10 == 0 else SHORT for i in range(n)]
    draw.shuffle(kinds)
    settings = {"until": [], "do_sample": False, "max_gen_toks": tokens}
    return [
        Instance(
            "generate_until",
            {},
            (f"{'.' * draw.randrange(20, 60)} {i} {kind}", dict(settings)),
            0,
            ("batching", i, 1),
        )
        for i, kind in enumerate(kinds)
    ]


WAYS: dict[str, dict[str, str]] = {
    "static": {"batching": "static"},
    "continuous": {"batching": "continuous"},
    "continuous, SDPA": {"batching": "continuous", "attn_implementation": "sdpa"},
}
"""The name of each way, and its arguments of `baseline-hf`."""


def make_ways(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, device: str, batch_size: int
) -> dict[str, BaselineHF]:
    """Wrap the same model in `baseline-hf` in each of `WAYS`."""
    return {
        name: BaselineHF(
            pretrained=model,
            tokenizer=tokenizer,
            device=device,
            batch_size=batch_size,
            chat="off",
            **arguments,
        )
        for name, arguments in WAYS.items()
    }


def answer(lm: BaselineHF, requests: list[Instance]) -> list[str]:
    return lm.generate_until(requests, disable_tqdm=True)


@contextmanager
def set_up_timed(device: str) -> Iterator[list[float]]:
    """Collect the seconds that it takes to make each manager of continuous batching.

    The context manager yields the list, which grows while its block runs.
    """
    make, taken = continuous._made, []

    def timed(*arguments: Any) -> Any:
        made: list[Any] = []
        taken.append(seconds(lambda: made.append(make(*arguments)), device))
        return made[0]

    with patch.object(continuous, "_made", timed):
        yield taken


def _answer_into(given: list[str], lm: BaselineHF, requests: list[Instance]) -> None:
    given += answer(lm, requests)


def measure(
    ways: dict[str, BaselineHF],
    requests: list[Instance],
    warm: list[Instance],
    device: str,
    rounds: int,
) -> list[dict[str, float]]:
    """Time each way in each round. The requests of `warm` come first and are not counted.

    Returns:
        One dictionary for each round with the seconds of each way by its name. The seconds of a
        continuous way are the sum of "NAME, set-up" and "NAME, warm".

    Raises:
        SystemExit: a way was not used as requested, or the answers are not those of the script.
    """
    for name, lm in ways.items():
        answer(lm, warm)
        if [noted["taken"] for noted in lm.notes.batching] != [WAYS[name]["batching"]]:
            raise SystemExit(f"{name}: the model did not batch in this way: {lm.notes.batching}")
    measured = []
    for _ in range(rounds):
        entry: dict[str, float] = {}
        given: dict[str, list[str]] = {}
        for name, lm in ways.items():
            given[name] = []
            with set_up_timed(device) as set_up:
                entry[name] = seconds(partial(_answer_into, given[name], lm, requests), device)
            check(given["static"], given[name])
            if name != "static":
                if not set_up or len(lm.notes.batching) > 1:
                    raise SystemExit(
                        f"{name}: the model gave up this way of batching: {lm.notes.batching}"
                    )
                entry[f"{name}, set-up"] = sum(set_up)
                entry[f"{name}, warm"] = entry[name] - sum(set_up)
        measured.append(entry)
    return measured


def check(static: list[str], continuous: list[str]) -> None:
    """Check the answers of two ways.

    Raises:
        SystemExit: the answers of the two ways differ, or there are not two different answers, as
            in the script.
    """
    differing = sum(one != other for one, other in zip(static, continuous, strict=True))
    if differing:
        raise SystemExit(
            f"Static and continuous batches differ in {differing} of {len(static)} answers."
        )
    if len(set(static)) > 2:
        raise SystemExit(
            f"The model gave {len(set(static))} different answers, and its script has two."
        )


def attention(lm: BaselineHF) -> str:
    """Return the name of the attention implementation that continuous batching used."""
    (noted,) = lm.notes.batching
    return str(noted["attention"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--requests", type=int, default=128)
    parser.add_argument(
        "--short", type=int, default=40, help="tokens of nine answers out of ten (default: 40)"
    )
    parser.add_argument(
        "--long", type=int, default=512, help="tokens of every tenth answer (default: 512)"
    )
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    model = make_model(SHAPES[asked.shape], asked.device, getattr(torch, asked.dtype))
    tokenizer = make_tokenizer()
    script(model, tokenizer, asked.short, asked.long)
    ways = make_ways(model, tokenizer, asked.device, asked.batch_size)
    requests = make_requests(asked.requests, asked.long)
    warm = make_requests(asked.batch_size, asked.short)
    rounds = measure(ways, requests, warm, asked.device, asked.rounds)
    taken = {name: attention(lm) for name, lm in ways.items() if name != "static"}
    print(f"attention of the paged cache: {taken}; n = {asked.rounds} rounds, ways in turn")
    print(f"{'':48}{'min':>9}{'median':>9}{'max':>9}")
    figures = {f"{name}, s": spread([entry[name] for entry in rounds]) for name in rounds[0]}
    for name in taken:
        figures[f"static / {name}, set-up counted"] = ratios(rounds, "static", name)
        figures[f"static / {name}, warm"] = ratios(rounds, "static", f"{name}, warm")
    for what, figure in figures.items():
        print(f"{what:48}{figure.least:9.2f}{figure.median:9.2f}{figure.most:9.2f}")


if __name__ == "__main__":
    main()
