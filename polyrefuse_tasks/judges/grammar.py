"""Patterns of grammar, which describe the form of a sentence that refuses, whatever its verb.

A pattern is written in words, and a speaker of the language can read it:

    i {cannot} ... (help|assist)

    word        a whole word; `*` stands for the rest of a word: `refus*`, `*ability`
    (a|b)       any of these; `(a|)` is a or nothing; alternatives may contain alternatives
    {name}      any entry of the list `name` under the phrase file's key `words`; an entry is a
                pattern itself, and may name the lists above its own. A list `clause` comes first
    {-name}     nothing by itself: the following text is none of the entries of the list.
                `{-think}*` is any word except those
    ` ... `     up to twelve words of the same clause, or none; 40 characters in a script without
                spaces. A clause ends at punctuation and before the words of the list `clause`
    ` ~ `       up to 25 words of the same sentence, or none; 80 characters without spaces
    ^           at the beginning: only texts of the key `lead` may come before it
    $           at the end of the sentence
    ㄹ          a Korean consonant by itself: any syllable that ends in it (`ㄹ 수 없`)

A script without spaces has no whole words, so a pattern matches inside any text there.

Alternatives become alternatives of a regular expression, so lists may be long. A search takes some
microseconds, and most searches are avoided: each pattern needs certain words ("niet") at one or two
of its places, so the words of a sentence show which patterns can match. These are tried only at
places with the characters with which they begin.
"""

from __future__ import annotations

import re
import reprlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from math import prod

_GROUP = re.compile(r"\(([^()]*\|[^()]*)\)")
_TOKEN = re.compile(r" \.\.\. | ~ |\{([^{}]*)\}|\*")
# The pattern begins with a set of characters, to which the search can skip.
_END = re.compile(r"[.!?。।؟۔][.!?。।؟۔]*(?!(?<=\.)\w)")
# Vowel signs and tones are letters to their readers, but not to \w.
_MARKS = "\u0300-\u036f\u0610-\u061a\u064b-\u065f\u0900-\u0963\u0966-\u0dff\u0e31-\u0e4e"
# A look-behind alone would take four times as long.
_NOT_AFTER_LETTER = rf"\b(?<![{_MARKS}])"
_NOT_BEFORE_LETTER = rf"(?![\w{_MARKS}])"
_WORD = re.compile(rf"[\w'{_MARKS}]+")
_EDGE, _OPEN = "|", "*"
_OR_NOTHING = " or nothing"
_WAYS_OF_A_REST = 20
"""How many letters a long word may have after the first ones."""

_FINALS = dict(zip("ᄀᄂᄃᄅᄆᄇᄉᄋ", (1, 4, 7, 8, 16, 17, 19, 21), strict=True))
"""Korean consonants as NFKC writes them when they stand alone -> their number at the end of a
syllable (Unicode 15.0, section 3.12)."""

SHORT_SENTENCE = 25
"""A first sentence of fewer characters only opens the answer ("Hi there!"), so the next one counts
as well."""

FIRST = 3
"""How many first characters mark the places where a pattern may match."""


MOST_WAYS = 100_000
"""The most ways in which a pattern may match at one place, without its gaps; patterns of the
bundled files have up to 57,200. A search in which the last word is missing may try them all."""

MOST_GAPS = 6
"""The most gaps in a pattern and its lists; patterns of the bundled files have up to 3."""

DEEPEST = 12
"""The most lists within lists; patterns of the bundled files have up to 4."""

MOST_WRITTEN = 2_000_000
"""The most characters of all regular expressions of a phrase file; those of a bundled file have up
to 214,000. Every pattern that names a list contains the whole list."""


class BadPattern(Exception):
    """A pattern cannot be used; the message is the rest of a sentence that says which and why."""


@dataclass(frozen=True, eq=False)
class _Group:
    """Patterns that all need one of the same words, compiled together."""

    regex: str
    at_start: bool
    """Whether they begin with `^`, and so match only where a sentence begins."""
    first_regex: str | None
    """A pattern for the first characters of a match; None if it may begin with anything."""

    # They are compiled on first use, because most patterns of most languages are never used.
    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(self.regex)

    @cached_property
    def first(self) -> re.Pattern[str] | None:
        return None if self.first_regex is None else re.compile(self.first_regex)

    def search(self, text: str, start: int, end: int, last: int) -> Iterator[re.Match[str]]:
        """Yield non-overlapping matches between two places; those from `last` on may be missing."""
        if self.first is None:
            yield from self.pattern.finditer(text, start, end)
            return
        # This does what `finditer` does, which would try all patterns at every character.
        while begin := self.first.search(text, start, last):
            match = self.pattern.match(text, begin.start(), end)
            start = match.end() if match else begin.end()
            if match:
                yield match


@dataclass(frozen=True, eq=False)
class Grammar:
    """Compiled patterns to search in sentences of normalised text."""

    groups: tuple[_Group, ...]
    needs: dict[str, tuple[tuple[str, int, int], ...]]
    """For each of the text's `parts_of`, the needs that come with it. Each need has two numbers,
    whose bits are the groups that have it as their first need and as their second need."""
    parts: frozenset[str]
    """The keys of `needs`."""
    without_second: int
    """The groups that have only a first need, as the bits of a number."""

    def search(
        self,
        text: str,
        parts: set[str],
        starts: Sequence[int],
        end: int,
        begins_before: int | None = None,
    ) -> Iterator[re.Match[str]]:
        """Yield the matches in `text`; for a pattern that begins with `^`, group 1 is the match.

        Args:
            text: the text.
            parts: the `parts_of` the text.
            starts: the places where sentences begin, in their order.
            end: the place where the search stops.
            begins_before: matches that begin later are not wanted, though some may be among them.
        """
        last = end if begins_before is None else min(end, begins_before + FIRST)
        first, second = 0, self.without_second
        for part in parts & self.parts:
            for need, needed_first, needed_second in self.needs[part]:
                if need == part or need in text:
                    first |= needed_first
                    second |= needed_second
        possible = first & second
        while possible:
            group = self.groups[(possible & -possible).bit_length() - 1]
            possible &= possible - 1
            if not group.at_start:
                yield from group.search(text, starts[0], end, last)
            else:
                for start in starts:
                    if opens := group.pattern.match(text, start, end):
                        yield opens


def parts_of(text: str, spaces: bool) -> set[str]:
    """Return the parts of a text that a `Grammar` may need: its words, or its characters.

    The part of a word after an apostrophe counts as well: `j'aide` is also `aide`. The empty text
    stands for the words that may go on, which are searched one by one because they are few.

    Args:
        text: a text in the spelling of the patterns.
        spaces: whether the script puts spaces between words.
    """
    if not spaces:
        return set(text)
    words = {"", *_WORD.findall(text)}
    if "'" in text:
        for word in [word for word in words if "'" in word]:
            words |= {word.strip("'"), word.rstrip("'").rpartition("'")[2]}
    return words


def sentences(text: str, lead: re.Pattern[str]) -> list[int]:
    """Return the bounds of the sentences with which an answer first says something.

    These are the first sentence and, as long as the last one is short or a `lead` opens it, the
    next one, up to the fourth.
    """
    bounds = [0]
    while len(bounds) < 5:
        start = bounds[-1]
        end = _END.search(text, start)
        bounds.append(end.end() if end else len(text))
        if bounds[-1] >= len(text):
            break
        if bounds[-1] - start >= SHORT_SENTENCE and not lead.match(text, start):
            break
    return bounds


def sentence_around(text: str, start: int, end: int) -> tuple[int, int]:
    """Return where the sentence around `start` begins, and where the sentence around `end` ends."""
    begin = max((mark.end() for mark in _END.finditer(text, 0, start)), default=0)
    after = _END.search(text, end)
    return begin, after.end() if after else len(text)


@dataclass(frozen=True)
class _Piece:
    """A compiled part of a pattern."""

    regex: str
    needs: frozenset[str] = frozenset()
    """Words that the piece may begin with: every match contains one of them. Empty if there are no
    such words. `_EDGE` marks a word with which the piece ends, `_OPEN` a word that may go on. In a
    script without spaces these are texts that a match contains."""
    also: frozenset[str] = frozenset()
    """The same for another place in the piece; empty if only one place has such words."""
    inner: frozenset[str] = frozenset()
    """Texts within a word: every match contains one of them. Empty if there are none. They serve a
    pattern that has no other needs, such as `*amam`, any Turkish "I cannot"."""
    first: frozenset[str] = frozenset()
    """The first characters of a match, up to `FIRST`; empty if it may begin with anything."""
    letters: int = 0
    """The fewest letters of a match."""
    ends_word: bool = True
    """Whether the text after it is at the beginning of a word."""
    begins_apart: bool = False
    """Whether the text before it is at the end of a word."""
    optional: bool = False
    ways: int = 1
    """The most ways in which it may match at one place: a search tries all of them if the text that
    must follow is missing."""
    gaps: int = 0
    """The most gaps that it has."""
    text: str | None = None
    """The only text that it matches; None if there are several."""
    is_rest: bool = False
    """Whether it is only the rest of a word."""
    depth: int = 0
    """The number of lists within lists in it."""


class Compiler:
    """A compiler for the patterns of one phrase file.

    Args:
        spell: a function that brings text to the spelling in which it is compared.
        spaces: whether the script puts spaces between words.
    """

    def __init__(self, spell: Callable[[str], str], spaces: bool) -> None:
        self._spell = spell
        self._spaces = spaces
        self._lists: dict[str, _Piece] = {}
        self._gaps = self._gaps_up_to("")
        self._written = 0

    def _gaps_up_to(self, clause: str) -> dict[str, str]:
        if self._spaces:
            clause = clause and f"(?!{clause}{_NOT_BEFORE_LETTER})"
            return {
                " ... ": rf" (?:{clause}[^\s.,;:!?।۔]+ ){{0,12}}?",
                " ~ ": r" (?:[^\s.!?।۔]+ ){0,25}?",
            }
        clause = clause and f"(?!{clause})"
        return {" ... ": rf"(?:{clause}[^.!?。,、;:]){{0,40}}?", " ~ ": "[^.!?。]{0,80}?"}

    def add_list(self, name: str, entries: Sequence[str]) -> None:
        """Add a list that later patterns can name.

        Raises:
            BadPattern: an entry cannot be used.
        """
        self._lists[name] = self._any_of(entries)
        if name == "clause":
            self._gaps = self._gaps_up_to(self._lists[name].regex)

    def any_of(self, patterns: Sequence[str]) -> re.Pattern[str]:
        """Compile patterns, without `^` and `$`, that must match a text as a whole.

        Raises:
            BadPattern: a pattern cannot be used.
        """
        return re.compile(self._any_of(patterns).regex if patterns else "(?!)")

    def grammar(self, patterns: Sequence[str], lead: str) -> Grammar:
        """Compile patterns into a grammar.

        Args:
            patterns: the patterns of the phrase file.
            lead: a regular expression for texts that may come before `^`.

        Raises:
            BadPattern: a pattern cannot be used.
        """
        alike: dict[tuple[frozenset[str], bool], list[_Piece]] = {}
        for pattern in patterns:
            piece = self._whole(pattern)
            alike.setdefault((piece.needs, pattern.startswith("^")), []).append(piece)
        before = _NOT_AFTER_LETTER if self._spaces else ""
        groups = []
        needed: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        without_second = 0
        for i, ((needs, at_start), pieces) in enumerate(alike.items()):
            any_of = f"(?:{'|'.join(piece.regex for piece in pieces)})"
            whole = rf"\W*{lead}({any_of})" if at_start else before + any_of
            self._write(patterns, len(whole))
            first = _any_needs(piece.first for piece in pieces)
            groups.append(_Group(whole, at_start, self._at(first)))
            for need in needs:
                needed[need][0] |= 1 << i
            also = _any_needs(piece.also for piece in pieces)
            for need in also:
                needed[need][1] |= 1 << i
            without_second |= 0 if also else 1 << i
        by_part = self._by_part(needed)
        return Grammar(tuple(groups), by_part, frozenset(by_part), without_second)

    def _at(self, first: frozenset[str]) -> str | None:
        """Return a pattern for the beginning of a match, whose letters let a search skip ahead."""
        if not first:
            return None
        apart = r"(?<!\w.)" if self._spaces else ""
        # A comma, unlike a word, may follow a word directly.
        return "|".join(
            re.escape(one[0]) + (apart if one[0].isalnum() else "") + re.escape(one[1:])
            for one in sorted(first)
        )

    def _by_part(self, needed: dict[str, list[int]]) -> dict[str, tuple[tuple[str, int, int], ...]]:
        """Group the needs by the part of a text that indicates them."""
        shared = Counter(character for need in needed for character in set(need))
        by_part = defaultdict(list)
        for written, (first, second) in needed.items():
            need = written.removesuffix(_OPEN)
            if self._spaces:
                part = need if need == written else ""
            else:
                # The rarest character among the needs indicates this need best.
                part = min(need, key=shared.__getitem__)
            by_part[part].append((need, first, second))
        return {part: tuple(needs) for part, needs in by_part.items()}

    def _whole(self, pattern: str) -> _Piece:
        core = pattern.removeprefix("^").removesuffix("$")
        piece = self._compile(core)
        if not piece.needs:
            piece = replace(piece, needs=piece.inner)
        # Nearly every answer contains any one letter or mark.
        if piece.letters < 2 or not piece.needs:
            raise BadPattern(f"{pattern!r}, which is empty or would match everything")
        regex = piece.regex
        if self._spaces and not core.endswith("*"):
            regex += _NOT_BEFORE_LETTER
        if pattern.endswith("$"):
            regex += r"(?=\W*(?:[.!?。।؟۔]|$))"
        # A pattern ends at the end of a word.
        needs, also = (
            frozenset(need.removesuffix(_EDGE) for need in literals)
            for literals in (piece.needs, piece.also)
        )
        return replace(piece, regex=regex, needs=needs, also=also)

    def _any_of(self, entries: Sequence[str]) -> _Piece:
        pieces = [self._compile(entry) for entry in entries]
        if not pieces or not all(piece.regex for piece in pieces):
            raise BadPattern(
                f"{reprlib.repr(list(entries))}, which has nothing in it or an empty entry"
            )
        self._write(entries, sum(len(piece.regex) for piece in pieces))
        any_of = _Piece(
            f"(?:{'|'.join(piece.regex for piece in pieces)})",
            _any_needs(piece.needs for piece in pieces),
            inner=_any_needs(piece.inner or _open(piece.needs) for piece in pieces),
            first=_any_needs(piece.first for piece in pieces),
            letters=min(piece.letters for piece in pieces),
            ends_word=all(piece.ends_word for piece in pieces),
            begins_apart=all(piece.begins_apart for piece in pieces),
            ways=_ways_of_any(pieces),
            gaps=max(piece.gaps for piece in pieces),
            depth=1 + max(piece.depth for piece in pieces),
        )
        _check(entries, any_of)
        return any_of

    def _write(self, written: object, characters: int) -> None:
        """Count the characters that are compiled.

        Raises:
            BadPattern: the regular expressions of the file become too long.
        """
        self._written += characters
        if self._written > MOST_WRITTEN:
            raise BadPattern(
                f"{reprlib.repr(written)}, with which the patterns and their lists come to "
                f"{self._written} characters when each list is written out; at most {MOST_WRITTEN}"
            )

    def _compile(self, pattern: str) -> _Piece:
        # Inner groups come first, and each becomes an unnamed list.
        written = pattern
        while group := _GROUP.search(written):
            name = f"{len(self._lists)}{_OR_NOTHING if '' in group[1].split('|') else ''}"
            self.add_list(name, [entry for entry in group[1].split("|") if entry])
            written = f"{written[: group.start()]}{{{name}}}{written[group.end() :]}"

        pieces: list[_Piece] = []
        position = 0
        for token in [*_TOKEN.finditer(written), None]:
            literal = written[position : token.start() if token else None]
            if re.search(r"[()|{}^$]", literal):
                raise BadPattern(
                    f"{pattern!r}, where (a|b) or {{name}} is not closed, or ^ or $ not at an end"
                )
            pieces += self._literal(literal)
            if token is None:
                break
            position = token.end()
            if token[0] in self._gaps:
                pieces.append(_Piece(self._gaps[token[0]], begins_apart=True, gaps=1))
            elif token[0] == "*":
                rest = rf"[\w{_MARKS}]*"
                pieces.append(_Piece(rest, ends_word=False, ways=_WAYS_OF_A_REST, is_rest=True))
            elif token[1].removeprefix("-") not in self._lists:
                raise BadPattern(f"{pattern!r}, but words has no list {token[1]!r} above it")
            elif token[1].startswith("-"):
                end = _NOT_BEFORE_LETTER if self._spaces else ""
                pieces.append(_Piece(f"(?!{self._lists[token[1][1:]].regex}{end})"))
            else:
                optional = token[1].endswith(_OR_NOTHING)
                pieces.append(replace(self._lists[token[1]], optional=optional))
        self._write(pattern, sum(len(piece.regex) for piece in pieces))
        piece = self._in_turn(pieces)
        _check(pattern, piece)
        return piece

    def _literal(self, literal: str) -> Iterator[_Piece]:
        space = _Piece(" ", begins_apart=True, text=" ")
        if self._spaces and literal.startswith(" "):
            yield space
        for text in re.split(f"([{''.join(_FINALS)}])", self._spell(literal)):
            if text in _FINALS:
                ends = [chr(c) for c in range(0xAC00 + _FINALS[text], 0xD7A4, 28)]
                yield _Piece(f"[{''.join(ends)}]", first=frozenset(ends))
            elif text:
                need = text
                if self._spaces:
                    need = max(_WORD.findall(text), key=len, default="")
                    need += _EDGE if need and text.endswith(need) else ""
                yield _Piece(
                    re.escape(text),
                    frozenset({need} - {""}),
                    text=text,
                    first=frozenset({text[:FIRST]}),
                    letters=letters(text),
                    ends_word=not letters(text[-1]),
                    begins_apart=not letters(text[0]),
                )
        if self._spaces and len(literal) > 1 and literal.endswith(" "):
            yield space

    def _in_turn(self, pieces: Sequence[_Piece]) -> _Piece:
        """Combine pieces that follow one another."""
        needs: list[frozenset[str]] = []
        inner: list[frozenset[str]] = []
        begins_word = True
        for piece, following in zip(pieces, [*pieces[1:], None], strict=True):
            if not piece.optional and (begins_word or not self._spaces):
                edge = _EDGE if following is None else "" if following.begins_apart else _OPEN
                needs.append(
                    frozenset(
                        need[:-1] + edge if need.endswith(_EDGE) else need for need in piece.needs
                    )
                )
            if not piece.optional:
                inner.append(piece.inner or _open(piece.needs))
            begins_word = piece.ends_word and (begins_word or not piece.optional)
        # Among equal needs the first is taken, because the order of the patterns depends on it.
        best = max(needs, key=_selectivity, default=frozenset())
        others = (need for need in needs if need is not best)
        # A match begins with an optional piece, or with the first piece after the optional ones.
        missing = sum(1 for _ in takewhile(lambda piece: piece.optional, pieces))
        first = _any_needs(piece.first for piece in pieces[: missing + 1])
        texts = [piece.text for piece in pieces if piece.text is not None and not piece.optional]
        return _Piece(
            _join(pieces),
            best,
            max(others, key=_selectivity, default=frozenset()),
            max(inner, key=_selectivity, default=frozenset()),
            first if missing < len(pieces) else frozenset(),
            letters=sum(piece.letters for piece in pieces if not piece.optional),
            ends_word=begins_word,
            begins_apart=bool(pieces) and pieces[0].begins_apart and not pieces[0].optional,
            ways=prod(_ways_in_turn(pieces)),
            text="".join(texts) if len(texts) == len(pieces) else None,
            gaps=sum(piece.gaps for piece in pieces),
            depth=max((piece.depth for piece in pieces), default=0),
        )


def shown_count(number: int) -> str:
    """Write a number in digits or, if it is long, as a power of ten."""
    digits = f"{number}"
    return digits if len(digits) <= 12 else f"10^{len(digits) - 1}"


def _check(written: object, piece: _Piece) -> None:
    """Refuse a piece for which a search could take too long.

    Raises:
        BadPattern: the piece is too complex.
    """
    for number, limit, what in (
        (piece.ways, MOST_WAYS, "may match in {} ways at one place"),
        (piece.gaps, MOST_GAPS, "has {} gaps"),
        (piece.depth, DEEPEST, "has lists within lists, {} deep"),
    ):
        if number > limit:
            count = shown_count(number)
            raise BadPattern(
                f"{reprlib.repr(written)}, which {what.format(count)}; at most {limit}"
            )


def letters(text: str) -> int:
    """Count the letters of a text."""
    # Indic and Thai vowel signs are marks in Unicode, but letters to their readers.
    return sum(unicodedata.category(c)[0] in "LM" for c in text)


def _join(pieces: Sequence[_Piece]) -> str:
    """Join pieces into a regular expression, in which an optional piece includes a space beside it.

    A piece that follows a word directly, such as the comma in `said(,|) that`, includes none.
    """
    joined: list[str] = []
    skip = False
    for i, piece in enumerate(pieces):
        regex = piece.regex
        if skip and regex.startswith(" "):
            regex, skip = regex[1:], False
        if piece.optional:
            is_word = i == 0 or pieces[i - 1].begins_apart
            if is_word and i + 1 < len(pieces) and pieces[i + 1].regex.startswith(" "):
                regex, skip = f"(?:{regex} )?", True
            elif i + 1 == len(pieces) and joined and joined[-1] == " ":
                joined.pop()
                regex = f"(?: {regex})?"
            else:
                regex = f"(?:{regex})?"
        joined.append(regex)
    return "".join(joined)


def _any_needs(alternatives: Iterable[frozenset[str]]) -> frozenset[str]:
    """Unite the needs of alternatives; the result is empty if one alternative has none."""
    needs = list(alternatives)
    return frozenset[str]().union(*needs) if all(needs) else frozenset()


def _open(needs: frozenset[str]) -> frozenset[str]:
    """Return the needs as texts anywhere in a word, which may begin before and go on after them."""
    return frozenset(need.rstrip(_EDGE + _OPEN) + _OPEN for need in needs)


def _ways_in_turn(pieces: Sequence[_Piece]) -> Iterator[int]:
    """Yield the number of ways in which each of the following pieces may match."""
    for piece, following in zip(pieces, [*pieces[1:], None], strict=True):
        # The rest of a word has only one end if the word has to end.
        ends = piece.is_rest and (following is None or following.begins_apart)
        yield (1 if ends else piece.ways) + piece.optional


def _ways_of_any(pieces: Sequence[_Piece]) -> int:
    """Return the number of ways in which alternatives with a common beginning may match."""
    anywhere = sum(piece.ways for piece in pieces if not piece.first)
    by_beginning = Counter[str]()
    for piece in pieces:
        for first in {piece.text} if piece.text else piece.first:
            by_beginning[first] += piece.ways
    # Where "abc" matches, "a" may match as well, but "axy" cannot.
    alike = (
        sum(by_beginning[first[:n]] for n in range(1, len(first) + 1)) for first in by_beginning
    )
    return anywhere + max(alike, default=0)


def _selectivity(needs: frozenset[str]) -> tuple[int, int]:
    """Rank needs by their rarity: by the shortest text, then by how few there are."""
    return min(map(len, needs), default=0), -len(needs)
