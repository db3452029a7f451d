"""Tasks of what the user added: their YAML in the user's cache, as lm-eval scans it.

They are those of translations of one's own, and of data sets of one's own.

A folder's name is the checksum of what is in it, so that it never changes: two processes with other
data folders, or with another state of what is in it, have folders of their own, and none is
rewritten or removed under a process that reads it. Older ones stay (a few KB each); `tasks/` in the
cache can be deleted when nothing runs.
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
    """Write the tasks of the translations and data sets that there are now, and say where.

    Returns:
        The folder; None where there are none.

    Raises:
        UserError: the data folder cannot be used, or the cache not written.
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
