"""Measure hooks, selection, the checksum of weights and continuous batches on one GPU.

    python -m benchmarks.gpu [--output FILE.json]
    python -m benchmarks.gpu --tiny --device cpu

Without arguments the program uses random weights in the shape of Qwen2.5-7B, in bfloat16, on one
GPU. It downloads nothing and should take less than eight minutes. The compared methods take turns
in each round. Each ratio compares two times of the same round, and n is the number of rounds. The
six sweeps of selection are timed on every tenth candidate.

The JSON file is written after each part. If a part fails, the program prints a line with the
reason, continues with the other parts, and ends with exit code 1. `--tiny` runs the same code on a
tiny model, whose figures say nothing about a GPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import transformers
from transformers import PreTrainedModel

from benchmarks import batching, hooks, selection
from benchmarks.random_model import SHAPES, make_model
from benchmarks.rounds import Spread, ratios, seconds, spread
from polyrefuse_models import cudnn_attention
from polyrefuse_models.anatomy import dissect
from polyrefuse_models.chat_model import default_rows
from polyrefuse_models.directions.search import score_all, search
from polyrefuse_models.weights import weights_checksum
from polyrefuse_shared.versions import versions
from tests.models import make_tokenizer


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        prefill: the numbers of rows and of tokens in a batch of prompts that the model reads.
        decode_rows: the sizes of the batches that the model answers.
        decode_tokens: the number of tokens of an answer.
        prompts: the number of prompts of each kind in selection.
        rows: the number of rows of a forward pass in selection, besides the device's default.
        all_scores_rows: the number of rows of a forward pass when every candidate is scored.
        sampled: the number of candidates on which the six sweeps are timed.
        requests, short, long, batch_size: the options of `benchmarks.batching`.
        rounds: the number of rounds for work that takes less than a second.
        long_rounds: the number of rounds for work that takes longer.
        batching_rounds: the number of rounds of continuous and static batches, which take minutes.
    """

    prefill: tuple[int, int]
    decode_rows: tuple[int, ...]
    decode_tokens: int
    prompts: int
    rows: tuple[int, ...]
    all_scores_rows: int
    sampled: int
    requests: int
    short: int
    long: int
    batch_size: int
    rounds: int
    long_rounds: int
    batching_rounds: int


FULL = Sizes((64, 256), (1, 64), 48, 32, (32, 128), 32, 14, 512, 40, 512, 64, 5, 3, 1)
TINY = Sizes((4, 16), (1, 4), 8, 4, (4,), 4, 4, 24, 5, 20, 8, 2, 1, 2)


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        what: a name of what was measured.
        figure: the spread of the ratios or of the seconds.
        unit: the unit of the figure.
        target: the bound of the median; None for a line that only informs.
        least: whether the target is a lower bound. Otherwise it is an upper bound.
    """

    what: str
    figure: Spread
    unit: str
    target: float | None = None
    least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the median meets the target; None if there is no target."""
        if self.target is None:
            return None
        median = self.figure.median
        return median >= self.target if self.least else median <= self.target

    def record(self) -> dict[str, Any]:
        """Return the line as it stands in the JSON file."""
        return vars(self) | {"figure": self.figure._asdict(), "met": self.met}

    def text(self) -> str:
        """Return the line as it is printed."""
        figures = "".join(f"{value:9.3f}" for value in self.figure[:3]) + f"{self.figure.n:4}"
        target = "" if self.target is None else f"{'>=' if self.least else '<='} {self.target:g}"
        met = {True: "met", False: "missed", None: ""}[self.met]
        return f"{self.what:66}{figures}  {self.unit:18}{target:9}{met}"


def of_hooks(model: PreTrainedModel, device: str, sizes: Sizes) -> Iterator[Line]:
    """Compare prefill and decode under each condition with hf."""
    ways = hooks.conditions(model)
    rows, tokens = sizes.prefill
    works: list[tuple[str, float, Callable]] = [
        (
            f"prefill {rows} x {tokens}",
            1.05,
            partial(hooks.prefill, ids=hooks.make_ids(model, rows, tokens)),
        )
    ]
    for rows in sizes.decode_rows:
        ids = hooks.make_ids(model, rows, 8)
        decode = partial(hooks.decode, ids=ids, tokens=sizes.decode_tokens)
        works.append((f"decode, batch {rows}", 1.15, decode))
    for what, of_ours, work in works:
        rounds = hooks.measure(ways, work, device, sizes.rounds)
        yield Line(f"hf: {what}", spread([entry["hf"] for entry in rounds]), "s")
        for name, target in zip(hooks.CONDITIONS[1:], (None, of_ours, 1.02), strict=True):
            yield Line(f"{name}: {what}", ratios(rounds, name, "hf"), "x hf", target)
        yield Line(
            f"ours, hooks: {what}", ratios(rounds, "ours, hooks", "steered"), "x steered", 1.0
        )


def of_selection(model: PreTrainedModel, device: str, sizes: Sizes) -> Iterator[Line]:
    """Compare the search, and the scores of all candidates, with the six sweeps.

    Each comparison uses the same number of rows for both.
    """
    dissect(model)

    def trial(rows: int) -> selection.Trial:
        return selection.make_trial(model, head=20, batch_size=rows, prompts=sizes.prompts)

    own = default_rows(device)
    selection.timed(search, trial(own))  # warm-up
    for rows in dict.fromkeys((own, *sizes.rows)):
        asked = [("selection", search, 8.0 if rows == own else None)]
        if rows == sizes.all_scores_rows:
            asked.append(("--all-scores", score_all, 3.0))
        rounds = []
        for _ in range(sizes.long_rounds):
            entry = {"six": selection.six_sweeps_cost(trial(rows), sizes.sampled).clock}
            entry |= {what: selection.timed(work, trial(rows))[0].clock for what, work, _ in asked}
            rounds.append(entry)
        by = " (default)" if rows == own else ""
        for what, _, target in asked:
            figure = ratios(rounds, "six", what)
            name = f"{what}, {rows} rows{by}"
            yield Line(name, figure, "x six sweeps", target, least=True)

    def clock() -> float:
        return selection.timed(search, trial(own))[0].clock

    # cuDNN keeps its plans for each thread. A new thread has to make them, as an extraction does.
    figure = with_cudnn_to_without(lambda: in_new_thread(clock), sizes.long_rounds)
    yield Line("selection, with cuDNN's attention", figure, "x without")


def in_new_thread(work: Callable[[], float]) -> float:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def with_cudnn_to_without(work: Callable[[], float], rounds: int) -> Spread:
    """Return the seconds with cuDNN's attention, divided by those where our code forbids it.

    Args:
        work: does the work once and returns its seconds.
    """
    measured = []
    for _ in range(rounds):
        with patch.object(cudnn_attention, "without_cudnn_attention", nullcontext):
            entry = {"with": work()}
        measured.append(entry | {"without": work()})
    return ratios(measured, "with", "without")


def of_checksum(model: PreTrainedModel, device: str, sizes: Sizes) -> Iterator[Line]:
    size = sum(x.numel() * x.element_size() for x in model.state_dict().values())
    taken = [seconds(lambda: weights_checksum(model), device) for _ in range(sizes.long_rounds)]
    yield Line(f"checksum of {size / 2**30:.1f} GiB of weights", spread(taken), "s", 3.0)


def of_batching(model: PreTrainedModel, device: str, sizes: Sizes) -> Iterator[Line]:
    """Compare continuous batches with static ones. This overwrites the model's weights."""
    tokenizer = make_tokenizer()
    batching.script(model, tokenizer, sizes.short, sizes.long)
    ways = batching.make_ways(model, tokenizer, device, sizes.batch_size)
    requests = batching.make_requests(sizes.requests, sizes.long)
    warm = batching.make_requests(sizes.batch_size, sizes.short)
    rounds = batching.measure(ways, requests, warm, device, sizes.batching_rounds)
    for name in list(ways)[1:]:
        attention = batching.attention(ways[name])
        target = 8.0 if "flash" in attention else 3.0
        for how, to in (("set-up counted", name), ("warm", f"{name}, warm")):
            what = f"{name} ({attention}), {sizes.requests} answers, {how}"
            yield Line(what, ratios(rounds, "static", to), "x static", target, least=True)
        set_up = spread([entry[f"{name}, set-up"] for entry in rounds])
        yield Line(f"{name} ({attention}), set-up", set_up, "s")

    some = batching.make_requests(2 * sizes.batch_size, sizes.short)
    figure = with_cudnn_to_without(
        lambda: seconds(partial(batching.answer, ways["continuous, SDPA"], some), device),
        sizes.long_rounds,
    )
    yield Line("continuous, SDPA, with cuDNN's attention", figure, "x without")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="measure a tiny model in float32")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--output", type=Path, help="write the figures to this JSON file")
    asked = parser.parse_args(arguments)
    if torch.device(asked.device).type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU that it can use. Try --tiny --device cpu.")
    sizes = TINY if asked.tiny else FULL
    dtype = torch.float32 if asked.tiny else torch.bfloat16
    card = "the CPU"
    if torch.device(asked.device).type == "cuda":
        card = torch.cuda.get_device_name(asked.device)
    print(
        f"{card}, torch {torch.__version__}, transformers {transformers.__version__}, {dtype}, "
        f"random weights in the shape {'tiny' if asked.tiny else 'of Qwen2.5-7B'}"
    )
    print(f"{'':66}{'min':>9}{'median':>9}{'max':>9}{'n':>4}  {'unit':18}target")
    start = time.perf_counter()
    model = make_model(SHAPES["tiny" if asked.tiny else "7b"], asked.device, dtype)
    document: dict[str, Any] = {
        "card": card,
        "versions": versions(),
        "dtype": str(dtype),
        "tiny": asked.tiny,
        "lines": [],
        "failed": [],
    }
    parts = {
        "hooks": of_hooks,
        "selection": of_selection,
        "checksum": of_checksum,
        "batching": of_batching,
    }
    for name, part in parts.items():
        try:
            for line in part(model, asked.device, sizes):
                document["lines"].append(line.record())
                print(line.text(), flush=True)
        except (Exception, SystemExit) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            document["failed"].append({"part": name, "reason": reason})
            print(f"{name} failed: {reason}", flush=True)
        gc.collect()  # the edited copy of the model
        torch.cuda.empty_cache()
        document["seconds"] = time.perf_counter() - start
        if asked.output:
            asked.output.write_text(json.dumps(document, indent=1) + "\n")
    print(f"The measurements took {document['seconds']:.0f} s.")
    if document["failed"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
