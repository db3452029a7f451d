"""What continuous batching saves where answers are of different lengths.

    python -m benchmarks.continuous [--device cuda] [--tiny] [--rounds 3]

512 requests to one random Llama, 90% of them with answers of 40 tokens and 10% of 512, through the
wrapper's `generate_until`: static batches of 64 and continuous batching take turns, warm. The ratio
is that of each round (above 1 continuous is faster), so that a machine that slows down slows both.
A random model ends no answer where it should, so each token is made to be followed by one of its
own: the last of a prompt by the first of a short or a long chain, at whose end the answer ends.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from lm_eval.api.instance import Instance
from transformers import LlamaConfig, LlamaForCausalLM

from polyrefuse_models.wrappers.hf import BaselineHF
from tests.models import SPECIAL, make_tokenizer

LONG_SHARE = 10
"""One request in so many has a long answer."""


@dataclass(frozen=True)
class Shape:
    """A Llama's shape, and the work that it is given.

    Attributes:
        requests: how many, of which one in `LONG_SHARE` has a long answer.
        short, long: tokens of the answers.
        batch: rows of a static batch.
    """

    width: int = 3584
    layers: int = 28
    heads: int = 28
    key_value_heads: int = 4
    inner: int = 18944
    vocabulary: int = 152_064
    requests: int = 512
    short: int = 40
    long: int = 512
    batch: int = 64


QWEN_7B = Shape()
"""Qwen2.5-7B's."""

TINY = Shape(
    width=64, layers=2, heads=4, key_value_heads=2, inner=128, vocabulary=len(SPECIAL) + 512,
    requests=64, short=8, long=96, batch=8,
)  # fmt: skip
"""What a CPU does in seconds."""


@dataclass(frozen=True)
class Round:
    """Seconds that each took in one round, and tokens that both wrote."""

    static: float
    continuous: float
    tokens: int

    @property
    def ratio(self) -> float:
        """How many times as fast continuous batching was."""
        return self.static / self.continuous


def make_model(shape: Shape, device: str, dtype: torch.dtype) -> LlamaForCausalLM:
    """A random Llama in evaluation mode, made on the device."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        max_position_embeddings=4096,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    config._attn_implementation = "sdpa"
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)


def chain(model: LlamaForCausalLM, shape: Shape, starts: dict[int, int]) -> None:
    """Have each token followed by the next one, and the last by the token that ends an answer.

    Args:
        model: whose logits are changed, in place and without a look at anything but its input.
        shape: of the model.
        starts: tokens of each answer, by the last token of its prompt.
    """
    following = torch.arange(1, shape.vocabulary + 1) % shape.vocabulary
    first = len(SPECIAL) + 256  # behind the tokenizer's own
    for token, length in starts.items():
        following[token] = first
        first += length - 1
        following[first - 1] = model.config.eos_token_id
    following = following.to(model.device)

    def follow(_model: Any, _args: Any, kwargs: dict[str, Any], output: Any) -> None:
        logits, kept = output.logits, kwargs.get("logits_to_keep")
        ids = kwargs["input_ids"]
        ids = ids[:, kept] if isinstance(kept, torch.Tensor) else ids[:, -logits.shape[1] :]
        logits.scatter_(-1, following[ids].unsqueeze(-1), 1e4)

    model.register_forward_hook(follow, with_kwargs=True)


@contextmanager
def counted(lm: BaselineHF) -> Iterator[list[int]]:
    """Tokens of each answer that is decoded meanwhile, the one that ends it included."""
    lengths: list[int] = []
    decode, end = lm.tok_decode, lm.eot_token_id

    def count(tokens: Any, skip_special_tokens: bool = True) -> str:
        if isinstance(tokens, list):
            lengths.append(tokens.index(end) + 1)
        return decode(tokens, skip_special_tokens)

    with mock.patch.object(lm, "tok_decode", count):
        yield lengths


def measure(device: str, dtype: torch.dtype, shape: Shape, rounds: int = 3) -> list[Round]:
    """Have both ways answer the same requests in turns, after one round that is not counted.

    Raises:
        AssertionError: answers are of other lengths, or continuous batching was not taken.
    """
    model, tokenizer = make_model(shape, device, dtype), make_tokenizer()
    short, long = tokenizer("sl", add_special_tokens=False).input_ids
    chain(model, shape, {short: shape.short, long: shape.long})
    given: dict[str, Any] = {
        "pretrained": model, "tokenizer": tokenizer, "device": device, "chat": "off",
        "batch_size": shape.batch,
    }  # fmt: skip
    ways = {way: BaselineHF(**given, batching=way) for way in ("static", "continuous")}
    draw = torch.Generator().manual_seed(0)
    prompts = [
        "x" * int(torch.randint(40, 200, (1,), generator=draw)) + "sl"[place % LONG_SHARE == 0]
        for place in range(shape.requests)
    ]
    settings = {"until": [], "do_sample": False, "max_gen_toks": 2 * shape.long}
    requests = [
        Instance("generate_until", {}, (prompt, dict(settings)), 0, ("t", place, 1))
        for place, prompt in enumerate(prompts)
    ]
    longs = -(-shape.requests // LONG_SHARE)
    expected = [shape.short] * (shape.requests - longs) + [shape.long] * longs
    measured = []
    for number in range(rounds + 1):
        taken = {}
        for way, lm in ways.items():
            start = time.perf_counter()
            with counted(lm) as lengths:
                lm.generate_until(requests, disable_tqdm=True)
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            taken[way] = time.perf_counter() - start
            assert [noted["taken"] for noted in lm.notes.batching] == [way]
            assert sorted(lengths) == expected
        if number:
            measured.append(Round(taken["static"], taken["continuous"], sum(expected)))
    print(f"attention of the paged cache: {ways['continuous'].notes.batching[0]['attention']}")
    return measured


def table(measured: list[Round]) -> str:
    """Minimum, median and maximum of the rounds."""
    lines = [f"{'':12}{'minimum':>10}{'median':>10}{'maximum':>10}"]
    for name, values in {
        "static, s": [each.static for each in measured],
        "continuous, s": [each.continuous for each in measured],
        "ratio": [each.ratio for each in measured],
    }.items():
        found = (min(values), statistics.median(values), max(values))
        lines.append(f"{name:14}" + "".join(f"{value:10.2f}" for value in found))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="a shape that a CPU holds")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    shape = TINY if options.tiny else QWEN_7B
    dtype = torch.bfloat16 if options.device.startswith("cuda") else torch.float32
    measured = measure(options.device, dtype, shape, options.rounds)
    print(
        f"Llama, {shape.layers} layers of width {shape.width}, {shape.requests} requests, "
        f"{measured[0].tokens} tokens, static batches of {shape.batch}, {options.rounds} rounds"
    )
    print(table(measured))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
