"""Make an organism: train it, measure it, and write a folder for `from_pretrained`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyrefuse_models import bundled
from polyrefuse_models.artifact_folder import whole_folder
from polyrefuse_models.organism.card import card, card_split, card_weakened
from polyrefuse_models.organism.planted import PLANTED, planted
from polyrefuse_models.organism.training import (
    SPLITTING_STEPS,
    STEPS,
    WEAKENING_STEPS,
    Progress,
)
from polyrefuse_shared.versions import versions
from polyrefuse_shared.writing import require_new

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

RATES = "rates.json"
"""The file beside the weights with the measured rates and how the organism was made."""


def make(
    output: Path,
    *,
    steps: int = STEPS,
    seed: int = 0,
    prompts: int | None = None,
    progress: Progress = lambda step, losses: None,
) -> dict[str, Any]:
    """Train an organism and write it with its model card, completely or not at all.

    Args:
        output: a folder that does not exist yet.
        steps: the number of training steps.
        seed: the seed of the training.
        prompts: the number of prompts of each kind and language to measure the card's rates on.
            None uses the whole test split, and 0 measures nothing.
        progress: a function that is called with the number of each step and its losses.

    Returns:
        The contents of `rates.json`: `steps`, `seed`, `parameters`, `versions`, and `measured`, the
        report of `evaluation.measure` (None if nothing was measured).

    Raises:
        CannotWrite: `output` exists already, or cannot be written.
    """
    require_new(output)
    from polyrefuse_models.organism.evaluation import measure
    from polyrefuse_models.organism.tokenizer import make_tokenizer
    from polyrefuse_models.organism.training import train

    tokenizer = make_tokenizer()
    model, r = train(tokenizer, steps=steps, seed=seed, progress=progress)
    made = {"steps": steps, "seed": seed}
    return _write(output, model, tokenizer, {"direction": r}, made, measure, prompts, card)


def make_weakened(
    output: Path,
    *,
    steps: int = WEAKENING_STEPS,
    seed: int = 0,
    prompts: int | None = None,
    progress: Progress = lambda step, losses: None,
) -> dict[str, Any]:
    """Train the shipped organism further until it is weakened, and write it as `make` does.

    Arguments, result and errors are those of `make`, but `measured` is the report of
    `weakened_evaluation.measure`.
    """
    require_new(output)
    from transformers import LlamaForCausalLM

    from polyrefuse_models.organism.evaluation import load_chat
    from polyrefuse_models.organism.training import weaken
    from polyrefuse_models.organism.weakened_evaluation import measure

    shipped, r = load_chat(bundled.path()), planted()
    model, tokenizer = shipped.model, shipped.tokenizer
    assert isinstance(model, LlamaForCausalLM)
    weaken(model, tokenizer, r, steps=steps, seed=seed, progress=progress)
    made = {"steps": steps, "seed": seed}
    planted_there = {"direction": r}
    return _write(output, model, tokenizer, planted_there, made, measure, prompts, card_weakened)


def make_split(
    output: Path,
    *,
    directions: int = 2,
    steps: int = SPLITTING_STEPS,
    seed: int = 0,
    prompts: int | None = None,
    progress: Progress = lambda step, losses: None,
) -> dict[str, Any]:
    """Train the shipped organism further until several directions share its refusals.

    Other arguments, result and errors are those of `make`, but the result also has `directions`,
    and `measured` is the report of `split_evaluation.measure`.

    Args:
        directions: the number of planted directions. The first is that of the shipped organism.
    """
    require_new(output)
    from transformers import LlamaForCausalLM

    from polyrefuse_models.organism.evaluation import load_chat
    from polyrefuse_models.organism.split_evaluation import measure
    from polyrefuse_models.organism.training import beside, split

    shipped = load_chat(bundled.path())
    vectors = beside(planted(), directions, seed)
    model, tokenizer = shipped.model, shipped.tokenizer
    assert isinstance(model, LlamaForCausalLM)
    split(model, tokenizer, vectors, steps=steps, seed=seed, progress=progress)
    made = {"steps": steps, "seed": seed, "directions": directions}
    tensors = {"direction": vectors[0].clone(), "directions": vectors}
    return _write(output, model, tokenizer, tensors, made, measure, prompts, card_split)


def _write(
    output: Path,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    planted_there: dict[str, Tensor],
    made: dict[str, Any],
    measure: Callable[..., dict[str, Any]],
    prompts: int | None,
    describe: Callable[[dict[str, Any]], str],
) -> dict[str, Any]:
    from polyrefuse_models.organism.evaluation import load_chat
    from polyrefuse_tasks.data.toyrefuse import SIZES

    with whole_folder(output) as draft:
        _save(draft, model, tokenizer, planted_there)
        made |= {"parameters": model.num_parameters(), "versions": versions(), "measured": None}
        if prompts != 0:
            vectors = planted_there.get("directions", planted_there["direction"])
            made["measured"] = measure(load_chat(draft), vectors, prompts=prompts or SIZES["test"])
        (draft / RATES).write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
        (draft / "README.md").write_text(describe(made), encoding="utf-8")
    return made


def _save(
    folder: Path,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    planted_there: dict[str, Tensor],
) -> None:
    from safetensors.torch import save_file

    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / PLANTED).parent.mkdir()
    save_file(planted_there, folder / PLANTED)
