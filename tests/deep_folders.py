"""Folders within folders, more than one path can name."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def nest(place: Path, depth: int) -> None:
    """Make folders within folders, more than one path can name."""
    descriptor = os.open(place, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)


def remove(place: Path) -> None:
    """Remove them; pytest, which removes folders by recursion, does not reach the last."""
    subprocess.run(["rm", "-rf", place], check=True)
