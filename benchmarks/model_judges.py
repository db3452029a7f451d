"""Compare a judge's model that reads answers in batches with one that reads them one at a time.

    python -m benchmarks.model_judges [--answers 64] [--batch-size 32] [--rounds 5] [--json]

A tiny random model of Qwen3Guard's architecture judges invented answers with Qwen3Guard's prompt.
The program times the generation of a verdict, and the single forward pass of a verdict that is one
token. The two ways take turns in one process. Each ratio compares times of the same round, and the
program prints the minimum, median and maximum.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from polyrefuse_tasks.judge_engines.engine import Engine, Loading
from polyrefuse_tasks.judge_engines.loading import load
from polyrefuse_tasks.judge_models.formats import Rendered
from polyrefuse_tasks.judge_models.qwen3guard import Qwen3Guard
from tests.models import make_tokenizer

TOKENS = {"verdict": 24, "one token": 1}


def save(folder: Path) -> str:
    """Save a random Qwen3 that is so small that the cost of a call outweighs that of a token.

    Returns:
        The folder.
    """
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "qwen3",
        vocab_size=len(tokenizer),
        hidden_size=32,
        head_dim=8,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def seconds(engine: Engine, prompts: list[Rendered], tokens: int) -> float:
    """Return the seconds that the engine takes for all prompts."""
    begin = time.perf_counter()
    engine.complete(prompts, tokens)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    format = Qwen3Guard()
    prompts = [
        format.prompt(f"Invented question {n}?", "An invented answer. " * (1 + n % 7))
        for n in range(asked.answers)
    ]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        model = save(Path(folder))
        single, batched = (
            load(Loading(model, engine="transformers", device=asked.device, batch_size=size))
            for size in (1, asked.batch_size)
        )
        for name, tokens in TOKENS.items():
            assert single.complete(prompts[:8], tokens) == batched.complete(prompts[:8], tokens)
            taken = [
                (seconds(single, prompts, tokens), seconds(batched, prompts, tokens))
                for _ in range(asked.rounds)
            ]
            ratios = sorted(one / many for one, many in taken)
            found[name] = {
                "one at a time, answers/s": asked.answers / statistics.median(a for a, _ in taken),
                "in batches, answers/s": asked.answers / statistics.median(b for _, b in taken),
                "ratio": [ratios[0], statistics.median(ratios), ratios[-1]],
            }
    if asked.json:
        print(json.dumps(found))
        return
    for name, figures in found.items():
        least, median, most = figures["ratio"]
        print(f"{name}: {median:.1f} times as many answers/s in batches of {asked.batch_size} "
              f"({least:.1f} to {most:.1f})")  # fmt: skip


if __name__ == "__main__":
    main()
