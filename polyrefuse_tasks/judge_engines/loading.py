"""Loads the engine that a judge's model is asked for on."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from polyrefuse_tasks.judge_engines.engine import CannotJudge, Engine, Loading

CONFIGURATIONS = ("config.json", "adapter_config.json")

DTYPES = ("auto", "bfloat16", "float16", "half", "float32", "float", "float64", "double")
"""Those of torch's types that a model computes in; transformers takes any name in torch."""


def load(loading: Loading) -> Engine:
    """The engine that was asked for, its model loaded.

    Raises:
        CannotJudge: the model is a path without one, or cannot be loaded, the type is none of
            `DTYPES`, or the engine is not installed.
    """
    _check_folder(loading.model)
    if loading.dtype not in DTYPES:
        raise CannotJudge(
            f"--dtype {loading.dtype!r} is no type that a judge's model computes in; use one of "
            f"{', '.join(DTYPES)}."
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
    """A path that holds no model is said to be one; libraries ask the hub for its name."""
    name_on_the_hub = model.count("/") <= 1 and not model.startswith((".", "/", "~"))
    if name_on_the_hub and not os.path.exists(model):
        return
    if not any(os.path.isfile(Path(model) / name) for name in CONFIGURATIONS):
        raise CannotJudge(
            f"the judge's model {model} is no folder of a model: it has no "
            f"{' and no '.join(CONFIGURATIONS)}; name another with --judge-model."
        )
