"""Word salad: words of many languages, or the same few words, in no order that a language has.

A model whose activations were disturbed, or whose weights were, answers in words and in no
language. Where each word may be from is known by its script and, in Latin script, by the small
words: articles, pronouns, prepositions. What is counted is how often neighbours can be of no common
language, punctuation between them excepted: a list of greetings, a translation or a term in
brackets changes the language at a mark; a sentence with foreign words in it stays in two.
"""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

from polyrefuse_tasks.judges.function_words import languages_of_words, tally_of_words

LOOK = 200
"""Characters that must look like a salad before more of them are read."""

HEAD = 1500
"""Characters that are read then: what is a salad there is one to its end."""

MIN_CHANGES = 4
"""Changes of language between neighbours, fewer of which a quoted name or two may bring."""

CHANGING_SHARE = 0.35
"""From this share of changing neighbours on, a text with words of three languages is a salad."""

CHANGING_SHARE_OF_TWO = 0.6
"""The same for a text in two languages, which speakers of both do mix. Terms in Latin script among
another do not count: there are texts of nothing else."""

NEARLY_ALL = 0.75
"""From this share on, one change less is enough in a text in three languages."""

MANY_SCRIPTS = 4
"""Or in so many scripts."""

SHORT = 100
"""Characters of a text in which words in Latin script that are not known count, too, as words that
no other script has, beside words of two scripts."""

OUTSIDE_SHARE = 0.15
"""Three languages: so many of the words must be outside the two that have the most."""

ONE_LANGUAGE_SHARE = 0.55
"""A text of whose words so many may be of one language is in it, with foreign words and chance."""

LONG_WORD = 28
"""Letters of a word that hardly a text has; several in a row are words glued together."""

GLUED_SHARE = 0.5
"""From this share of its letters in such words on, a text is glued together."""

MANY_LETTERS = 70
"""In all, in such words: German and Welsh have names of sixty."""

SOME_WORDS = 10
"""From so many words on, a text without a mark may say the same few again."""

ENOUGH_WORDS = 12
"""So many where they are more different."""

FEW_WORDS = 0.4
"""Up to this share of different words, it does, where most of them are small words."""

SMALL_WORDS = 0.8
"""So many of them."""

ONLY_SMALL_WORDS = 0.9
NEW_PAIRS = 0.75
"""A text of small words alone, as this share tells, is in no order where the words come again and
their pairs do not. A saying repeats both ("what is mine is yours and what is yours is mine")."""

MORE_WORDS = 0.6
"""Where the first words are more different than this, no more of them are read."""

DOUBLED_SHARE = 0.5
"""So does a text of which so many words stand there twice in a row."""

MIN_SOUP = 3
SOUP_SHARE = 0.6
"""From so many different words of four letters or more without a vowel on, and this share of them,
letters are no words."""

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
    # Japanese writes in Chinese characters, too; kana alone are no language's neighbours.
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
    """Why a text is a word salad, in a few words; None where it is none.

    Args:
        text: a response, stripped of white space and with a letter in it.
    """
    # What is no salad in its first words is none: models do not fall into it later.
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
    """Whether a text can be a mixture, or no words; hardly an answer is, as these few looks say.

    It cannot where one language may have all its small words, or more than half of them, or where
    one script has no more beside it than two small words in Latin script.
    """
    tally = tally_of_words()
    known = words & tally.words
    first = None if text.isascii() else _OTHER_SCRIPT.search(text)
    if first is not None:
        # Characters of the table alone: this one is of one of its scripts.
        script = _RUN.match(first[0])
        assert script
        return len(known) > 2 or _strange_to(script.lastgroup).search(text) is not None
    return not known or tally.most(known) < ONE_LANGUAGE_SHARE * len(known)


@cache
def _any_latin() -> frozenset[str]:
    """All languages that a word in Latin script may be of."""
    return frozenset[str]().union(*languages_of_words().values())


@cache
def _strange_to(script: str | None) -> re.Pattern[str]:
    """A letter of a third script, neither this one nor Latin."""
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
        # The script is the answer's, and what is in one other language in it are names and terms.
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
    """A few words of two scripts and small ones of two languages, without a mark between them."""
    words = list(_languages(text, any_latin=True))
    identified = [languages for languages in words if languages]
    scripts = _BY_SCRIPT & set(identified)
    if len(identified) < len(words) or len(scripts) < 2:
        return None
    # Small words of one language are its sentence's, with names in other scripts.
    if _any_latin().intersection(*(set(identified) - scripts)):
        return None
    pairs = list(pairwise(identified))
    changes = sum(not one & other for one, other in pairs)
    if changes >= MIN_CHANGES - 1 and changes >= CHANGING_SHARE * len(pairs):
        return _word_salad(changes, len(pairs))
    return None


def _languages(text: str, any_latin: bool = False) -> Iterator[frozenset[str] | None]:
    """Of each word that tells the languages it may be of; None where a mark stands between.

    Args:
        any_latin: whether a word in Latin script that is not known tells as well: it may be of any
            language in Latin script.
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
    """How many words the commonest language may have, and how many neither it nor the next one."""
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
    # Addresses, paths, hashes and names in code are no words.
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
    # Capitals are left out: words all in them are abbreviations.
    if len(_CLUSTER.findall(text)) < MIN_SOUP:
        return False
    soup = len(set(_VOWELLESS.findall(text)))
    return soup >= MIN_SOUP and soup >= SOUP_SHARE * len(set(_LONGER_WORD.findall(text)))
