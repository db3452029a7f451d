"""Measure what ablation costs in generation, by hooks, by edited weights and by `steered`.

    python -m benchmarks.hooks [--device cuda] [--dtype bfloat16] [--shape 7b] [--rounds 7]

The program compares four conditions of one random model: hf, lm-eval's `steered`, our ablation with
hooks, and our ablation of the weights, for which it edits a copy. Prefill (reading the prompts) and
decode (writing one token at a time) are timed separately. `steered` is set to make the same
projections: its `clamp` to 0 at the embedding and at every attention and MLP. The four conditions
take turns, and each ratio to hf compares times of the same round. The ratio may be at most 1.02 for
weights, and for hooks 1.05 in prefill and 1.15 in decode.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from lm_eval.models.hf_steered import SteeredModel, steer
from transformers import PreTrainedModel

from benchmarks.random_model import SHAPES, make_model
from benchmarks.rounds import ratios, seconds, spread
from polyrefuse_models.interventions import Ablation, installed
from polyrefuse_models.interventions.orthogonalise import orthogonalise

CONDITIONS = ("hf", "steered", "ours, hooks", "ours, weights")

Condition = Callable[[], AbstractContextManager[PreTrainedModel]]


def conditions(model: PreTrainedModel) -> dict[str, Condition]:
    """Return context managers, by name, that yield the model under each condition.

    All conditions except that of the edited weights use the same model, so that they differ only in
    their hooks.
    """
    torch.manual_seed(0)
    direction = torch.randn(model.config.hidden_size)
    edited = copy.deepcopy(model)
    orthogonalise(edited, direction)

    @contextmanager
    def steered() -> Iterator[PreTrainedModel]:
        vector = direction.to(model.device, model.dtype)  # as in SteeredModel.__init__
        clamp = partial(
            SteeredModel.clamp, direction=vector / torch.norm(vector), value=0.0, head_index=None
        )
        points = ["embed_tokens"]
        for i in range(model.config.num_hidden_layers):
            points += [f"layers.{i}.self_attn", f"layers.{i}.mlp"]
        with steer(model, dict.fromkeys(points, clamp)):
            yield model

    @contextmanager
    def hooked() -> Iterator[PreTrainedModel]:
        with installed(model, Ablation(direction)):
            yield model

    ways = (lambda: nullcontext(model), steered, hooked, lambda: nullcontext(edited))
    return dict(zip(CONDITIONS, ways, strict=True))


def make_ids(model: PreTrainedModel, rows: int, tokens: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    ids = torch.randint(3, model.config.vocab_size, (rows, tokens), generator=random)
    return ids.to(model.device)


@torch.inference_mode()
def prefill(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """Read the prompts in one forward pass and return the last token's logits."""
    return model(input_ids=ids, logits_to_keep=1).logits


@torch.inference_mode()
def decode(model: PreTrainedModel, ids: torch.Tensor, tokens: int) -> torch.Tensor:
    """Answer each prompt with exactly `tokens` tokens."""
    generate: Any = model.generate
    return generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        min_new_tokens=tokens,
        max_new_tokens=tokens,
    )


def measure(
    ways: dict[str, Condition],
    work: Callable[[PreTrainedModel], torch.Tensor],
    device: str,
    rounds: int,
) -> list[dict[str, float]]:
    """Time each condition in each round, after one round that is not counted.

    Returns:
        One dictionary for each round with the seconds of each condition.

    Raises:
        SystemExit: in float32, the three ways of ablation do not give the same answers.
    """
    did = {}
    for name, condition in ways.items():
        with condition() as model:
            did[name] = work(model)
    if model.dtype == torch.float32:
        _, *ablated = did.values()
        if not all(torch.allclose(one.float(), ablated[0].float(), atol=1e-3) for one in ablated):
            raise SystemExit("The model's answers differ between the three ways of ablation.")
    taken = []
    for _ in range(rounds):
        entry = {}
        for name, condition in ways.items():
            with condition() as model:
                entry[name] = seconds(partial(work, model), device)
        taken.append(entry)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--shape", choices=SHAPES, help="the model's shape, instead of --width and --layers"
    )
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=48, help="the tokens of an answer")
    asked = parser.parse_args()
    shape = SHAPES.get(asked.shape) or SHAPES["tiny"] | {
        "hidden_size": asked.width,
        "intermediate_size": 2 * asked.width,
        "num_hidden_layers": asked.layers,
    }
    model = make_model(shape, asked.device, getattr(torch, asked.dtype))
    ways = conditions(model)
    works: dict[str, Callable[[PreTrainedModel], torch.Tensor]] = {
        f"prefill {asked.prompts} x {asked.prompt_tokens}": partial(
            prefill, ids=make_ids(model, asked.prompts, asked.prompt_tokens)
        )
    }
    for rows in sorted({1, asked.prompts}):
        ids = make_ids(model, rows, 8)
        works[f"decode {rows} x {asked.tokens}"] = partial(decode, ids=ids, tokens=asked.tokens)
    print(
        f"{shape['num_hidden_layers']} layers of width {shape['hidden_size']}, {asked.dtype}, "
        f"{asked.device}, {torch.get_num_threads()} threads, {asked.rounds} rounds"
    )
    print(f"{'':20}{'':16}{'median s':>10}{'ratio to hf: median':>22}{'min':>8}{'max':>8}")
    for what, work in works.items():
        rounds = measure(ways, work, asked.device, asked.rounds)
        for name in CONDITIONS:
            ratio = ratios(rounds, name, "hf")
            print(
                f"{what:20}{name:16}{spread([r[name] for r in rounds]).median:10.3f}"
                f"{ratio.median:22.3f}{ratio.least:8.3f}{ratio.most:8.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
