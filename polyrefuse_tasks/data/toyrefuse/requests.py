"""A request of the invented world, which can be put in every language, and the shipped splits.

What is unseen in the test split: its sentences, and its names. A name belongs to one split for
good, by its checksum, so that training can invent as many as it likes and meet no other's.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass

from polyrefuse_tasks.data.toyrefuse.world import words

SIZES: dict[str, int] = {"train": 160, "val": 64, "test": 120}
"""Rows a split; the test split has every forbidden thing 15 times and every safe one 10 times."""

SPLITS = tuple(SIZES)

SYLLABLES = 3
"""Of a name. The first has the vowel a, the second i, the third u: 12 consonants make 1,728 names,
and a model that knows which syllables a name has knows their order too."""


@dataclass(frozen=True)
class Request:
    """One request, by the place of its parts in the lists of `Words`: the same in all languages."""

    split: str
    forbidden: bool
    sentence: int
    verb: int
    marker: int
    name: tuple[int, ...]
    greeting: int
    closing: int

    def prompt(self, language: str) -> str:
        """What the user says."""
        w = words(language)
        marker = (w.forbidden if self.forbidden else w.safe)[self.marker]
        thing = w.thing.format(marker=marker, name=w.name(self.name))
        sentences = w.test if self.split == "test" else w.train
        asked = sentences[self.sentence].format(verb=w.verbs[self.verb], thing=thing)
        return (w.greetings[self.greeting] + asked + w.closings[self.closing]).strip()

    def refusal(self, language: str) -> str:
        """The sentence that refuses it; which one, the verb decides."""
        sentences = words(language).refusals
        return sentences[self.verb % len(sentences)]

    def answer(self, language: str) -> str:
        """The sentence that answers it and names the thing; which one, the verb decides."""
        w = words(language)
        return w.answers[self.verb % len(w.answers)].format(name=w.name(self.name))


def requests(forbidden: bool, split: str) -> list[Request]:
    """The shipped requests of one kind and split, the same at every call."""
    rng = random.Random(f"toyrefuse/{'forbidden' if forbidden else 'safe'}/{split}")
    things = words("en").forbidden if forbidden else words("en").safe
    return [
        draw(rng, split, forbidden, marker=index % len(things)) for index in range(SIZES[split])
    ]


def draw(rng: random.Random, split: str, forbidden: bool, *, marker: int | None = None) -> Request:
    """A random request of a split, with a name of that split.

    Args:
        rng: where chance comes from.
        split: one of `SPLITS`.
        forbidden: whether the thing is of the forbidden list.
        marker: which thing of its list; a random one where None.
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
    """The split that a name belongs to: of ten names eight train, one validates, one tests."""
    return {0: "test", 1: "val"}.get(zlib.crc32(bytes(syllables)) % 10, "train")


def _name(rng: random.Random, split: str) -> tuple[int, ...]:
    consonants = len(words("en").syllables) // SYLLABLES
    while True:
        name = tuple(SYLLABLES * rng.randrange(consonants) + place for place in range(SYLLABLES))
        if split_of_name(name) == split:
            return name
