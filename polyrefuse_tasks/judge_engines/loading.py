"""Load the engine that runs a judge's model."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from polyrefuse_tasks.judge_engines.engine import CannotJudge, Engine, Loading

CONFIGURATIONS = ("config.json", "adapter_config.json")

DTYPES = ("auto", "bfloat16", "float16", "half", "float32", "float", "float64", "double")
"""The types of torch in which a model can compute; transformers accepts any name in torch."""


def load(loading: Loading) -> Engine:
    """Load the engine and its model.

    Raises:
        CannotJudge: the path has no model, the model cannot be loaded, the type is none of
            `DTYPES`, or the engine is not installed.
    """
    _check_folder(loading.model)
    if loading.dtype not in DTYPES:
        raise CannotJudge(
            f"--dtype {loading.dtype!r} is not a type in which a judge's model can compute: use "
            f"one of {', '.join(DTYPES)}."
        )
    name = loading.engine or ("vllm" if _vllm_has_a_gpu() else "transformers")
    if name == "vllm":
        from polyrefuse_tasks.judge_engines.vllm_engine import VllmEngine

        return VllmEngine(loading)
    from polyrefuse_tasks.judge_engines.transformers_engine import TransformersEngine

    return TransformersEngine(loading)


def _vllm_has_a_gpu() -> bool:
    if find_spec("vllm") is None:
        return False
    import torch

    return torch.cuda.is_available()


def _check_folder(model: str) -> None:
    """Refuse a path without a model, which libraries would look up on the hub as a name."""
    name_on_the_hub = model.count("/") <= 1 and not model.startswith((".", "/", "~"))
    if name_on_the_hub and not os.path.exists(model):
        return
    if not any(os.path.isfile(Path(model) / name) for name in CONFIGURATIONS):
        raise CannotJudge(
            f"The judge's model {model} is not a folder with a model: it has no "
            f"{' and no '.join(CONFIGURATIONS)}; name another folder with --judge-model."
        )
