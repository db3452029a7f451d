"""Measure whether other seeds and halves of the prompts lead to the same choice of a direction."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.real_model.runs import SEEDS
from polyrefuse_models.directions.artifact import Direction
from polyrefuse_models.directions.auto import find_direction
from polyrefuse_models.directions.extract import cosines
from polyrefuse_models.directions.prompts import SIZES, Prompts, sample
from polyrefuse_models.wrappers.hf import BaselineHF
from polyrefuse_shared.writing import write_whole
from tests.real.checkpoint import FILE


def measure(model: Path, folder: Path) -> None:
    """Extract directions with five seeds, and from both halves of the first seed's prompts.

    The results are written to `stability.json` in `folder`.
    """
    lm = BaselineHF(pretrained=str(model), gguf_file=FILE, dtype="float32", device="cpu")
    prompts = {f"seed {seed}": sample("polyrefuse", "en", seed) for seed in SEEDS}
    prompts |= {f"half {half + 1}": half_of(prompts["seed 0"], half) for half in (0, 1)}
    found = {name: find_direction(lm.chat_model, chosen) for name, chosen in prompts.items()}
    first = found["seed 0"].metadata
    at = first["position"], first["layer"]
    report = {
        "choices": {name: _record(direction) for name, direction in found.items()},
        "cosine_at": {"position": at[0], "layer": at[1]},
        "names": list(found),
        "cosine": cosines(torch.stack([one.candidates[at] for one in found.values()])).tolist(),
    }
    write_whole(folder / "stability.json", json.dumps(report, indent=1) + "\n")


def half_of(prompts: Prompts, half: int) -> Prompts:
    """Return every other prompt of each kind and split.

    Args:
        prompts: all prompts.
        half: 0 to begin with the first prompt, 1 to begin with the second.
    """
    harmful, harmless = (
        {split: kind[split][half::2] for split in SIZES}
        for kind in (prompts.harmful, prompts.harmless)
    )
    return replace(prompts, harmful=harmful, harmless=harmless)


def _record(direction: Direction) -> dict[str, object]:
    metadata = direction.metadata
    at = metadata["position"], metadata["layer"]
    (chosen,) = (one for one in direction.scores if (one.position, one.layer) == at)
    return {
        **chosen.record(),
        "refusal_tokens": len(metadata["refusal_tokens"]),
        "prompts": metadata["prompts"],
        "untouched": metadata["untouched"],
        "stability": metadata["stability"],
        "warnings": metadata["warnings"],
    }
