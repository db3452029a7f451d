"""Fixtures that every folder of tests shares: a small random chat model, and the reference data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"

# Before anything of Hugging Face is imported: a test that reaches for a hub fails at once.
os.environ["HF_HUB_OFFLINE"] = "1"

# Before torch is imported: models as small as the tests' are slower on several threads, and very
# much slower where other programs want the same cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a test extracts is kept for the other tests, and not in the user's own cache.

    Nor does any test write translations into the user's own data folder.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYREFUSE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("POLYREFUSE_DATA_DIR", raising=False)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"reference data not found: no {SHARED.name}/ beside the checkout")
    return SHARED


@pytest.fixture
def mirror(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reference data as the local mirror of this test and of the processes it starts."""
    folder = shared / "data"
    monkeypatch.setenv("POLYREFUSE_DATA_DIR", str(folder))
    return folder


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small random Llama and a byte-level tokenizer with a chat template."""
    from tests.models import save_chat_model

    folder = tmp_path_factory.mktemp("models") / "random-llama"
    save_chat_model(folder)
    return folder
