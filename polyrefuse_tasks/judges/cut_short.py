"""Recognise answers that the token limit cut before they said anything: "Unfortunately, I"."""

import re

from polyrefuse_tasks.judges.function_words import languages_of_words
from polyrefuse_tasks.judges.rules import Rules, rules_of

LONGEST_CUT = 80
"""The most characters of an answer that was cut: a longer answer says something."""

MOST_WORDS = 3
"""The most small words that may follow an opening of an answer that still says nothing."""

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_LATIN = re.compile(r"[a-zà-ɏḀ-ỿ']+")
_SAYS_NO_MORE = re.compile(r"(?:[.!?。।؟۔]|\\.)\s*['\")\]]*\Z")
_GOES_ON = re.compile(r"(?:\.\.+|…|,|:|;|、)\s*\Z")
_I = re.compile(
    "i|i'm|ich|je|ik|ja|io|yo|jeg|tôi|aku|mimi|mo|mé|я|εγώ|أنا|আমি|我|私は|저는|나는|ฉัน|ผม"
    "|eu|jag|já|én|saya|ben|من|میں|मैं",
    re.IGNORECASE,
)
_FEW = 6
"""The most characters of a pronoun or particle in a script other than Latin."""


def is_cut_short(text: str, language: str) -> bool:
    """Return whether the text is only the opening of an answer, with at most a few small words.

    Args:
        text: a whole answer, `normalise`d.
        language: the ISO 639-1 code of the language in which it is read.
    """
    rules = rules_of(language)
    text = rules.spell(text)
    goes_on = _GOES_ON.search(text)
    if goes_on:
        text = text[: goes_on.start()]
    elif _SAYS_NO_MORE.search(text):
        return False
    begin = _behind_leads(rules, text)
    words = _WORD.findall(text, begin)
    if len(words) > MOST_WORDS:
        return False
    if _I.fullmatch(text.strip()):
        return True
    small = languages_of_words()
    if all(map(_LATIN.fullmatch, words)):
        return all(language in small.get(word, ()) or _I.fullmatch(word) for word in words) and (
            begin > 0 or len(words) > 1
        )
    return begin > 0 and sum(map(len, words)) <= _FEW * (len(words) if rules.spaces else 1)


def _behind_leads(rules: Rules, text: str) -> int:
    """Return where the leads and apologies at the beginning of the text end."""
    end = 0
    for _ in range(6):
        openings = (rules.lead, rules.soft) if end == 0 else (rules.lead,)
        ends = (match.end() for opening in openings if (match := opening.match(text, end)))
        whole = (at for at in ends if not (rules.spaces and text[at : at + 1].isalpha()))
        behind = next(whole, None)
        if behind is None:
            break
        end = behind
    return end
