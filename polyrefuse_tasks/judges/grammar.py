"""Patterns of grammar: what a sentence that refuses is made of, whatever its verb and object.

A pattern is written in words, and a speaker of the language can read it:

    i {cannot} ... (help|assist)

    word        a whole word; `*` stands for the rest of one: `refus*`, `*ability`
    (a|b)       any of these, `(a|)` a or nothing; one may hold others
    {name}      any entry of the list `name` under the phrase file's key `words`; an entry is a
                pattern itself, and may name the lists above its own. Where there is a list
                `clause`, it stands first
    ` ... `     up to twelve words of the same clause, or none; 40 characters in a script without
                spaces. A clause ends at punctuation and before the words of the list `clause`
    ` ~ `       up to 25 words of the same sentence, or none; 80 characters without spaces
    ^           at the beginning: nothing but what the key `lead` holds stands before it
    $           at the end of the sentence
    ㄹ          a Korean consonant by itself: any syllable that ends in it (`ㄹ 수 없`)

A script without spaces has no whole words: there a pattern matches inside any text.

Alternatives become alternatives of one regular expression, so that lists may be long. That costs
up to a tenth of a millisecond on a sentence, which most answers are spared: a pattern cannot match
where none of the words stands that it must have, and `in` says so in a microsecond.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

_GROUP = re.compile(r"\(([^()]*\|[^()]*)\)")
_TOKEN = re.compile(r" \.\.\. | ~ |\{([^{}]*)\}|\*")
_END = re.compile(r"(?:[!?。।؟]|\.(?!\w))+")
# Vowel signs and tones: letters to their readers, though not to \w.
_MARKS = "\u0300-\u036f\u0610-\u061a\u064b-\u065f\u0900-\u0963\u0966-\u0dff\u0e31-\u0e4e"
_NOT_AFTER_LETTER = rf"(?<![\w{_MARKS}])"
_NOT_BEFORE_LETTER = rf"(?![\w{_MARKS}])"
_FINALS = dict(zip("ᄀᄂᄃᄅᄆᄇᄉᄋ", (1, 4, 7, 8, 16, 17, 19, 21), strict=True))
"""Korean consonants as NFKC leaves them when they stand alone, and their number at a syllable's
end (Unicode 15.0, section 3.12)."""

SHORT_SENTENCE = 25
"""A first sentence of fewer characters only opens the answer ("Hi there!"), and the next counts."""


class BadPattern(Exception):
    """A pattern that cannot be used: what it is and why, as the rest of a sentence."""


@dataclass(frozen=True, eq=False)
class Grammar:
    """Compiled patterns, to be searched in one sentence of normalised text."""

    pattern: re.Pattern[str]
    at_start: re.Pattern[str]
    """Those that begin with `^`; to be matched where a sentence begins."""
    needs: tuple[str, ...]
    """One of these stands in every text that a pattern matches in."""

    def search(self, text: str, starts: Sequence[int], end: int) -> Iterator[re.Match[str]]:
        """What matches in `text`, up to `end`; `starts` says where sentences begin."""
        if not any(need in text for need in self.needs):
            return
        for start in starts:
            if found := self.at_start.match(text, start, end):
                yield found
        yield from self.pattern.finditer(text, starts[0], end)


def sentences(text: str, lead: re.Pattern[str]) -> list[int]:
    """Where the sentences begin with which an answer says something first, and where they end.

    That is its first sentence; where a `lead` opens it, or it is short, the next one too, to the
    fourth at most.
    """
    bounds = [0]
    while len(bounds) < 5:
        start = bounds[-1]
        end = _END.search(text, start)
        bounds.append(end.end() if end else len(text))
        opens = bounds[-1] - start < SHORT_SENTENCE or lead.match(text, start)
        if bounds[-1] >= len(text) or not opens:
            break
    return bounds


def sentence_around(text: str, start: int, end: int) -> tuple[int, int]:
    """Where the sentence begins that `start` is in, and where the one ends that `end` is in."""
    begin = max((mark.end() for mark in _END.finditer(text, 0, start)), default=0)
    after = _END.search(text, end)
    return begin, after.end() if after else len(text)


_Part = tuple[str, bool]
"""A regular expression, and whether what it matches may be missing."""


@dataclass(frozen=True)
class _Piece:
    regex: str
    needs: frozenset[str]
    """Literals one of which stands in whatever it matches; none where there are no such."""
    letters: int
    """How many letters it matches at least."""


class Compiler:
    """Compiles the patterns of one phrase file.

    Args:
        spell: brings text to the spelling that it is compared in.
        spaces: whether the script puts spaces between words.
    """

    def __init__(self, spell: Callable[[str], str], spaces: bool) -> None:
        self._spell = spell
        self._spaces = spaces
        self._lists: dict[str, _Piece] = {}
        self._gaps = self._gaps_up_to("")

    def _gaps_up_to(self, clause: str) -> dict[str, str]:
        if self._spaces:
            clause = clause and f"(?!{clause}{_NOT_BEFORE_LETTER})"
            return {
                " ... ": rf" (?:{clause}[^\s.,;:!?]+ ){{0,12}}?",
                " ~ ": r" (?:[^\s.!?]+ ){0,25}?",
            }
        clause = clause and f"(?!{clause})"
        return {" ... ": rf"(?:{clause}[^.!?。,、;:]){{0,40}}?", " ~ ": "[^.!?。]{0,80}?"}

    def add_list(self, name: str, entries: Sequence[str]) -> None:
        """Let the patterns to come name a list.

        Raises:
            BadPattern: an entry that cannot be used.
        """
        self._lists[name] = self._any_of(entries)
        if name == "clause":
            self._gaps = self._gaps_up_to(self._lists[name].regex)

    def any_of(self, patterns: Sequence[str]) -> re.Pattern[str]:
        """Compile patterns that a text is to be matched with as a whole, without `^` and `$`.

        Raises:
            BadPattern: a pattern that cannot be used.
        """
        return re.compile(self._any_of(patterns).regex if patterns else "(?!)")

    def grammar(self, patterns: Sequence[str], lead: str) -> Grammar:
        """Compile patterns.

        Args:
            patterns: as the phrase file has them.
            lead: a regular expression for what may stand before `^`.

        Raises:
            BadPattern: a pattern that cannot be used.
        """
        anywhere, at_start, needs = [], [], set[str]()
        for pattern in patterns:
            one, need = self._whole(pattern)
            (at_start if pattern.startswith("^") else anywhere).append(one)
            needs |= need
        before = _NOT_AFTER_LETTER if self._spaces else ""
        return Grammar(
            re.compile(f"{before}(?:{'|'.join(anywhere)})" if anywhere else "(?!)"),
            re.compile(rf"\W*{lead}((?:{'|'.join(at_start)}))" if at_start else "(?!)"),
            tuple(sorted(needs)),
        )

    def _whole(self, pattern: str) -> tuple[str, frozenset[str]]:
        core = pattern.removeprefix("^").removesuffix("$")
        piece = self._compile(core)
        # One letter, or punctuation alone, stands in nearly every answer.
        if piece.letters < 2:
            raise BadPattern(f"{pattern!r}, which is empty or would match everything")
        regex = piece.regex
        if self._spaces and not core.endswith("*"):
            regex += _NOT_BEFORE_LETTER
        if pattern.endswith("$"):
            regex += r"(?=\W*(?:[.!?。।؟]|$))"
        return regex, piece.needs

    def _any_of(self, entries: Sequence[str]) -> _Piece:
        pieces = [self._compile(entry) for entry in entries]
        if not pieces or not all(piece.regex for piece in pieces):
            raise BadPattern(f"{list(entries)!r}, which has nothing in it or an empty entry")
        needs = [piece.needs for piece in pieces]
        return _Piece(
            f"(?:{'|'.join(piece.regex for piece in pieces)})",
            frozenset[str]().union(*needs) if all(needs) else frozenset(),
            min(piece.letters for piece in pieces),
        )

    def _compile(self, pattern: str) -> _Piece:
        # Inner groups first: each becomes a list without a name.
        written = pattern
        while group := _GROUP.search(written):
            name = f"{len(self._lists)} {'or nothing' if '' in group[1].split('|') else ''}"
            self.add_list(name, [entry for entry in group[1].split("|") if entry])
            written = f"{written[: group.start()]}{{{name}}}{written[group.end() :]}"

        parts: list[_Part] = []
        found: list[_Piece] = []
        position = 0
        for token in [*_TOKEN.finditer(written), None]:
            literal = written[position : token.start() if token else None]
            if re.search(r"[()|{}^$]", literal):
                raise BadPattern(
                    f"{pattern!r}, where (a|b) or {{name}} is not closed, or ^ or $ not at an end"
                )
            self._add_literal(literal, parts, found)
            if token is None:
                break
            position = token.end()
            if token[0] in self._gaps:
                parts.append((self._gaps[token[0]], False))
            elif token[0] == "*":
                parts.append((rf"[\w{_MARKS}]*", False))
            elif token[1] not in self._lists:
                raise BadPattern(f"{pattern!r}, but no list {token[1]!r} stands above it in words")
            else:
                piece = self._lists[token[1]]
                optional = token[1].endswith(" or nothing")
                parts.append((piece.regex, optional))
                if not optional:
                    found.append(piece)
        needs = max((piece.needs for piece in found), key=_selectivity, default=frozenset())
        return _Piece(_join(parts), needs, sum(piece.letters for piece in found))

    def _add_literal(self, literal: str, parts: list[_Part], found: list[_Piece]) -> None:
        if self._spaces and literal.startswith(" "):
            parts.append((" ", False))
        for text in re.split(f"([{''.join(_FINALS)}])", self._spell(literal)):
            if text in _FINALS:
                ends = (chr(c) for c in range(0xAC00 + _FINALS[text], 0xD7A4, 28))
                parts.append((f"[{''.join(ends)}]", False))
            elif text:
                parts.append((re.escape(text), False))
                found.append(_Piece("", frozenset({text}), letters(text)))
        if self._spaces and len(literal) > 1 and literal.endswith(" "):
            parts.append((" ", False))


def letters(text: str) -> int:
    """How many letters a text has."""
    # Indic and Thai vowel signs are marks to Unicode and letters to their readers.
    return sum(unicodedata.category(c)[0] in "LM" for c in text)


def _join(parts: Sequence[_Part]) -> str:
    """The parts one after another; one that may be missing takes a space beside it along."""
    found: list[str] = []
    skip = False
    for i, (part, optional) in enumerate(parts):
        if skip and part.startswith(" "):
            part, skip = part[1:], False
        if optional:
            if i + 1 < len(parts) and parts[i + 1][0].startswith(" "):
                part, skip = f"(?:{part} )?", True
            elif i + 1 == len(parts) and found and found[-1] == " ":
                found.pop()
                part = f"(?: {part})?"
            else:
                part = f"(?:{part})?"
        found.append(part)
    return "".join(found)


def _selectivity(needs: frozenset[str]) -> tuple[int, int]:
    """How rarely a text has one of the literals: their least length, then how few they are."""
    return min(map(len, needs), default=0), -len(needs)
