"""Patterns of grammar: what a sentence that refuses is made of, whatever its verb and object.

A pattern is written in words, and a speaker of the language can read it:

    i {cannot} ... (help|assist)

    word        a whole word; `*` stands for the rest of one: `refus*`, `*ability`
    (a|b)       any of these, `(a|)` a or nothing; one may hold others
    {name}      any entry of the list `name` under the phrase file's key `words`; an entry is a
                pattern itself, and may name the lists above its own. Where there is a list
                `clause`, it stands first
    {-name}     nothing by itself: what follows is none of the entries of the list. `{-think}*` is
                any word but those
    ` ... `     up to twelve words of the same clause, or none; 40 characters in a script without
                spaces. A clause ends at punctuation and before the words of the list `clause`
    ` ~ `       up to 25 words of the same sentence, or none; 80 characters without spaces
    ^           at the beginning: nothing but what the key `lead` holds stands before it
    $           at the end of the sentence
    ㄹ          a Korean consonant by itself: any syllable that ends in it (`ㄹ 수 없`)

A script without spaces has no whole words: there a pattern matches inside any text.

Alternatives become alternatives of a regular expression, so that lists may be long. Such a search
takes some microseconds, which most patterns are spared. Every pattern has words that it needs
("niet"), at one or two of its places, and one look at the words of a sentence tells which of all
patterns can match. Those are tried only at places with the characters that they begin with.
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
# Sets of characters first: the search skips to them.
_END = re.compile(r"[.!?。।؟۔][.!?。।؟۔]*(?!(?<=\.)\w)")
# Vowel signs and tones: letters to their readers, though not to \w.
_MARKS = "\u0300-\u036f\u0610-\u061a\u064b-\u065f\u0900-\u0963\u0966-\u0dff\u0e31-\u0e4e"
# A lookbehind alone would cost four times as much.
_NOT_AFTER_LETTER = rf"\b(?<![{_MARKS}])"
_NOT_BEFORE_LETTER = rf"(?![\w{_MARKS}])"
_WORD = re.compile(rf"[\w'{_MARKS}]+")
_EDGE, _OPEN = "|", "*"
_OR_NOTHING = " or nothing"
_WAYS_OF_A_REST = 20
"""Letters that a long word may have behind the first ones."""

_FINALS = dict(zip("ᄀᄂᄃᄅᄆᄇᄉᄋ", (1, 4, 7, 8, 16, 17, 19, 21), strict=True))
"""Korean consonants as NFKC leaves them when they stand alone, and their number at a syllable's
end (Unicode 15.0, section 3.12)."""

SHORT_SENTENCE = 25
"""A first sentence of fewer characters only opens the answer ("Hi there!"), and the next counts."""

FIRST = 3
"""Characters that mark the places where a pattern may match."""


MOST_WAYS = 100_000
"""Ways in which a pattern may match at one place, its gaps apart; patterns of the bundled files
have up to 5,445. A search in which the last word is missing may try them all."""

MOST_GAPS = 6
"""Gaps in a pattern, those of its lists included; patterns of the bundled files have up to 3."""

DEEPEST = 12
"""Lists within lists; patterns of the bundled files have up to 4."""

MOST_WRITTEN = 2_000_000
"""Characters of all regular expressions of a phrase file; those of a bundled file have up to
214,000. A list stands in every pattern that names it."""


class BadPattern(Exception):
    """A pattern that cannot be used: what it is and why, as the rest of a sentence."""


@dataclass(frozen=True, eq=False)
class _Group:
    """Patterns that all need one of the same words."""

    regex: str
    at_start: bool
    """Whether they begin with `^`: to be matched where a sentence begins."""
    first_regex: str | None
    """For the first characters of a match; None where it may begin with anything."""

    # Compiled where they are needed first: most patterns of most languages never are.
    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(self.regex)

    @cached_property
    def first(self) -> re.Pattern[str] | None:
        return None if self.first_regex is None else re.compile(self.first_regex)

    def search(self, text: str, start: int, end: int, last: int) -> Iterator[re.Match[str]]:
        """The matches between two places, which do not overlap; those from `last` on may lack."""
        if self.first is None:
            yield from self.pattern.finditer(text, start, end)
            return
        # As `finditer`, which would try all patterns at every character.
        while begin := self.first.search(text, start, last):
            match = self.pattern.match(text, begin.start(), end)
            start = match.end() if match else begin.end()
            if match:
                yield match


@dataclass(frozen=True, eq=False)
class Grammar:
    """Compiled patterns, to be searched in sentences of normalised text."""

    groups: tuple[_Group, ...]
    needs: dict[str, tuple[tuple[str, int, int], ...]]
    """What groups need, under the one of the text's `parts_of` with which it comes. The groups that
    need it are the bits of a number; those for which it is not the first need are in a second."""
    parts: frozenset[str]
    """The keys of `needs`."""
    without_second: int
    """The groups that have a first need alone."""

    def search(
        self,
        text: str,
        parts: set[str],
        starts: Sequence[int],
        end: int,
        begins_before: int | None = None,
    ) -> Iterator[re.Match[str]]:
        """What matches in `text`; of a pattern that begins with `^`, the match's group 1.

        Args:
            parts: the `parts_of` the text.
            starts: where sentences begin, the first one first.
            end: where to stop.
            begins_before: where a match has to begin at the latest, if others are not wanted; some
                that begin later may be among them.
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
    """What a text may have of what a `Grammar` needs: its words, or its characters.

    What follows an apostrophe in a word counts, too: `j'aide` is `aide` as well. The empty text
    stands for the words that may go on, which are looked for one by one because they are few.

    Args:
        text: a text, spelt as the patterns are.
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
    """Where the sentences begin with which an answer says something first, and where they end.

    That is its first sentence; where a `lead` opens it, or it is short, the next one too, to the
    fourth at most.
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
    """Where the sentence begins that `start` is in, and where the one ends that `end` is in."""
    begin = max((mark.end() for mark in _END.finditer(text, 0, start)), default=0)
    after = _END.search(text, end)
    return begin, after.end() if after else len(text)


@dataclass(frozen=True)
class _Piece:
    """A part of a pattern, compiled."""

    regex: str
    needs: frozenset[str] = frozenset()
    """Words one of which stands in whatever the piece matches where it begins with a word; none
    where there are no such. `_EDGE` ends a word that the piece ends with, `_OPEN` one that may go
    on. In a script without spaces: what stands in it."""
    also: frozenset[str] = frozenset()
    """The same for another place in it; none where only one place tells."""
    inner: frozenset[str] = frozenset()
    """Texts one of which stands in whatever it matches, within a word; none where there are no
    such. They tell of a pattern that has no other needs: of `*amam`, any Turkish "I cannot"."""
    first: frozenset[str] = frozenset()
    """What it may begin with, up to `FIRST` characters of it; none where with anything."""
    letters: int = 0
    """How many letters it matches at least."""
    ends_word: bool = True
    """Whether what follows it is at the beginning of a word."""
    begins_apart: bool = False
    """Whether what stands before it is at the end of a word."""
    optional: bool = False
    ways: int = 1
    """In how many ways it may match at one place, at most: where what follows it is not there, a
    search tries them all."""
    gaps: int = 0
    """How many gaps it has, at most."""
    text: str | None = None
    """All that it matches; None where that is more than one text."""
    is_rest: bool = False
    """Whether it is the rest of a word alone."""
    depth: int = 0
    """How many lists within lists it is made of."""


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
        """Where a match may begin: a pattern that opens with letters, to which a search skips."""
        if not first:
            return None
        apart = r"(?<!\w.)" if self._spaces else ""
        # A comma, unlike a word, may stand right behind a word.
        return "|".join(
            re.escape(one[0]) + (apart if one[0].isalnum() else "") + re.escape(one[1:])
            for one in sorted(first)
        )

    def _by_part(self, needed: dict[str, list[int]]) -> dict[str, tuple[tuple[str, int, int], ...]]:
        """The needs by the part of a text that tells of them."""
        shared = Counter(character for need in needed for character in set(need))
        by_part = defaultdict(list)
        for written, (first, second) in needed.items():
            need = written.removesuffix(_OPEN)
            if self._spaces:
                part = need if need == written else ""
            else:
                # The character that fewest others have: with it the need most likely comes.
                part = min(need, key=shared.__getitem__)
            by_part[part].append((need, first, second))
        return {part: tuple(needs) for part, needs in by_part.items()}

    def _whole(self, pattern: str) -> _Piece:
        core = pattern.removeprefix("^").removesuffix("$")
        piece = self._compile(core)
        if not piece.needs:
            piece = replace(piece, needs=piece.inner)
        # One letter, or punctuation alone, stands in nearly every answer.
        if piece.letters < 2 or not piece.needs:
            raise BadPattern(f"{pattern!r}, which is empty or would match everything")
        regex = piece.regex
        if self._spaces and not core.endswith("*"):
            regex += _NOT_BEFORE_LETTER
        if pattern.endswith("$"):
            regex += r"(?=\W*(?:[.!?。।؟۔]|$))"
        # A pattern ends with a word.
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
        """Raises:
        BadPattern: with so many characters more, what is compiled is too long.
        """
        self._written += characters
        if self._written > MOST_WRITTEN:
            raise BadPattern(
                f"{reprlib.repr(written)}, with which the patterns and their lists come to "
                f"{self._written} characters when each list is written out; at most {MOST_WRITTEN}"
            )

    def _compile(self, pattern: str) -> _Piece:
        # Inner groups first: each becomes a list without a name.
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
                raise BadPattern(f"{pattern!r}, but no list {token[1]!r} stands above it in words")
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
        """The pieces one after another."""
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
        # The first of equals, as the order of the patterns goes by it.
        best = max(needs, key=_selectivity, default=frozenset())
        others = (need for need in needs if need is not best)
        # A match begins with a piece that may be missing, or with the one after such pieces.
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
    """A number in digits, or the power of ten that it has."""
    digits = f"{number}"
    return digits if len(digits) <= 12 else f"10^{len(digits) - 1}"


def _check(written: object, piece: _Piece) -> None:
    """Raises:
    BadPattern: searching for the piece could take too long.
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
    """How many letters a text has."""
    # Indic and Thai vowel signs are marks to Unicode and letters to their readers.
    return sum(unicodedata.category(c)[0] in "LM" for c in text)


def _join(pieces: Sequence[_Piece]) -> str:
    """A regular expression; a piece that may be missing takes a space beside it along.

    One that stands directly behind a word, as the comma of `said(,|) that`, takes none.
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
    """What stands in any of some alternatives; none where one of them tells nothing."""
    needs = list(alternatives)
    return frozenset[str]().union(*needs) if all(needs) else frozenset()


def _open(needs: frozenset[str]) -> frozenset[str]:
    """What is needed, anywhere in a text: words that may begin before it and go on after it."""
    return frozenset(need.rstrip(_EDGE + _OPEN) + _OPEN for need in needs)


def _ways_in_turn(pieces: Sequence[_Piece]) -> Iterator[int]:
    """In how many ways each of some pieces may match, one after another."""
    for piece, following in zip(pieces, [*pieces[1:], None], strict=True):
        # The rest of a word has one end where the word has to end.
        ends = piece.is_rest and (following is None or following.begins_apart)
        yield (1 if ends else piece.ways) + piece.optional


def _ways_of_any(pieces: Sequence[_Piece]) -> int:
    """In how many ways some alternatives may match at one place: only those that begin alike do."""
    anywhere = sum(piece.ways for piece in pieces if not piece.first)
    by_beginning = Counter[str]()
    for piece in pieces:
        for first in {piece.text} if piece.text else piece.first:
            by_beginning[first] += piece.ways
    # Where "abc" matches, so may "a", but not "axy".
    alike = (
        sum(by_beginning[first[:n]] for n in range(1, len(first) + 1)) for first in by_beginning
    )
    return anywhere + max(alike, default=0)


def _selectivity(needs: frozenset[str]) -> tuple[int, int]:
    """How rarely a text has one of the literals: their least length, then how few they are."""
    return min(map(len, needs), default=0), -len(needs)
