"""The formats of published answers, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from polyrefuse_tasks.importing import arditi, harmbench, jailbreakbench, mainlp, rows
from polyrefuse_tasks.importing.answers import About, PublishedRun

FORMATS: dict[str, Callable[[Path, About], Iterator[PublishedRun]]] = {
    "mainlp": mainlp.read,
    "arditi": arditi.read,
    "harmbench": harmbench.read,
    "jailbreakbench": jailbreakbench.read,
    "heretic": rows.read_heretic,
    "jsonl": rows.read,
}
