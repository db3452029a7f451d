"""Compare the cost of our search for a direction with a re-implementation of the authors' search.

    python -m benchmarks.selection [--prompts 32] [--width 64] [--layers 24] [--rounds 3]
    python -m benchmarks.selection --device cuda --dtype bfloat16 --shape 7b --sampled 14

Both choose among the same candidates (5 positions x 24 layers) of the same random model, on the
same prompts, by the rule of the code of arXiv 2505.17306. The program fails if their choices
differ. The authors' code (mainlp/Multilingual-Refusal, pipeline/submodules/select_direction.py)
goes through all candidates six times, once for each score that it writes: KL divergence and refusal
score, ablated and added, on harmless and on harmful prompts. Our search is timed as `direction
extract` runs it, without and with `--all-scores`. The ways take turns in every round, and each
ratio compares times of the same round. Our search should be at least 8 times as fast, and 3 times
with `--all-scores`.

`--sampled` times the six sweeps on only some of the candidates and multiplies the time, because
every candidate costs the same. The choices are then not compared. They are not compared in types
other than float32 either, because rounding makes them differ.

A prompt has 6 to 30 random tokens, about as many as PolyRefuse's prompts have in a real model. It
stands between a head and an end like those of a chat template (Qwen 2.5: 20 and 5 tokens).
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from benchmarks.random_model import SHAPES, finish, make_model
from benchmarks.rounds import ratios, spread
from polyrefuse_models.anatomy import dissect
from polyrefuse_models.chat_model import ChatModel, default_rows
from polyrefuse_models.directions.extract import difference_of_means, observe
from polyrefuse_models.directions.search import Trial, score_all, search
from polyrefuse_models.directions.select import DEFAULT, Candidate, choose, eligible

N_POSITIONS = 5
TOKENS = [40, 50, 60]
BOUNDS = {"ours": 8.0, "ours, --all-scores": 3.0}
"""How many times as fast as the six sweeps each way should be, at least."""

CPU_SHAPE = {"vocab_size": 512, "num_attention_heads": 4, "num_key_value_heads": 2}


def make_chat(model: PreTrainedModel, head: int, batch_size: int) -> ChatModel:
    """Make a chat model whose prompts are numbers with spaces between them.

    Its template puts the tokens 1, 2, ... around a prompt.

    Args:
        head: the number of tokens before a prompt.
    """
    before, after = list(range(1, head + 1)), list(range(head + 1, head + 1 + N_POSITIONS))

    def encode(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        rows = [[*before, *map(int, text.split()), *after] for text in texts]
        longest = max(map(len, rows))
        ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        return ids, mask

    return ChatModel(model, None, str, encode, batch_size)


def make_prompts(n: int, seed: int, lowest: int) -> list[str]:
    """Return `n` prompts of random numbers from `lowest` to `lowest` + 299.

    The two kinds of prompts use different ranges, so that they differ.
    """
    chosen = random.Random(seed)
    return [
        " ".join(str(chosen.randrange(lowest, lowest + 300)) for _ in range(chosen.randint(6, 30)))
        for _ in range(n)
    ]


def six_sweeps(trial: Trial, sampled: int | None = None) -> list[Candidate]:
    """Compute the scores as the authors' code does.

    Each forward pass has one candidate, and the prompts are encoded again each time.

    Args:
        sampled: the number of candidates to score, spaced as widely as possible; None for all.
    """
    model, chat = trial.chat.model, trial.chat
    every = trial.candidates()
    if sampled is not None:
        every = every[:: len(every) // sampled][:sampled]

    def logits(prompts: list[str]) -> torch.Tensor:
        rows = []
        for start in range(0, len(prompts), chat.batch_size):
            ids, mask = chat.encode(prompts[start : start + chat.batch_size])
            inputs = {"input_ids": ids, "attention_mask": mask}
            with torch.no_grad():
                output = model(**{name: x.to(model.device) for name, x in inputs.items()})
            rows.append(output.logits[:, -1])
        return torch.cat(rows)

    def refusal(rows: torch.Tensor) -> float:
        p = rows.double().softmax(-1)[:, trial.tokens].sum(-1)
        return (p.log() - (1 - p).log()).mean().item()

    def moved(base: torch.Tensor, rows: torch.Tensor) -> float:
        p, q = base.double().softmax(-1), rows.double().softmax(-1)
        return (p * (p.log() - q.log())).sum(-1).mean().item()

    def ablating(r: torch.Tensor) -> list[tuple[torch.nn.Module, Callable, bool]]:
        r = r / r.norm()

        def clean(x: torch.Tensor) -> torch.Tensor:
            return x - (x @ r).unsqueeze(-1) * r

        hooks = []
        for block in model.model.layers:
            hooks += [(block, lambda x: clean(x), True)]
            hooks += [(part, lambda x: clean(x), False) for part in (block.self_attn, block.mlp)]
        return hooks

    def sweep(hooks_of: Callable, prompts: list[str], score: Callable) -> list[float]:
        scores = []
        for at in every:
            r = trial.directions[at.position, at.layer].to(model.device, model.dtype)
            with hooked(hooks_of(r, at.layer)):
                scores.append(score(logits(prompts)))
        return scores

    def ablated(r: torch.Tensor, _layer: int) -> list:
        return ablating(r)

    def added(r: torch.Tensor, layer: int) -> list:
        return [(model.model.layers[layer], lambda x: x + r, True)]

    base = logits(trial.harmless)
    kl_ablated = sweep(ablated, trial.harmless, lambda rows: moved(base, rows))
    sweep(added, trial.harmless, lambda rows: moved(base, rows))
    refusal_ablated = sweep(ablated, trial.harmful, refusal)
    steering = sweep(added, trial.harmless, refusal)
    sweep(ablated, trial.harmless, refusal)
    sweep(added, trial.harmful, refusal)
    return [
        Candidate(at.position, at.layer, *scores)
        for at, *scores in zip(every, refusal_ablated, steering, kl_ablated, strict=True)
    ]


@contextmanager
def hooked(hooks: list[tuple[torch.nn.Module, Callable, bool]]) -> Iterator[None]:
    """Install hooks for the duration of the block.

    Each hook has a module, the change, and whether it changes the module's input. Otherwise it
    changes the tensor that the module returns, which is the first of a tuple.
    """

    def before(change: Callable) -> Callable:
        return lambda _module, args: (change(args[0]), *args[1:])

    def after(change: Callable) -> Callable:
        return lambda _module, _args, output: (
            (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)
        )

    handles = [
        module.register_forward_pre_hook(before(change))
        if at_input
        else module.register_forward_hook(after(change))
        for module, change, at_input in hooks
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Cost:
    """Seconds of wall time and of processor time. Other programs lengthen only the first."""

    clock: float
    processor: float

    def times(self, factor: float) -> Cost:
        return Cost(factor * self.clock, factor * self.processor)


def timed(work: Callable, trial: Trial) -> tuple[Cost, Any]:
    """Do the work on a trial and return its cost and its result."""
    finish(trial.chat.model.device)
    clock, processor = time.perf_counter(), time.process_time()
    result = work(trial)
    finish(trial.chat.model.device)
    return Cost(time.perf_counter() - clock, time.process_time() - processor), result


def make_trial(model: PreTrainedModel, head: int, batch_size: int, prompts: int) -> Trial:
    """Make candidates and the prompts that they are tried on.

    Each measurement needs a new trial, because a ChatModel caches what it encoded.

    Args:
        head: the number of tokens before a prompt.
        batch_size: the rows of a forward pass.
        prompts: the number of prompts of each kind.
    """
    chat = make_chat(model, head, batch_size)
    harmful, harmless = (
        make_prompts(prompts, seed, lowest) for seed, lowest in ((1, 60), (2, 200))
    )
    states = [observe(chat, kind, N_POSITIONS) for kind in (harmful, harmless)]
    directions = difference_of_means(*(seen.states for seen in states))
    logits = states[1].logits
    fresh = make_chat(model, head, batch_size)
    return Trial(fresh, directions, harmful, harmless, logits, TOKENS)


def six_sweeps_cost(trial: Trial, sampled: int) -> Cost:
    """Estimate the cost of the six sweeps from `sampled` candidates."""
    cost, scored = timed(partial(six_sweeps, sampled=sampled), trial)
    return cost.times(len(trial.candidates()) / len(scored))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--prompts", type=int, default=32, help="prompts of each kind (default: 32)"
    )
    parser.add_argument(
        "--shape", choices=SHAPES, help="the model's shape, instead of --width and --layers"
    )
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument(
        "--head", type=int, default=20, help="tokens before the user's text (default: 20)"
    )
    parser.add_argument(
        "--batch-size", type=int, help="rows of a forward pass (default: that of the device)"
    )
    parser.add_argument(
        "--spread",
        type=float,
        default=0.11,
        help="standard deviation of the random weights (default: 0.11)",
    )
    parser.add_argument(
        "--sampled",
        type=int,
        help="time the six sweeps on this many candidates only (default: on all)",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)

    shape = SHAPES.get(asked.shape) or CPU_SHAPE | {
        "hidden_size": asked.width,
        "intermediate_size": 3 * asked.width,
        "num_hidden_layers": asked.layers,
    }
    model = make_model(shape, asked.device, getattr(torch, asked.dtype), asked.spread)
    layers = shape["num_hidden_layers"]
    rows = asked.batch_size or default_rows(asked.device)
    trial = partial(make_trial, model, asked.head, rows, asked.prompts)

    compared = asked.sampled is None and model.dtype == torch.float32
    dissect(model)  # once for each model, outside the timed work
    timed(search, trial())  # warm-up
    print(
        f"{N_POSITIONS} positions x {layers} layers of width {shape['hidden_size']}, "
        f"{asked.dtype}, {asked.device}, {asked.prompts} + {asked.prompts} prompts, head of "
        f"{asked.head} tokens, {rows} rows a pass, {asked.threads} threads, {asked.rounds} rounds"
    )
    rounds: list[dict[str, Cost]] = []
    for number in range(asked.rounds):
        entry: dict[str, Cost] = {}
        if asked.sampled is None:
            entry["six sweeps"], plain = timed(six_sweeps, trial())
        else:
            entry["six sweeps"] = six_sweeps_cost(trial(), asked.sampled)
        entry["ours"], (chosen, scored) = timed(search, trial())
        entry["ours, --all-scores"], (chosen_of_all, _) = timed(score_all, trial())
        rounds.append(entry)
        if compared and number == 0:
            compare(plain, layers, chosen, chosen_of_all, scored)
    for line in table(rounds):
        print(line)


def table(rounds: list[dict[str, Cost]]) -> Iterator[str]:
    """Yield the lines of the table.

    A line has the seconds of a way, and how many times as fast as the six sweeps it is, in wall
    time and in processor time. The bound is on the wall time.
    """
    titles = ("clock, s", "times as fast, clock", "and by processor")
    yield f"{'min, median, max':21}{''.join(f'{title:>24}' for title in titles)}  bound"
    clock, processor = (
        [{what: getattr(cost, of) for what, cost in entry.items()} for entry in rounds]
        for of in ("clock", "processor")
    )
    for what in rounds[0]:
        figures = [
            spread([entry[what] for entry in clock]),
            *(ratios(entries, "six sweeps", what) for entries in (clock, processor)),
        ]
        columns = "".join(f"{value:8.1f}" for figure in figures for value in figure[:3])
        bound = f"  >= {BOUNDS[what]:g}" if what in BOUNDS else ""
        yield f"{what:21}{columns}{bound}"


def compare(
    plain: list[Candidate],
    layers: int,
    chosen: Candidate,
    chosen_of_all: Candidate,
    scored: list[Candidate],
) -> None:
    """Check that our choices agree with that of the six sweeps, and print it.

    Raises:
        SystemExit: our choices differ from the one that the rule makes by the six sweeps' scores.
    """
    expected = choose(plain, layers)
    if expected is None:
        raise SystemExit("No candidate is within the KL limit. Choose another --spread.")
    choices = {(c.position, c.layer) for c in (chosen, chosen_of_all, expected)}
    if len(choices) > 1:
        raise SystemExit(f"The choices differ: {choices}")
    order = [(c.position, c.layer) for c in eligible(plain, layers, DEFAULT)]
    rank = 1 + order.index((expected.position, expected.layer))
    complete = sum(c.kl_div_score is not None for c in scored)
    print(
        f"same choice: position {chosen.position}, layer {chosen.layer}, rank {rank} by refusal "
        f"score (KL {chosen.kl_div_score:.3f} <= {DEFAULT.kl_limit}); {complete} KL means computed "
        "completely"
    )


if __name__ == "__main__":
    main()
