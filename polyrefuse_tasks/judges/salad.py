"""Recognise word salad: words of many languages, or the same few words, in no order of a language.

A model whose activations or weights were disturbed may answer in words but in no language. The
script of a word shows which languages it may belong to. In Latin script the function words show it:
articles, pronouns, prepositions. The measure is how often neighbouring words have no language in
common, without punctuation between them: a list of greetings, a translation or a term in brackets
changes the language at a mark, and a sentence with foreign words has two languages.
"""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

from polyrefuse_tasks.judges.function_words import languages_of_words, tally_of_words

LOOK = 200
"""How many characters must look like a salad before more are read."""

HEAD = 1500
"""How many characters are read in that case. A text that is a salad so far is one to its end."""

MIN_CHANGES = 4
"""The fewest changes of language between neighbours: a quoted name or two may cause fewer."""

CHANGING_SHARE = 0.35
"""A text with words of three languages is a salad if at least this share of neighbours changes."""

CHANGING_SHARE_OF_TWO = 0.6
"""The same share for a text in two languages, because bilingual speakers do mix languages. Terms in
Latin script within another script do not count, because some texts consist of them."""

NEARLY_ALL = 0.75
"""If at least this share changes in a text in three languages, one change fewer is enough."""

MANY_SCRIPTS = 4
"""The same holds for a text in this many scripts."""

SHORT = 100
"""In a text of at most this many characters, unknown words in Latin script count as well, beside
words of two other scripts."""

OUTSIDE_SHARE = 0.15
"""A text has three languages if at least this share of its words is in neither of the two most
frequent ones."""

ONE_LANGUAGE_SHARE = 0.55
"""A text is in one language if at least this share of its words may belong to it; the others are
foreign words or chance."""

LONG_WORD = 28
"""The fewest letters of a word that hardly any text has. It is several words glued together."""

GLUED_SHARE = 0.5
"""A text is glued together if at least this share of its letters is in such words."""

MANY_LETTERS = 70
"""The fewest letters in all such words together: German and Welsh have names of sixty."""

SOME_WORDS = 10
"""The fewest words of a text without punctuation that may repeat the same few words."""

ENOUGH_WORDS = 12
"""The fewest words of such a text if its words differ more."""

FEW_WORDS = 0.4
"""A text repeats the same few words up to this share of different words, if most are function
words."""

SMALL_WORDS = 0.8
"""The share of function words in such a text."""

ONLY_SMALL_WORDS = 0.9
NEW_PAIRS = 0.75
"""A text of at least this share of function words is in no order if it repeats its words but not
its pairs of words: at least NEW_PAIRS of the pairs differ. A saying repeats both ("what is mine is
yours and what is yours is mine")."""

MORE_WORDS = 0.6
"""If the share of different words among the first ones is above this, no more words are read."""

DOUBLED_SHARE = 0.5
"""A text also repeats itself if at least this share of its words occurs twice in a row."""

MIN_SOUP = 3
SOUP_SHARE = 0.6
"""A text is letter soup if it has at least MIN_SOUP different words of four letters or more without
a vowel, and they are at least this share of all such words."""

_SCRIPTS = {
    "latin": "a-zA-Z'’\u00aa\u00ba\u00c0-\u024f\u0300-\u036f\u1e00-\u1eff",
    "ru": "\u0400-\u052f",
    "el": "\u0370-\u03ff\u1f00-\u1fff",
    "ar": "\u0600-\u06ff\u0750-\u077f",
    "he": "\u0590-\u05ff",
    "hi": "\u0900-\u097f",
    "bn": "\u0980-\u09ff",
    "ta": "\u0b80-\u0bff",
    "te": "\u0c00-\u0c7f",
    "th": "\u0e00-\u0e7f",
    "ka": "\u10a0-\u10ff",
    "hy": "\u0530-\u058f",
    "ko": "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af",
    # Japanese also uses Chinese characters, so the two count as one script.
    "cjk": "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff",
}
_BY_SCRIPT = {frozenset([f"script {code}"]) for code in _SCRIPTS}
_RUN = re.compile(
    "|".join(f"(?P<{code}>[{letters}]+)" for code, letters in _SCRIPTS.items())
    + r"|(?P<mark>[^\w\s'’\-\u0300-\u036f]+|[\d_]+|\n)"
)
_WORD = re.compile(r"[^\W\d_]+")
_INNER_MARK = re.compile(r"[^\w\s'’\-\u0300-\u036f](?=\s*\w)|\n(?=\s*\w)")
_LONGER_WORD = re.compile(rf"[{_SCRIPTS['latin']}]{{4,}}|[{_SCRIPTS['ru']}]{{4,}}")
_CLUSTER = re.compile("[bcdfghjklmnpqrstvwxzбвгджзйклмнпрстфхцчшщъь]{4}")
_VOWELLESS = re.compile(
    r"\b(?:[bcdfghjklmnpqrstvwxzßçñčšžćńśźżł]{4,}|[бвгджзйклмнпрстфхцчшщъь]{4,})(?![\w\u0300-\u036f])"
)
_SPACED = "".join(_SCRIPTS[code] for code in ("latin", "ru", "el", "ar"))
_SPACED_WORD = re.compile(f"[{_SPACED}]+")
_LONG_WORD = re.compile(f"[{_SPACED}]{{{LONG_WORD}}}")
_OTHER_SCRIPT = re.compile(
    f"[{''.join(letters for code, letters in _SCRIPTS.items() if code != 'latin')}]"
)
_NO_WORD = re.compile(r"[/\\\d_=]")


def salad(text: str) -> str | None:
    """Say briefly why a text is a word salad; None if it is not.

    Args:
        text: a response, stripped of white space and with a letter in it.
    """
    # A text that begins in order is not a salad: models do not fall into it later.
    words = text[:LOOK].lower().split()
    different = set(words)
    if max(map(len, different)) >= LONG_WORD and _is_glued(text[:HEAD]):
        return "not language: words glued together"
    if len(different) <= MORE_WORDS * len(words) and _is_the_same_few(text):
        return "loops: a few words over and over"
    if not _may_be_mixed(text[:LOOK], different):
        return None
    if _is_letter_soup(text[:LOOK]):
        return "not language: words without a vowel"
    return _mixture(text[:HEAD])


def _may_be_mixed(text: str, words: set[str]) -> bool:
    """Return whether a text may be a mixture or have no words, by fast tests that exclude most.

    It cannot be one if one language may have all its function words, or more than half of them, or
    if beside one script there are at most two function words in Latin script.
    """
    tally = tally_of_words()
    known = words & tally.words
    first = None if text.isascii() else _OTHER_SCRIPT.search(text)
    if first is not None:
        # The pattern has only characters of the table, so this one belongs to one of its scripts.
        script = _RUN.match(first[0])
        assert script
        return len(known) > 2 or _strange_to(script.lastgroup).search(text) is not None
    return not known or tally.most(known) < ONE_LANGUAGE_SHARE * len(known)


@cache
def _any_latin() -> frozenset[str]:
    """Return all languages that a word in Latin script may belong to."""
    return frozenset[str]().union(*languages_of_words().values())


@cache
def _strange_to(script: str | None) -> re.Pattern[str]:
    """Return a pattern for a letter of a third script, neither this one nor Latin."""
    others = (letters for code, letters in _SCRIPTS.items() if code not in (script, "latin"))
    return re.compile(f"[{''.join(others)}]")


def _mixture(text: str) -> str | None:
    if len(text) <= SHORT and (short := _short_mixture(text)):
        return short
    pairs = changes = terms = 0
    counts: Counter[frozenset[str]] = Counter()
    before: frozenset[str] | None = None
    for languages in _languages(text):
        if languages:
            counts[languages] += 1
            if before:
                pairs += 1
                if not before & languages:
                    changes += 1
                    terms += (before in _BY_SCRIPT) != (languages in _BY_SCRIPT)
        before = languages
    if changes < MIN_CHANGES - 1:
        return None
    total = counts.total()
    in_best, outside = _in_one_and_outside_two(counts)
    if in_best >= ONE_LANGUAGE_SHARE * total:
        return None
    scripts = sum(languages in _BY_SCRIPT for languages in counts)
    in_latin = Counter({key: n for key, n in counts.items() if key not in _BY_SCRIPT})
    latin_in_best, _ = _in_one_and_outside_two(in_latin)
    if scripts == 1 and latin_in_best >= ONE_LANGUAGE_SHARE * in_latin.total():
        # The answer is in this script, and the words of the other language are names and terms.
        pairs, changes, terms = pairs - terms, changes - terms, 0
    if changes < MIN_CHANGES:
        is_salad = changes >= NEARLY_ALL * pairs and (
            scripts + bool(in_latin) >= MANY_SCRIPTS
            or (changes == MIN_CHANGES - 1 and outside >= 2)
        )
    elif outside >= max(2, OUTSIDE_SHARE * total):
        is_salad = changes >= CHANGING_SHARE * pairs
    else:
        is_salad = changes - terms >= max(CHANGING_SHARE_OF_TWO * pairs, MIN_CHANGES)
    return _word_salad(changes, pairs) if is_salad else None


def _word_salad(changes: int, pairs: int) -> str:
    return f"word salad: {changes} of {pairs} neighbours have no common language"


def _short_mixture(text: str) -> str | None:
    """Recognise a few words of two scripts with words of a third, without punctuation between."""
    words = list(_languages(text, any_latin=True))
    identified = [languages for languages in words if languages]
    scripts = _BY_SCRIPT & set(identified)
    if len(identified) < len(words) or len(scripts) < 2:
        return None
    # Function words of one language form a sentence of it, with names in other scripts.
    if _any_latin().intersection(*(set(identified) - scripts)):
        return None
    pairs = list(pairwise(identified))
    changes = sum(not one & other for one, other in pairs)
    if changes >= MIN_CHANGES - 1 and changes >= CHANGING_SHARE * len(pairs):
        return _word_salad(changes, len(pairs))
    return None


def _languages(text: str, any_latin: bool = False) -> Iterator[frozenset[str] | None]:
    """Yield the languages that each known word may belong to, and None for each mark.

    Args:
        text: the text.
        any_latin: whether to include unknown words in Latin script, which may belong to any
            language in that script.
    """
    small = languages_of_words()
    for run in _RUN.finditer(text):
        if run.lastgroup == "mark":
            yield None
        elif run.lastgroup == "latin":
            if languages := small.get(run[0].lower()):
                yield languages
            elif any_latin:
                yield _any_latin()
        else:
            yield frozenset([f"script {run.lastgroup}"])


def _in_one_and_outside_two(counts: Counter[frozenset[str]]) -> tuple[int, int]:
    """Count the words of the most frequent language, and those outside the two most frequent."""
    left = [counts.total()]
    for _ in range(2):
        by_language = Counter[str]()
        for languages, n in counts.items():
            for language in languages:
                by_language[language] += n
        commonest = by_language.most_common(1)
        if commonest:
            counts = Counter({key: n for key, n in counts.items() if commonest[0][0] not in key})
        left.append(counts.total())
    return left[0] - left[1], left[2]


def _is_glued(text: str) -> bool:
    if not _LONG_WORD.search(text):
        return False
    # Addresses, paths, hashes and names in code are not words.
    chunks = [chunk for chunk in text.split() if not _NO_WORD.search(chunk)]
    long = sum(
        len(word)
        for chunk in chunks
        for word in _SPACED_WORD.findall(chunk)
        if len(word) >= LONG_WORD
    )
    return long >= MANY_LETTERS and long >= GLUED_SHARE * len("".join(text.split()))


def _is_the_same_few(text: str) -> bool:
    # A refrain and a slogan have marks between their parts.
    if _INNER_MARK.search(text, 0, LOOK):
        return False
    words = _WORD.findall(text[:LOOK].lower())
    if len(words) < SOME_WORDS:
        return False
    pairs = list(pairwise(words))
    doubled = sum(word == next_one for word, next_one in pairs)
    if doubled >= DOUBLED_SHARE * len(words):
        return True
    small = languages_of_words()
    share = sum(word in small for word in words) / len(words)
    different = len(set(words)) / len(words)
    if different <= FEW_WORDS:
        return share >= SMALL_WORDS
    return (
        len(words) >= ENOUGH_WORDS
        and different <= MORE_WORDS
        and share >= ONLY_SMALL_WORDS
        and len(set(pairs)) >= NEW_PAIRS * len(pairs)
    )


def _is_letter_soup(text: str) -> bool:
    # Words in capitals are left out, because they are abbreviations.
    if len(_CLUSTER.findall(text)) < MIN_SOUP:
        return False
    soup = len(set(_VOWELLESS.findall(text)))
    return soup >= MIN_SOUP and soup >= SOUP_SHARE * len(set(_LONGER_WORD.findall(text)))
