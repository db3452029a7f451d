"""The function words of languages in Latin script, and the languages that a word may belong to."""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import yaml

from polyrefuse_tasks.judges.normalise import drop_marks


@cache
def languages_of_words() -> dict[str, frozenset[str]]:
    """Map each case-folded function word to the ISO 639-1 codes of its languages."""
    path = Path(__file__).with_suffix(".yaml")
    languages: dict[str, set[str]] = {}
    for code, words in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        for word in words.split():
            # Many writers leave out diacritics.
            for spelling in (word, drop_marks(word)):
                languages.setdefault(spelling, set()).add(code)
    return {word: frozenset(codes) for word, codes in languages.items()}


class Tally:
    """A counter of how many of some words each language has.

    Each word is a number with one byte for each language, which is one if the language has the
    word. A single sum therefore counts for all languages, for up to 255 words.

    Args:
        languages_of: word -> the codes of the languages that have it.

    Attributes:
        words: the words that any language has.
    """

    def __init__(self, languages_of: Mapping[str, Iterable[str]]) -> None:
        self.words = frozenset(languages_of)
        self._codes = sorted({code for codes in languages_of.values() for code in codes})
        ones = {code: 1 << 8 * i for i, code in enumerate(self._codes)}
        self._numbers = {
            word: sum(map(ones.__getitem__, codes)) for word, codes in languages_of.items()
        }

    def counts(self, words: Iterable[str]) -> dict[str, int]:
        """Return how many of the words, all of them in `words`, each language has, by code."""
        return dict(zip(self._codes, self._bytes(words), strict=True))

    def most(self, words: Iterable[str]) -> int:
        """Return how many of the words, all of them in `words`, the most frequent language has."""
        return max(self._bytes(words))

    def _bytes(self, words: Iterable[str]) -> bytes:
        total = sum(map(self._numbers.__getitem__, words))
        return total.to_bytes(len(self._codes), "little")


@cache
def tally_of_words() -> Tally:
    """Return the counter of the function words."""
    return Tally(languages_of_words())
