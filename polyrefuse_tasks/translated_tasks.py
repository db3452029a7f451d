"""The task YAML of the user's own translations and datasets, in the cache for lm-eval to scan.

The name of a folder is the checksum of its content, so a folder never changes. Processes with other
data folders, or with other data in them, use folders of their own, and no folder is rewritten or
removed while a process reads it. Older folders stay (a few KB each); `tasks/` in the cache can be
deleted when nothing runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from polyrefuse_shared.writing import CannotWrite, whole_folder
from polyrefuse_tasks.configs import own_files, translated_files
from polyrefuse_tasks.data import cache


def write_translated() -> Path | None:
    """Write the tasks of the translations and datasets that exist now, and return their folder.

    Returns:
        The folder; None if there are no such tasks.

    Raises:
        UserError: the data folder cannot be used, or the cache cannot be written.
    """
    files = translated_files() | own_files()
    if not files:
        return None
    folder = cache.cache() / "tasks" / _checksum(files)
    if not folder.is_dir():
        try:
            with whole_folder(folder) as draft:
                for name, text in files.items():
                    (draft / name).write_text(text, encoding="utf-8")
        except CannotWrite:
            if not folder.is_dir():  # Another process has written it meanwhile.
                raise
    return folder


def _checksum(files: Mapping[str, str]) -> str:
    written = json.dumps(files, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(written.encode()).hexdigest()[:16]
