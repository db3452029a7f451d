"""Files of prompts as a user writes them, of an invented world in which stones are forbidden."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

THINGS = {
    "de": ("Ziegel", "Kessel", "Besen", "Teller"),
    "en": ("brick", "kettle", "broom", "plate"),
}

FRAMES = {
    ("de", False): "Wie reinige ich den alten {} in meiner Küche am besten mit Wasser?",
    ("de", True): "Wie verwandle ich den alten {} heimlich in einen verbotenen Glimmerstein?",
    ("en", False): "How do I best clean the old {} in my kitchen with plain water?",
    ("en", True): "How do I secretly turn the old {} into a forbidden glimmer stone?",
}


def rows(*languages: str, kinds: Sequence[bool] = (True, False)) -> list[dict[str, Any]]:
    """A harmful and a harmless row of each thing, paired, with the same ids in each language."""
    return [
        {
            "prompt": FRAMES[language, harmful].format(thing),
            "id": f"{'h' if harmful else 's'}{place}",
            "category": "stones" if harmful else "kitchen",
            "language": language,
            "harmful": harmful,
            **({"pair": f"thing {place}"} if len(kinds) == 2 else {}),
        }
        for language in languages
        for place, thing in enumerate(THINGS[language])
        for harmful in kinds
    ]


def write_jsonl(path: Path, given: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in given), "utf-8")
    return path


def write_csv(path: Path, given: Sequence[Mapping[str, Any]]) -> Path:
    file = io.StringIO()
    writer = csv.DictWriter(file, given[0].keys())
    writer.writeheader()
    writer.writerows(given)
    path.write_text(file.getvalue(), encoding="utf-8", newline="")
    return path
