"""Tests that run vLLM for real, in an environment of its own, which `.ci/vllm` makes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if find_spec("vllm") is None:
        skipped = pytest.mark.skip(reason="vLLM is not installed; run .ci/vllm")
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(skipped)
