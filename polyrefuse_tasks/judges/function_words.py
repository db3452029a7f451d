"""The small words of languages in Latin script, and which languages words may be of."""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import yaml

from polyrefuse_tasks.judges.normalise import drop_marks


@cache
def languages_of_words() -> dict[str, frozenset[str]]:
    """By a case-folded function word the ISO 639-1 codes of the languages that have it."""
    path = Path(__file__).with_suffix(".yaml")
    languages: dict[str, set[str]] = {}
    for code, words in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        for word in words.split():
            # Many writers drop marks.
            for spelling in (word, drop_marks(word)):
                languages.setdefault(spelling, set()).add(code)
    return {word: frozenset(codes) for word, codes in languages.items()}


class Tally:
    """Counts how many of some words each language has.

    A word is a number in which each language that has it has a one in its byte, so that one sum
    counts for all languages: up to 255 words of them.

    Args:
        languages_of: by a word the codes of the languages that have it.

    Attributes:
        words: those that a language has.
    """

    def __init__(self, languages_of: Mapping[str, Iterable[str]]) -> None:
        self.words = frozenset(languages_of)
        self._codes = sorted({code for codes in languages_of.values() for code in codes})
        ones = {code: 1 << 8 * i for i, code in enumerate(self._codes)}
        self._numbers = {
            word: sum(map(ones.__getitem__, codes)) for word, codes in languages_of.items()
        }

    def counts(self, words: Iterable[str]) -> dict[str, int]:
        """By code how many of the words, each of which is one of `words`, the language has."""
        return dict(zip(self._codes, self._bytes(words), strict=True))

    def most(self, words: Iterable[str]) -> int:
        """How many of the words, each of which is one of `words`, the commonest language has."""
        return max(self._bytes(words))

    def _bytes(self, words: Iterable[str]) -> bytes:
        total = sum(map(self._numbers.__getitem__, words))
        return total.to_bytes(len(self._codes), "little")


@cache
def tally_of_words() -> Tally:
    """Of the function words."""
    return Tally(languages_of_words())
