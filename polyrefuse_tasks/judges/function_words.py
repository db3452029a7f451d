"""The small words of languages in Latin script, and which languages a word may be of."""

from functools import cache
from pathlib import Path

import yaml

from polyrefuse_tasks.judges.normalise import drop_marks


@cache
def languages_of_words() -> dict[str, frozenset[str]]:
    """By a case-folded function word the ISO 639-1 codes of the languages that have it."""
    path = Path(__file__).with_suffix(".yaml")
    found: dict[str, set[str]] = {}
    for code, words in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        for word in words.split():
            # Many writers drop marks.
            for spelling in (word, drop_marks(word)):
                found.setdefault(spelling, set()).add(code)
    return {word: frozenset(codes) for word, codes in found.items()}
