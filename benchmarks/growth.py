"""Measure how the cost of directions, of answers and of loading grows with their size.

    python -m benchmarks.growth [--rounds 5] [--width 64] [--json]

The cost of a direction is measured for several numbers of layers and prompts, that of answers for
several numbers of prompts and languages, and that of loading for several numbers of models and
layers. All work runs on one thread. Times are processor seconds, because other programs on the
machine affect these least.

Each row doubles one number and leaves the others as they are. The rows of a table take turns in
every round. The growth is the time of a row divided by the time of the table's first row in the
same round. Directions are extracted from random Llamas. Answers come from the bundled organism
through `lm_eval.simple_evaluate`, with judging, metrics and samples.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from polyrefuse_models.directions.prompts import Prompts, sample
from polyrefuse_models.directions.recipe import make_direction
from polyrefuse_models.wrappers.hf import BaselineHF
from polyrefuse_shared.versions import versions
from tests.evaluations import evaluate
from tests.models import save_chat_model

Table = dict[str, Callable[[], object]]
"""Maps the name of a row to the work that is timed. The other rows are compared with the first."""

LANGUAGES = ("en", "de", "zh", "yo", "ar", "ko", "es", "fr")


def first_of(prompts: Prompts, train: int, val: int) -> Prompts:
    """Return the first `train` and `val` prompts of each kind."""
    harmful, harmless = (
        {"train": kind["train"][:train], "val": kind["val"][:val]}
        for kind in (prompts.harmful, prompts.harmless)
    )
    return replace(prompts, harmful=harmful, harmless=harmless)


def model_of(folder: Path, width: int, layers: int) -> str:
    """Return the folder of a random Llama of this shape, which is made if it does not exist."""
    path = folder / f"llama-{width}-{layers}"
    if not path.is_dir():
        save_chat_model(path, width=width, layers=layers)
    return str(path)


def directions(folder: Path, width: int) -> tuple[Table, Table]:
    """Return the work of `direction=auto` without its cache, by layers and then by prompts."""
    every = sample("toyrefuse", "en", 0)

    def make(layers: int, train: int, val: int) -> Callable[[], object]:
        lm = BaselineHF(pretrained=model_of(folder, width, layers), device="cpu", batch_size=8)
        few = first_of(every, train, val)
        return lambda: make_direction(lm.chat_model, few, tokens=[40, 50, 60])

    return (
        {f"{layers} layers, 32 + 8 prompts": make(layers, 32, 8) for layers in (4, 8, 16)},
        {
            f"8 layers, {train} + {train // 4} prompts": make(8, train, train // 4)
            for train in (16, 32, 64)
        },
    )


def answers() -> tuple[Table, Table]:
    """Return evaluations of a loaded model, by prompts and then by languages."""
    lm = BaselineHF(device="cpu", batch_size=8)

    def ask(languages: int, prompts: int) -> Callable[[], object]:
        tasks = [f"toyrefuse_harmful_{language}" for language in LANGUAGES[:languages]]
        return lambda: evaluate(lm, [*tasks], limit=prompts, log_samples=True)

    return (
        {f"1 language, {prompts} prompts": ask(1, prompts) for prompts in (16, 32, 64)},
        {f"{n} languages, 16 prompts each": ask(n, 16) for n in (2, 4, 8)},
    )


def loading(folder: Path, width: int) -> tuple[Table, Table]:
    """Return the work of loading models from the disk, by models and then by layers."""

    def load(models: int, layers: int) -> Callable[[], object]:
        path = model_of(folder, width, layers)
        return lambda: [BaselineHF(pretrained=path, device="cpu") for _ in range(models)]

    return (
        {f"8 layers, {models} model(s)": load(models, 8) for models in (1, 2, 4)},
        {f"{layers} layers, 1 model": load(1, layers) for layers in (4, 8, 16)},
    )


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(table: Table, rounds: int) -> list[dict[str, object]]:
    """Time each row of a table.

    Returns:
        For each row its name, its seconds, and its seconds divided by those of the first row, each
        as the minimum, median and maximum of the rounds.
    """
    for work in table.values():
        work()  # a warm-up, so that the time of no row includes lazy imports
    timed = [{name: seconds(work) for name, work in table.items()} for _ in range(rounds)]
    first = next(iter(table))

    def spread(values: list[float]) -> list[float]:
        return [round(v, 3) for v in (min(values), statistics.median(values), max(values))]

    return [
        {
            "what": name,
            "seconds": spread([one[name] for one in timed]),
            "growth": spread([one[name] / one[first] for one in timed]),
        }
        for name in table
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables = {
            "a direction, in layers and in prompts": directions(folder, options.width),
            "answers, in prompts and in languages": answers(),
            "loading, in models and in layers": loading(folder, options.width),
        }
        measured = {
            title: [measure(table, options.rounds) for table in pair]
            for title, pair in tables.items()
        }
    if options.json:
        print(json.dumps({"rounds": options.rounds, "versions": versions(), "tables": measured}))
        return
    print(f"{options.rounds} rounds, rows in turn, 1 thread; " + ", ".join(
        f"{name} {version}" for name, version in versions().items()
    ))  # fmt: skip
    for title, pair in measured.items():
        print(f"\n{title:36}{'processor s: min, median, max':>34}{'growth: min, median, max':>30}")
        for row in (row for table in pair for row in table):
            low, middle, high = row["seconds"]
            least, usual, most = row["growth"]
            print(
                f"{row['what']:36}{low:14.2f}{middle:10.2f}{high:10.2f}"
                f"{least:14.2f}{usual:8.2f}{most:8.2f}"
            )


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
