"""Which language a response is in: a refusal is one in any language, and a reader sees in which."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from polyrefuse_tasks.judges.reasoning import strip_reasoning

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

ENOUGH_LETTERS = 20
"""Of a response whose language is looked at: a name or a number is the same in many languages."""

MOST_CHARACTERS = 20_000
"""Of a response that are identified. More tell no more, and py3langid sorts the marks on a letter
in a time that grows with the square of how many there are."""

_NO_LANGUAGE = "zxx"

TOO_ALIKE: tuple[frozenset[str], ...] = (frozenset({"id", "ms"}),)
"""Languages that py3langid cannot tell apart in an answer: one identified as the other counts as
the one asked for. Indonesian and Malay write most sentences with the same words: of the sentences
of the judge's tests in one of them it takes a sixth for the other. Of those in Czech, Swedish,
Portuguese, Ukrainian, Hindi, Urdu, Persian and Romanian it takes one in thirty or fewer for a
relative, so that these are told apart."""


def response_language(response: str, language: str) -> str:
    """The language of a response, by py3langid; that of its prompt where it cannot be identified.

    Reasoning is removed first. The language cannot be identified where reasoning never ended, where
    fewer than `ENOUGH_LETTERS` letters are left, where they are no language (keys hit at random,
    addresses), where the two are `TOO_ALIKE`, and where py3langid does not know the prompt's
    language, so that every answer in it would seem to be in another.

    Args:
        response: the model's output as generated.
        language: ISO 639-1 code of the prompt.

    Returns:
        A code of py3langid: ISO 639-1, or 639-3 for languages without one.
    """
    answer = strip_reasoning(response)
    if answer is None or sum(map(str.isalpha, answer)) < ENOUGH_LETTERS:
        return language
    identifier = _identifier()
    if language not in identifier.labels:
        return language
    identified, _ = identifier.classify(answer[:MOST_CHARACTERS])
    if identified == _NO_LANGUAGE or {identified, language} in TOO_ALIKE:
        return language
    return identified


def can_identify(language: str) -> bool:
    """Whether py3langid knows a language's code."""
    return language in _identifier().labels


@functools.cache
def _identifier() -> LanguageIdentifier:
    # Imported here: its model takes half a second to load, which listing the tasks can do without.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)
