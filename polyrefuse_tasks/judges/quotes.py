"""What an answer quotes is not what it says itself: a fox in a story that cannot help, a draft."""

import re

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

_OPENS = f"[{''.join((*_PAIRS, *_APOSTROPHES))}—–―]"
_QUOTED = re.compile(
    # Looked at first, because hardly a character is one of these.
    rf"(?={_OPENS})(?:"
    + "|".join(
        [
            *(f"{mark}[^{close}]{{1,{_LONGEST}}}[{close}]" for mark, close in _PAIRS.items()),
            *(
                rf"(?<!\w){mark}(?=\w)(?:[^{close}\n]|(?<=\w)[{close}](?=\w)){{1,{_LONGEST}}}"
                rf"[{close}](?!\w)"
                for mark, close in _APOSTROPHES.items()
            ),
            # Dialogue between dashes, as far as the words that say who speaks: those are in small
            # letters in every language (— No puedo —dijo el zorro).
            r"(?:(?<=\n)|^)[—–―](?!\s*[—–―])[^\n]{1,300}?\s[—–―]+\s*"
            r"(?=[^\W\d_A-ZА-ЯÀ-ÞĄĆĘŁŃÓŚŹŻ])",
        ]
    )
    + ")"
)
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
    own = _QUOTED.sub(lambda quotation: _kept(quotation, text), text)
    return own if _LETTERS.search(own) else text


def _kept(quotation: re.Match[str], text: str) -> str:
    start = quotation.start()
    # A sentence of its own at the beginning is no dialogue: „Nie mogę”. To moja odpowiedź.
    if (
        start <= _MENTION
        and not _LETTERS.search(text, 0, start)
        and _ENDS.match(text, quotation.end())
    ):
        return quotation[0]
    is_mention = len(quotation[0]) <= _MENTION and _WORD_BEFORE.search(
        text, max(0, start - 2), start
    )
    return quotation[0][1:-1] if is_mention else ' "" '
