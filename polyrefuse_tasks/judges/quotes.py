"""Remove quotations, because an answer does not itself say what it quotes."""

import re
from collections.abc import Iterator

_PAIRS = {
    '"': '"',
    "＂": "＂",
    "“": "”“",
    "„": "“”„",
    "”": "”",
    "«": "»",
    "»": "«»",
    "‹": "›",
    "›": "‹›",
    "「": "」",
    "『": "』",
    "｢": "｣",
    "《": "》",
    "〈": "〉",
    "〝": "〞〟",
    "❝": "❞",
}
"""Opening marks and their closing marks: »…« in German is «…» elsewhere, „…“ in Polish „…”."""

_APOSTROPHES = {"'": "'", "‘": "’‘", "‚": "‘’"}
"""Marks whose closing mark is also an apostrophe, if letters stand on both sides of it."""

_LONGEST = 1000
"""The longest quotation, in characters. A mark that is never closed opens no quotation."""

_OPENING = re.compile(
    rf"(?P<mark>[{''.join(_PAIRS)}])"
    rf"|(?P<apostrophe>(?<!\w)[{''.join(_APOSTROPHES)}](?=\w))"
    # Dialogue between dashes, up to the words that say who speaks, which begin with a lowercase
    # letter in every language (— No puedo —dijo el zorro).
    r"|(?P<dialogue>(?:(?<=\n)|^)[—–―](?!\s*[—–―])[^\n]{1,300}?\s[—–―]+\s*"
    r"(?=[^\W\d_A-ZА-ЯЄІЇҐÀ-ÞĄĂĆČĎĘĚĞİŁŃŇÓŐŘŚŞȘŠŤȚŮŰŹŻŽ]))"
)
_STOPS = {
    **{mark: re.compile(f"[{close}]") for mark, close in _PAIRS.items()},
    # A mark between letters is an apostrophe.
    **{
        mark: re.compile(rf"\n|(?<!\w)[{close}]|[{close}](?!\w)")
        for mark, close in _APOSTROPHES.items()
    },
}
"""The mark that opens a quotation -> what the quotation cannot contain."""

_CLOSES = {
    **{mark: re.compile(f"[{close}]") for mark, close in _PAIRS.items()},
    **{mark: re.compile(rf"[{close}](?!\w)") for mark, close in _APOSTROPHES.items()},
}
"""The mark that opens a quotation -> what closes it."""

_MARK = re.compile(f"[{''.join(_PAIRS)}‘‚—–―]")
_APOSTROPHE = re.compile(r"'(?=\w)(?<!\w')")
_LETTERS = re.compile(r"[^\W\d_]{2}|[\u0e00-\u0e7f\u3040-\u9fff\uac00-\ud7af]")
_WORD_BEFORE = re.compile(r"\w[ \t]?\Z")
_ENDS = re.compile(r"\s?[.!。]")
_MENTION = 12
"""A quotation of at most this many characters after a word is only emphasis: I "cannot" do that."""


def own_words(text: str) -> str:
    """Return the text with `""` in place of each quotation.

    A text that is one whole quotation stays as it is, because then nobody is quoted.
    """
    if not _MARK.search(text) and not _APOSTROPHE.search(text):
        return text
    own, end = [], 0
    for start, stop in _quotations(text):
        own += [text[end:start], _kept(text, start, stop)]
        end = stop
    without = "".join([*own, text[end:]])
    return without if _LETTERS.search(without) else text


def _quotations(text: str) -> Iterator[tuple[int, int]]:
    """Yield where quotations begin and end, with their marks; they do not overlap."""
    ends = _Ends(text)
    opening = _OPENING.search(text)
    while opening:
        start = opening.start()
        end = opening.end() if opening["dialogue"] else ends.behind(opening)
        if end is not None:
            yield start, end
        opening = _OPENING.search(text, start + 1 if end is None else end)


class _Ends:
    """Finds where the quotations of a text end.

    The mark that closes a quotation is searched once, and again only after the search has passed
    it. A text of opening marks alone is therefore read only once for each kind of mark.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._places: dict[str, int] = {}

    def behind(self, opening: re.Match[str]) -> int | None:
        """Return where the quotation of an opening mark ends; None if never or too far on.

        Calls must come in the order of the opening marks.
        """
        mark, begin = opening[0], opening.end()
        place = self._places.get(mark, -1)
        if place < begin:
            stop = _STOPS[mark].search(self._text, begin)
            place = self._places[mark] = stop.start() if stop else len(self._text)
        is_closed = 0 < place - begin <= _LONGEST and _CLOSES[mark].match(self._text, place)
        return place + 1 if is_closed else None


def _kept(text: str, start: int, stop: int) -> str:
    quotation = text[start:stop]
    # A whole sentence at the beginning is not dialogue: „Nie mogę”. To moja odpowiedź.
    if start <= _MENTION and not _LETTERS.search(text, 0, start) and _ENDS.match(text, stop):
        return quotation
    is_mention = len(quotation) <= _MENTION and _WORD_BEFORE.search(text, max(0, start - 2), start)
    return quotation[1:-1] if is_mention else ' "" '
