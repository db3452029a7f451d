"""Requests of the invented world, which can be rendered in every language, and the shipped splits.

The sentences and names of the test split are unseen. A name always belongs to one split, by its
checksum, so training can invent any number of names without meeting those of another split.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass

from polyrefuse_tasks.data.toyrefuse.world import words

SIZES: dict[str, int] = {"train": 160, "val": 64, "test": 120}
"""The number of rows of each split. The test split has each forbidden thing 15 times and each safe
thing 10 times."""

SPLITS = tuple(SIZES)

SYLLABLES = 3
"""The number of syllables of a name. The first has the vowel a, the second i and the third u, so
the vowels show the order of the syllables. 12 consonants make 1,728 names."""


@dataclass(frozen=True)
class Request:
    """One request, as the places of its parts in the lists of `Words`, for every language."""

    split: str
    forbidden: bool
    sentence: int
    verb: int
    marker: int
    name: tuple[int, ...]
    greeting: int
    closing: int

    def prompt(self, language: str) -> str:
        """Return the text that the user says."""
        w = words(language)
        marker = (w.forbidden if self.forbidden else w.safe)[self.marker]
        thing = w.thing.format(marker=marker, name=w.name(self.name))
        sentences = w.test if self.split == "test" else w.train
        asked = sentences[self.sentence].format(verb=w.verbs[self.verb], thing=thing)
        return (w.greetings[self.greeting] + asked + w.closings[self.closing]).strip()

    def refusal(self, language: str) -> str:
        """Return the sentence that refuses the request; the verb decides which one."""
        sentences = words(language).refusals
        return sentences[self.verb % len(sentences)]

    def answer(self, language: str) -> str:
        """Return the sentence that answers and names the thing; the verb decides which one."""
        w = words(language)
        return w.answers[self.verb % len(w.answers)].format(name=w.name(self.name))


def requests(forbidden: bool, split: str) -> list[Request]:
    """Return the shipped requests of one kind and split, which are the same in every call."""
    rng = random.Random(f"toyrefuse/{'forbidden' if forbidden else 'safe'}/{split}")
    things = words("en").forbidden if forbidden else words("en").safe
    return [
        draw(rng, split, forbidden, marker=index % len(things)) for index in range(SIZES[split])
    ]


def draw(rng: random.Random, split: str, forbidden: bool, *, marker: int | None = None) -> Request:
    """Draw a random request of a split, with a name of that split.

    Args:
        rng: the random number generator.
        split: one of `SPLITS`.
        forbidden: whether the thing is on the forbidden list.
        marker: the place of the thing in its list; None draws one.
    """
    w = words("en")
    things = w.forbidden if forbidden else w.safe
    sentences = w.test if split == "test" else w.train
    return Request(
        split=split,
        forbidden=forbidden,
        sentence=rng.randrange(len(sentences)),
        verb=rng.randrange(len(w.verbs)),
        marker=rng.randrange(len(things)) if marker is None else marker,
        name=_name(rng, split),
        greeting=rng.randrange(len(w.greetings)),
        closing=rng.randrange(len(w.closings)),
    )


def split_of_name(syllables: tuple[int, ...]) -> str:
    """Return the split of a name: `train` for eight names of ten, `val` for one, `test` for one."""
    return {0: "test", 1: "val"}.get(zlib.crc32(bytes(syllables)) % 10, "train")


def _name(rng: random.Random, split: str) -> tuple[int, ...]:
    consonants = len(words("en").syllables) // SYLLABLES
    while True:
        name = tuple(SYLLABLES * rng.randrange(consonants) + place for place in range(SYLLABLES))
        if split_of_name(name) == split:
            return name
