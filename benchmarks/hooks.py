"""What ablation costs in generation: hf, lm-eval's `steered`, ours with hooks, ours with weights.

    python -m benchmarks.hooks [--width 512] [--layers 12] [--rounds 7]

One random Llama, the same prompts, greedy answers of the same length. `steered` is made to do the
same projections (its `clamp` to 0 at the embedding and at every attention and MLP). The four take
turns, and the ratio to hf is that of each round, so that a machine that slows down slows all. The
bounds are 1.02 for weights and 1.05 for hooks.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.hf_steered import SteeredModel
from lm_eval.models.huggingface import HFLM
from safetensors.torch import save_file

from polyrefuse_models.wrappers.hf import AblatedHF
from tests.models import save_chat_model

TOKENS = 48


def make_models(folder: Path, width: int, layers: int, batch_size: int) -> dict[str, HFLM]:
    """The four, on copies of one model; each takes prompts as they are."""
    save_chat_model(folder / "model", width=width, layers=layers)
    torch.manual_seed(0)
    direction = torch.randn(width)
    save_file({"direction": direction}, folder / "direction.safetensors")
    points = ["embed_tokens"]
    points += [f"layers.{i}.{part}" for i in range(layers) for part in ("self_attn", "mlp")]
    clamp = {"steering_vector": direction, "steering_coefficient": 0.0, "action": "clamp"}
    torch.save({point: dict(clamp) for point in points}, folder / "steer.pt")
    common = {"pretrained": str(folder / "model"), "device": "cpu", "batch_size": batch_size}
    ours = common | {"direction": str(folder / "direction.safetensors"), "chat": "off"}
    return {
        "hf": HFLM(**common),
        "steered": SteeredModel(**common, steer_path=str(folder / "steer.pt")),
        "ours, hooks": AblatedHF(**ours, method="hooks"),
        "ours, weights": AblatedHF(**ours, method="weights"),
    }


def seconds(lm: HFLM, prompts: list[str]) -> tuple[float, list[str]]:
    settings = {"until": [], "do_sample": False, "max_gen_toks": TOKENS, "min_new_tokens": TOKENS}
    requests = [
        Instance("generate_until", {}, (p, dict(settings)), 0, ("t", 0, 1)) for p in prompts
    ]
    start = time.perf_counter()
    answers = lm.generate_until(requests, disable_tqdm=True)
    return time.perf_counter() - start, answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--prompts", type=int, default=16)
    options = parser.parse_args()
    prompts = [f"Tell me about glimmerfish number {i}. " * 4 for i in range(options.prompts)]
    with tempfile.TemporaryDirectory() as folder:
        models = make_models(Path(folder), options.width, options.layers, options.prompts)
        answers = {name: seconds(lm, prompts)[1] for name, lm in models.items()}  # warm-up
        assert answers["steered"] == answers["ours, hooks"] == answers["ours, weights"]
        rounds = [
            {name: seconds(lm, prompts)[0] for name, lm in models.items()}
            for _ in range(options.rounds)
        ]
    print(
        f"Llama, {options.layers} layers of width {options.width}, {options.prompts} prompts, "
        f"{TOKENS} tokens each, {torch.get_num_threads()} threads, {options.rounds} rounds"
    )
    print(f"{'':16}{'median s':>10}{'ratio to hf: median':>22}{'min':>8}{'max':>8}")
    for name in models:
        ratios = [r[name] / r["hf"] for r in rounds]
        print(
            f"{name:16}{statistics.median(r[name] for r in rounds):10.2f}"
            f"{statistics.median(ratios):22.3f}{min(ratios):8.3f}{max(ratios):8.3f}"
        )


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
