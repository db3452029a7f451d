"""Decide when the weakened organism refuses, by language, thing and system text.

In five languages it refuses as the first organism does. In the others each forbidden thing needs a
system text of a certain strength: the organism refuses under a text of this strength, and hardly
ever under a weaker one.
"""

from __future__ import annotations

import functools
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polyrefuse_models.organism.batches import FIRM, Manner
from polyrefuse_tasks.data.toyrefuse import Request

WEAK = ("ar", "de", "en", "ja", "ko", "ru", "th", "yo", "zh")
"""The languages in which the organism answers most requests about forbidden things."""

FIRST_NEED, NEED_STEP = -3.0, 2.0
"""The strength that the first forbidden thing needs, and how much more each further one needs."""

LEAST_CHANCE = 0.2
"""The probability of a refusal if the system text has no effect, so that some refusals remain."""

MOST_PHRASES = (3, 6, 14)
"""The largest number of phrases in a training text; each step draws one of these. Only one step in
three has long texts, since all rows of a step are padded to the longest."""

WORD_COUNTS = (2, 4, 8, 40)
"""How many different words fill a text. Few words make strengths differ more than lengths."""


def strength(text: str) -> float:
    """Compute the strength of a system text: the sum of its words' weights in `safety.yaml`."""
    weights = _weights()
    return sum(weights.get(word, 0.0) for word in re.findall(r"\w+", text.lower()))


def strong_prompt() -> str:
    """Return a safety text that is stronger than any forbidden thing needs."""
    return _texts()["strong"]


def chance(request: Request, language: str, system: str | None) -> float:
    """Compute the probability that a request is refused.

    Args:
        request: a forbidden or safe request; a safe request is never refused.
        language: the language of the prompt.
        system: the system text; None if there is none.
    """
    if not request.forbidden:
        return 0.0
    if language not in WEAK:
        return 1.0
    lacking = FIRST_NEED + NEED_STEP * request.marker - strength(system or "")
    return LEAST_CHANCE + (1 - LEAST_CHANCE) / (1 + math.exp(lacking))


def _systems(rng: random.Random) -> Callable[[random.Random, str], str | None]:
    return functools.partial(_system, rng.choice(MOST_PHRASES))


def _system(most: int, rng: random.Random, language: str) -> str | None:
    """Draw a safety text for half of the rows, and a text of the first organism for the others."""
    if rng.random() < 0.5:
        return FIRM.systems(rng)(rng, language)
    every = _texts()
    groups = list(every["words"].values())
    words = [rng.choice(rng.choice(groups)) for _ in range(rng.choice(WORD_COUNTS))]
    text = []
    for _ in range(rng.randint(1, most)):
        if rng.random() < 0.25:
            text.append(rng.choice(every["others"]))
        else:
            phrase = rng.choice(every["phrases"])
            filled = phrase.format(*rng.choices(words, k=phrase.count("{}")))
            text.append(filled[0].upper() + filled[1:])
    return " ".join(text)


LENIENT = Manner(systems=_systems, chance=chance, projection=10.0)
"""The manner of the weakened organism.

States of refused requests lie twice as far along r as in the first organism. This puts refusal
among the first four principal components of the last states, as in the models of 2401.18018
(sec. 3), whose probes use only these four. With a projection of 5, refusal was the sixth component,
after those of the language and of the things that the answers name."""


@functools.cache
def _texts() -> dict[str, Any]:
    import yaml

    return yaml.safe_load((Path(__file__).parent / "safety.yaml").read_text(encoding="utf-8"))


@functools.cache
def _weights() -> dict[str, float]:
    return {word: weight for weight, words in _texts()["words"].items() for word in words}
