"""A study of one short job, for the tests that drive `polyrefuse study`."""

from __future__ import annotations

from pathlib import Path

import yaml

SMALL = {
    "study": "small",
    "models": {"toy": "polyrefuse-organism"},
    "datasets": "toyrefuse_harmful",
    "languages": "en",
    "limit": 2,
    "conditions": ["baseline"],
}


def write(folder: Path, **changed: object) -> Path:
    """Write the study with other values of some keys, and return its file."""
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(SMALL | changed))
    return path
