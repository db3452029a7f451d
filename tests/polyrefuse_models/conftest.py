"""Fixtures of the tests of models: a direction that fits the small random chat model."""

from __future__ import annotations

import pytest
import torch

from polyrefuse_models.directions import artifact
from polyrefuse_models.directions.artifact import Direction


@pytest.fixture(scope="session")
def direction(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a direction at layer 2, from nothing but random numbers."""
    folder = tmp_path_factory.mktemp("directions") / "invented"
    candidates = torch.randn(3, 4, 32, generator=torch.Generator().manual_seed(4))
    found = {"source_lang": "de", "position": -1, "layer": 2}
    artifact.save(Direction(candidates[-1, 2], candidates, metadata=found), folder)
    return str(folder)
