"""What an answer quotes is not what it says itself: a fox in a story that cannot help, a draft."""

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
"""Opening marks and what closes them: »…« in German is «…» elsewhere, „…“ in Polish „…”."""

_APOSTROPHES = {"'": "'", "‘": "’‘", "‚": "‘’"}
"""Marks of which the closing one is an apostrophe, too, where letters stand on both sides."""

_LONGEST = 1000
"""Characters in a quotation. What is never closed is no quotation."""

_OPENING = re.compile(
    rf"(?P<mark>[{''.join(_PAIRS)}])"
    rf"|(?P<apostrophe>(?<!\w)[{''.join(_APOSTROPHES)}](?=\w))"
    # Dialogue between dashes, as far as the words that say who speaks: those are in small letters
    # in every language (— No puedo —dijo el zorro).
    r"|(?P<dialogue>(?:(?<=\n)|^)[—–―](?!\s*[—–―])[^\n]{1,300}?\s[—–―]+\s*"
    r"(?=[^\W\d_A-ZА-ЯЄІЇҐÀ-ÞĄĂĆČĎĘĚĞİŁŃŇÓŐŘŚŞȘŠŤȚŮŰŹŻŽ]))"
)
_STOPS = {
    **{mark: re.compile(f"[{close}]") for mark, close in _PAIRS.items()},
    # What stands between letters is an apostrophe.
    **{
        mark: re.compile(rf"\n|(?<!\w)[{close}]|[{close}](?!\w)")
        for mark, close in _APOSTROPHES.items()
    },
}
"""By the mark that opens a quotation what it cannot hold."""

_CLOSES = {
    **{mark: re.compile(f"[{close}]") for mark, close in _PAIRS.items()},
    **{mark: re.compile(rf"[{close}](?!\w)") for mark, close in _APOSTROPHES.items()},
}
"""What closes it, if the first that it cannot hold does."""

_MARK = re.compile(f"[{''.join(_PAIRS)}‘‚—–―]")
_APOSTROPHE = re.compile(r"'(?=\w)(?<!\w')")
_LETTERS = re.compile(r"[^\W\d_]{2}|[\u0e00-\u0e7f\u3040-\u9fff\uac00-\ud7af]")
_WORD_BEFORE = re.compile(r"\w[ \t]?\Z")
_ENDS = re.compile(r"\s?[.!。]")
_MENTION = 12
"""Up to so many characters behind a word are that word's, as in: I "cannot" do that."""


def own_words(text: str) -> str:
    """The text with `""` in the place of what it quotes.

    A text of which everything stands in quotation marks is left as it is: nobody is quoted then.
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
    """Where quotations begin and end, their marks included; they do not overlap."""
    ends = _Ends(text)
    opening = _OPENING.search(text)
    while opening:
        start = opening.start()
        end = opening.end() if opening["dialogue"] else ends.behind(opening)
        if end is not None:
            yield start, end
        opening = _OPENING.search(text, start + 1 if end is None else end)


class _Ends:
    """Where the quotations of a text end.

    What closes a mark is looked for once, and not again before it has been passed: a text of
    nothing but marks that open is read once for each kind of them.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._places: dict[str, int] = {}

    def behind(self, opening: re.Match[str]) -> int | None:
        """Where a quotation ends that a mark opens, not before that of the last call; None where it
        is never closed, or too far on.
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
    # A sentence of its own at the beginning is no dialogue: „Nie mogę”. To moja odpowiedź.
    if start <= _MENTION and not _LETTERS.search(text, 0, start) and _ENDS.match(text, stop):
        return quotation
    is_mention = len(quotation) <= _MENTION and _WORD_BEFORE.search(text, max(0, start - 2), start)
    return quotation[1:-1] if is_mention else ' "" '
