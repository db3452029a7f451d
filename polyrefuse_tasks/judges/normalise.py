"""Bring a response, and the phrases that it is compared with, to one spelling."""

import re
import unicodedata
from functools import cache
from typing import Literal

_TYPOGRAPHY = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u02b9\u00b4\u2032\uff07`", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033\uff02", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
    # Zero-width characters and soft hyphens are invisible but would split a phrase in two.
    **dict.fromkeys("\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad", ""),
    **dict.fromkeys("*_~", ""),
}
# A pattern that finds the few such characters costs a third of str.translate on non-ASCII text.
_TYPOGRAPHIC = re.compile("[" + re.escape("".join(_TYPOGRAPHY)) + "]")
_LINE_MARK = re.compile(r"\n[ \t]*(?:#{1,6}|>|[-+•]|\d{1,3}[.)])[ \t]+")
# With one of these characters, NFKC decomposes and recomposes the whole text, which costs ten times
# as much. Nearly every answer in Chinese has one of them, and hardly any other such character.
_COMMON_FORMS = {form: unicodedata.normalize("NFKC", form) for form in "，：（）？！；ำ"}
_SPACE_BEFORE_MARK = re.compile(r" (?=[,.!?:;])")
_TATWEEL = "\u0640"
_ONE_PIECE = 500
"""The longest text, in characters, that is brought to a normal form as a whole."""

_PIECE = re.compile(rf".{{1,{_ONE_PIECE}}}[^\x00-\x7f]{{0,{_ONE_PIECE}}}", re.DOTALL)
"""A piece of a text that ends before an ASCII character, which combines with no character before
it, unless there is no such character for long."""


def normalise(text: str) -> str:
    """Return the text in the one spelling in which texts and phrases are compared.

    It is Unicode NFKC (full-width and half-width forms), case folded, with typographic quotes and
    dashes as ASCII, without Markdown marks, and with one space for each run of white space.
    """
    # Quotes come first, because NFKC splits the acute accent, which some writers type for an
    # apostrophe, into a space and a combining mark.
    text = _TYPOGRAPHIC.sub(lambda mark: _TYPOGRAPHY[mark[0]], text)
    text = _LINE_MARK.sub("\n", "\n" + text)
    for form, plain in _COMMON_FORMS.items():
        text = text.replace(form, plain)
    text = _in_form("NFKC", text).casefold()
    return _SPACE_BEFORE_MARK.sub("", " ".join(text.split()))


def drop_spaces(text: str) -> str:
    """Remove white space, for scripts that put none between words, or do so irregularly."""
    return "".join(text.split())


def drop_marks(text: str) -> str:
    """Remove combining marks: Yoruba tones and underdots, Arabic vowel signs and hamzas.

    The Arabic stretching stroke (tatweel) is removed too. Alef with a hamza or madda becomes bare
    alef, because Unicode decomposes it.
    """
    apart = _in_form("NFD", text.replace(_TATWEEL, ""))
    return _in_form("NFC", _combining().sub("", apart))


def _in_form(form: Literal["NFC", "NFD", "NFKC"], text: str) -> str:
    """Return the text in one of Unicode's normal forms, in a time linear in its length.

    Python sorts the marks on a letter in quadratic time. A letter with more marks than fit into a
    piece, which no language has, keeps them in another order.
    """
    if len(text) <= _ONE_PIECE:
        return unicodedata.normalize(form, text)
    return "".join(unicodedata.normalize(form, piece) for piece in _PIECE.findall(text))


@cache
def _combining() -> re.Pattern[str]:
    # A pattern takes a third of the time of testing each character. Marks beyond the first plane,
    # which only rare scripts have, would make the pattern slow.
    return re.compile(f"[{''.join(filter(unicodedata.combining, map(chr, range(0x10000))))}]")
