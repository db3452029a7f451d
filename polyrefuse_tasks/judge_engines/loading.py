"""Loads the engine that a judge's model is asked for on."""

from __future__ import annotations

from importlib.util import find_spec

from polyrefuse_tasks.judge_engines.engine import Engine, Loading


def load(loading: Loading) -> Engine:
    """The engine that was asked for, its model loaded.

    Raises:
        CannotJudge: the model cannot be loaded, or the engine is not installed.
    """
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
