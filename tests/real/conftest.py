"""The real model, and the real prompts that it is asked; where one is missing the tests skip."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyrefuse_models.wrappers.hf import BaselineHF
from polyrefuse_tasks.data.cache import cache
from tests.real.checkpoint import FILE, NotFetched, fetch

USERS_CACHE = cache()
"""Read before the tests get a cache of their own: the model is kept for the next run."""

USERS_DATA = os.environ.get("POLYREFUSE_DATA_DIR")
"""Read before it is taken from the tests."""

LOADED = {"gguf_file": FILE, "dtype": "float32", "device": "cpu", "batch_size": 16}
"""How the tests load it, beside `pretrained`."""


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The folder with SmolLM2-135M-Instruct as one GGUF file."""
    try:
        return fetch(USERS_CACHE)
    except NotFetched as reason:
        pytest.skip(f"the real model could not be fetched: {reason}")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real prompts that the user has."""
    if not USERS_DATA:
        pytest.skip("POLYREFUSE_DATA_DIR names no folder of prompts to ask a real model")
    return Path(USERS_DATA)


@pytest.fixture(scope="module", autouse=True)
def mirror_of_real_data() -> Iterator[None]:
    """The user's prompts for the tests of this folder, and the processes that they start."""
    with pytest.MonkeyPatch.context() as patch:
        if USERS_DATA:
            patch.setenv("POLYREFUSE_DATA_DIR", USERS_DATA)
        yield


@pytest.fixture(scope="session")
def real_lm(smollm2: Path, real_data: Path) -> Iterator[BaselineHF]:
    """The model as it is; whoever changes it has to change it back."""
    return BaselineHF(pretrained=str(smollm2), **LOADED)
