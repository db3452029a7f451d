"""Evaluate every condition with `lm_eval`, two at a time. An interrupted evaluation continues."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.real.checkpoint import FILE

LANGUAGES = ("en", "de", "zh")
LIMIT = 100
TOKENS = 64
SEEDS = range(5)
TASKS = ",".join(
    f"polyrefuse_{kind}_{language}" for kind in ("harmful", "harmless") for language in LANGUAGES
)

CONDITIONS: Mapping[str, tuple[str, dict[str, object]]] = {
    "baseline": ("baseline-hf", {}),
    "ablation": ("ablated-hf", {}),
    "addition": ("refusal-added-hf", {}),
    "system-prompt": ("mcd-hf", {"prompt": "default"}),
    "mcd": ("mcd-hf", {"prompt": "{folder}/prompt"}),
    **{
        f"random-{name}-{seed}": (model, {"control": "random", "control_seed": seed})
        for name, model in (("ablation", "ablated-hf"), ("addition", "refusal-added-hf"))
        for seed in SEEDS
    },
}
"""Maps the name of a run to lm-eval's name for the model and its additional arguments."""


def evaluate(model: Path, folder: Path) -> None:
    """Run every condition that has no results yet, two at a time, one thread each."""
    prompt = folder / "prompt"
    if not prompt.exists():
        _run(
            *("polyrefuse", "mcd", "train", "--model", model, "--gguf-file", FILE),
            *("--dtype", "float32", "--langs", "en,de", "--output", prompt),
            *("--answers", 2, "--max-gen-toks", 32),  # instead of 20 and 128, to save time
            log=folder / "mcd.log",
        )
    # The first run that needs a direction extracts it, and the others read it.
    _evaluate(model, folder, "ablation")
    with ThreadPoolExecutor(2) as pool:
        # The results are read, so that the first failure is raised here.
        list(pool.map(partial(_evaluate, model, folder), CONDITIONS))


def arguments_of(name: str, model: Path, folder: Path) -> tuple[str, dict[str, str]]:
    """Return lm-eval's name for the model in a run, and the model's arguments."""
    wrapper, beside = CONDITIONS[name]
    given = {key: str(value).format(folder=folder) for key, value in beside.items()}
    return wrapper, {"pretrained": str(model), "gguf_file": FILE, "dtype": "float32", **given}


def _evaluate(model: Path, folder: Path, name: str) -> None:
    output = folder / "results" / name
    if any(output.rglob("results_*.json")):
        return
    wrapper, given = arguments_of(name, model, folder)
    arguments = ",".join(f"{key}={value}" for key, value in given.items())
    _run(
        *("lm_eval", "run", "--tasks", TASKS, "--model", wrapper, "--model_args", arguments),
        *("--limit", LIMIT, "--gen_kwargs", f"max_gen_toks={TOKENS}", "--batch_size", 50),
        *("--output_path", output, "--log_samples"),
        log=folder / f"{name}.log",
    )


def _run(*command: object, log: Path) -> None:
    folder = Path(sys.executable).parent
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("w", encoding="utf-8") as output:
        subprocess.run(
            [str(folder / str(command[0])), *map(str, command[1:])],
            check=True, stdout=output, stderr=output, env=environment,
        )  # fmt: skip
