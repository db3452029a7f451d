"""A measurement on disk: a folder with a JSON document and its pictures, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyrefuse_shared.writing import whole_folder


def write_report(
    folder: Path, name: str, document: dict[str, Any], pictures: Mapping[str, bytes]
) -> None:
    """Write `<name>.json` and the pictures into a new folder.

    Args:
        folder: must not exist.
        pictures: file name -> PNG.

    Raises:
        CannotWrite: `folder` exists already, or cannot be written.
    """
    with whole_folder(folder) as draft:
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
        (draft / f"{name}.json").write_text(text, encoding="utf-8")
        for file, content in pictures.items():
            (draft / file).write_bytes(content)
