"""Propose the languages of an answer besides that of its prompt, whose phrases are tried next.

A model that was attacked often refuses in a third language. The script identifies most languages at
once. Where several languages share a script, the words of the phrase files identify them and, in
Latin script, the function words: refusals consist of such words, and an answer in the language of
the prompt has few of another language. On a short refusal this is more reliable than a language
identifier, which was not trained on answers of three words, and it is much faster. A wrong proposal
costs only a search for phrases that are not there.
"""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

from polyrefuse_tasks.judges.function_words import Tally, languages_of_words
from polyrefuse_tasks.judges.normalise import drop_marks, normalise
from polyrefuse_tasks.judges.phrase_yaml import read_phrase_yaml
from polyrefuse_tasks.judges.rules import PHRASES, languages

_SCRIPTS = {
    "arabic": "\u0600-\u06ff\u0750-\u077f",
    "bengali": "\u0980-\u09ff",
    "greek": "\u0370-\u03ff\u1f00-\u1fff",
    "kana": "\u3041-\u30fa\u30fd-\u30ff",
    "hangul": "\u1100-\u1112\uac00-\ud7af",
    "cyrillic": "\u0400-\u04ff",
    "devanagari": "\u0900-\u0963\u0966-\u097f",
    "thai": "\u0e00-\u0e7f",
    "chinese": "\u3400-\u4dbf\u4e00-\u9fff",
}
"""The letters of the scripts other than Latin."""

_WRITTEN = {
    "arabic": ("ar", "fa", "ur"),
    "bengali": ("bn",),
    "greek": ("el",),
    "kana": ("ja",),
    "hangul": ("ko",),
    "cyrillic": ("ru", "uk"),
    "devanagari": ("hi",),
    "thai": ("th",),
    "chinese": ("zh",),
}
"""The languages with a phrase file in each script; Japanese also uses Chinese characters."""

_SCRIPT_OF = {code: script for script, codes in _WRITTEN.items() for code in codes}
_SHARED = {script for script, codes in _WRITTEN.items() if len(codes) > 1}
_LATIN = "latin"

_RUN = re.compile("|".join(f"(?P<{script}>[{letters}]+)" for script, letters in _SCRIPTS.items()))
_KANA = re.compile(f"[{_SCRIPTS['kana']}]")
_CHINESE = re.compile(f"[{_SCRIPTS['chinese']}]")
_WORDS = {
    _LATIN: re.compile("[a-z\u00df-\u024f\u0251-\u025b\u0300-\u036f\u1e00-\u1eff]+"),
    **{script: re.compile(f"[{_SCRIPTS[script]}]+") for script in _SHARED},
}

HEAD = 160
"""The number of characters of an answer that are read."""

SHARE = 0.4
"""The share of the first words in Latin script that a language's phrases must have."""

FEW_WORDS = 3
"""If there are at most this many words, their stems are searched as well."""

AT_MOST = 3
"""The most languages in Latin script that are proposed, apart from ties."""


def other_languages(start: str, language: str) -> Iterator[str]:
    """Yield languages with a phrase file, other than English and the prompt's, likeliest first.

    Args:
        start: the first words of an answer, `normalise`d.
        language: the ISO 639-1 code of the prompt.
    """
    head = start[:HEAD]
    if _foreign(language).search(head):
        runs = Counter[str]()
        for run in _RUN.finditer(head):
            runs[run.lastgroup or ""] += len(run[0])
        if runs["kana"]:
            runs["kana"] += runs.pop("chinese", 0)
        for script, _ in runs.most_common(2):
            if script != _SCRIPT_OF.get(language):
                yield from _in_script(head, script)
    elif language == "ja" and not _KANA.search(head) and _CHINESE.search(head):
        yield "zh"
    own = _SCRIPT_OF.get(language)
    if own in _SHARED:
        counts = _counts(head, own)
        likelier = (code for code in _WRITTEN[own] if counts[code] > counts[language])
        yield from sorted(likelier, key=counts.__getitem__, reverse=True)
    yield from _in_latin_script(head, language)


@cache
def _foreign(language: str) -> re.Pattern[str]:
    """Return a pattern for a letter of a script other than the language's own and Latin."""
    own = {"kana", "chinese"} if language == "ja" else {_SCRIPT_OF.get(language)}
    letters = "".join(letters for script, letters in _SCRIPTS.items() if script not in own)
    return re.compile(f"[{letters}]")


def _in_script(head: str, script: str) -> Iterator[str]:
    """Yield the languages of a script that have the most of the words."""
    codes = _WRITTEN[script]
    if len(codes) == 1:
        yield from codes
        return
    counts = _counts(head, script)
    most = max(counts[code] for code in codes)
    yield from (code for code in codes if counts[code] == most)


def _in_latin_script(head: str, language: str) -> Iterator[str]:
    words = _WORDS[_LATIN].findall(head)
    if not words:
        return
    vocabulary = _vocabulary(_LATIN)
    known = _known(head, words, vocabulary)
    if not known and len(words) <= FEW_WORDS and not _RUN.search(head):
        # A sentence may be one word, such as Sitakuambia, of which a phrase file has the stem.
        known = [
            word[:n] for word in words for n in range(4, len(word)) if word[:n] in vocabulary.words
        ]
        words = []
    if known:
        counts = vocabulary.counts(known)
        # If the language of the prompt has as many of the words, the answer is in that language,
        # unless the words are few.
        enough = max(counts.get(language, 0) + (len(words) > FEW_WORDS), SHARE * len(words), 1)
        likeliest = sorted(counts, key=counts.__getitem__, reverse=True)
        most = counts[likeliest[0]]
        for place, code in enumerate(likeliest):
            # A single word may belong to many languages.
            if place >= AT_MOST + 2 and counts[code] < most:
                break
            if code not in (language, "en") and counts[code] >= enough:
                yield code


def _counts(head: str, script: str) -> Counter[str]:
    """Count for each language how many of the words in a script its phrases have."""
    vocabulary = _vocabulary(script)
    return Counter(vocabulary.counts(_known(head, _WORDS[script].findall(head), vocabulary)))


def _known(head: str, words: list[str], vocabulary: Tally) -> list[str]:
    """Return the words that any language has, with or without their diacritics."""
    known = [word for word in words if word in vocabulary.words]
    if not head.isascii():
        strange = (word for word in words if not (word.isascii() or word in vocabulary.words))
        known += filter(vocabulary.words.__contains__, map(drop_marks, strange))
    return known


@cache
def _vocabulary(script: str) -> Tally:
    """Return the languages of a script that have each word in their phrases or function words."""
    with_file = {code for code in languages() if _SCRIPT_OF.get(code, _LATIN) == script}
    by_word = {
        word: codes & with_file for word, codes in languages_of_words().items() if codes & with_file
    }
    for code in sorted(with_file):
        content = read_phrase_yaml(PHRASES / f"{code}.yaml")
        folds = content.get("fold_diacritics", False)
        for key in ("lead", "opening", "anywhere", "soft", "caution", "grammar", "whole", "words"):
            for text in _texts(content.get(key, [])):
                spelt = normalise(text)
                for word in _WORDS[script].findall(drop_marks(spelt) if folds else spelt):
                    by_word[word] = by_word.get(word, frozenset()) | {code}
    return Tally(by_word)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)
