"""What the vLLM models rely on inside lm-eval's VLLM is still there."""

from __future__ import annotations

import importlib

import pytest

from polyrefuse_models import registration
from polyrefuse_shared import lm_eval_internals as internals

NAMES = [name for name in registration.MODELS if name.endswith("-vllm")]


@pytest.mark.parametrize("coupling", internals.COUPLINGS_WITH_VLLM, ids=lambda each: each.target)
def test_it_is_as_we_rely_on_it(coupling: internals.Coupling) -> None:
    importlib.import_module("polyrefuse_models.wrappers.lm_evals_vllm")  # finds vLLM's CPU build
    coupling.check()


@pytest.mark.parametrize("overridden", internals.VLLM_OVERRIDES)
@pytest.mark.parametrize("name", NAMES)
def test_our_methods_take_what_lm_eval_s_take(name: str, overridden: str) -> None:
    module, _, model = registration.MODELS[name].partition(":")
    ours = getattr(getattr(importlib.import_module(module), model), overridden)
    assert internals.parameters(ours) == internals.VLLM_OVERRIDES[overridden]
