"""Brings a response, and every phrase it is compared with, to one spelling."""

import re
import unicodedata
from functools import cache
from typing import Literal

_TYPOGRAPHY = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u02b9\u00b4\u2032\uff07`", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033\uff02", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
    # Invisible in print, yet they split a phrase in two: zero-width characters, soft hyphens.
    **dict.fromkeys("\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad", ""),
    **dict.fromkeys("*_~", ""),
}
# A pattern that finds the few such characters costs a third of str.translate on non-ASCII text.
_TYPOGRAPHIC = re.compile("[" + re.escape("".join(_TYPOGRAPHY)) + "]")
_LINE_MARK = re.compile(r"\n[ \t]*(?:#{1,6}|>|[-+•]|\d{1,3}[.)])[ \t]+")
# One of these makes NFKC take a whole text apart and put it together again, which costs ten times
# as much; and hardly an answer in Chinese is without, or holds another.
_COMMON_FORMS = {form: unicodedata.normalize("NFKC", form) for form in "，：（）？！；ำ"}
_SPACE_BEFORE_MARK = re.compile(r" (?=[,.!?:;])")
_TATWEEL = "\u0640"
_ONE_PIECE = 500
"""Characters of a text that is brought to a normal form as a whole."""

_PIECE = re.compile(rf".{{1,{_ONE_PIECE}}}[^\x00-\x7f]{{0,{_ONE_PIECE}}}", re.DOTALL)
"""So much of a text that what follows it begins with an ASCII character, with which no character
before it combines, unless there is none for long."""


def normalise(text: str) -> str:
    """One spelling for what readers take for the same words.

    Unicode NFKC (full-width and half-width forms), case folding, typographic quotes and dashes as
    ASCII, Markdown marks removed, every run of white space one space.
    """
    # Quotes first: NFKC takes the acute accent, which some type for an apostrophe, apart into a
    # space and a combining mark.
    text = _TYPOGRAPHIC.sub(lambda mark: _TYPOGRAPHY[mark[0]], text)
    text = _LINE_MARK.sub("\n", "\n" + text)
    for form, plain in _COMMON_FORMS.items():
        text = text.replace(form, plain)
    text = _in_form("NFKC", text).casefold()
    return _SPACE_BEFORE_MARK.sub("", " ".join(text.split()))


def drop_spaces(text: str) -> str:
    """`text` without white space, for scripts that put none between words, or vary it."""
    return "".join(text.split())


def drop_marks(text: str) -> str:
    """`text` without combining marks: Yoruba tones and underdots, Arabic vowel signs and hamzas.

    The Arabic stretching stroke (tatweel) goes too. Alef with a hamza or madda becomes bare alef,
    because Unicode takes it apart into the two.
    """
    apart = _in_form("NFD", text.replace(_TATWEEL, ""))
    return _in_form("NFC", _combining().sub("", apart))


def _in_form(form: Literal["NFC", "NFD", "NFKC"], text: str) -> str:
    """The text in one of Unicode's normal forms, in time that grows with its length.

    Python sorts the marks on a letter one past the other. A letter with more marks than a piece
    has room for, which no language has, keeps them in another order.
    """
    if len(text) <= _ONE_PIECE:
        return unicodedata.normalize(form, text)
    return "".join(unicodedata.normalize(form, piece) for piece in _PIECE.findall(text))


@cache
def _combining() -> re.Pattern[str]:
    # A pattern costs a third of asking for each character of a text. Marks beyond the first plane,
    # which only rare scripts have, would make it a slow one.
    return re.compile(f"[{''.join(filter(unicodedata.combining, map(chr, range(0x10000))))}]")
