"""Makes an organism: trains it, measures it, and writes a folder that `from_pretrained` loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyrefuse_models.folder import require_new, whole_folder
from polyrefuse_models.organism import PLANTED
from polyrefuse_models.organism.card import card
from polyrefuse_models.organism.training import STEPS, Progress
from polyrefuse_models.versions import versions

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

RATES = "rates.json"
"""The file beside the weights that holds what was measured, and how the organism was made."""


def make(
    output: Path,
    *,
    steps: int = STEPS,
    seed: int = 0,
    prompts: int | None = None,
    progress: Progress = lambda step, losses: None,
) -> dict[str, Any]:
    """Train an organism and write it with its model card; all of it or nothing.

    Args:
        output: a folder that is not there yet.
        steps: of training.
        seed: of training.
        prompts: asked of each kind in each language for the card; all of the test split where
            None. With 0 nothing is measured.

    Returns:
        what `rates.json` has: `steps`, `seed`, `parameters`, `versions`, and `measured`, the report
        of `evaluation.measure` (None where nothing was).

    Raises:
        CannotWrite: `output` exists already, or cannot be written.
    """
    require_new(output)
    from polyrefuse_models.organism.tokenizer import make_tokenizer
    from polyrefuse_models.organism.training import train

    tokenizer = make_tokenizer()
    model, r = train(tokenizer, steps=steps, seed=seed, progress=progress)
    with whole_folder(output) as draft:
        _save(draft, model, tokenizer, r)
        made = {
            "steps": steps,
            "seed": seed,
            "parameters": model.num_parameters(),
            "versions": versions(),
            "measured": None if prompts == 0 else _measure(draft, r, prompts),
        }
        (draft / RATES).write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
        (draft / "README.md").write_text(card(made), encoding="utf-8")
    return made


def _save(
    folder: Path,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    r: Float[Tensor, d],
) -> None:
    from safetensors.torch import save_file

    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_file({"direction": r}, folder / PLANTED)


def _measure(folder: Path, r: Float[Tensor, d], prompts: int | None) -> dict[str, Any]:
    from polyrefuse_models.organism.evaluation import load_chat, measure
    from polyrefuse_tasks.data.toyrefuse import SIZES

    return measure(load_chat(folder), r, prompts=SIZES["test"] if prompts is None else prompts)
