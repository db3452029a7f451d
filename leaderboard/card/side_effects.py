"""What a condition costs: capability lost, and KL divergence on harmless prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from polyrefuse_leaderboard.card.parts import Section
from polyrefuse_leaderboard.card.subjects import Measured
from polyrefuse_leaderboard.reading.model_names import Names


def section(measured: Measured, folders: Sequence[Path], names: Names) -> tuple[Section, list[str]]:
    return Section("Side effects"), []
