"""Reasoning marks: find where a model's reasoning begins and ends, and remove it.

This is the only list of marks. The judges remove the text between them. The wrappers give an answer
the mark that its prompt opened, and keep marks that decoding would drop.

A mark counts only where a model would put it, because answers quote marks, explain them and contain
XML:

- Reasoning is at the beginning of an answer: a block of any opening mark, several blocks in a row,
  or the text before a closing mark whose opening mark stood in the prompt.
- Further on, a block counts if the answer began with a block of the same mark, or if a mark that is
  used only for reasoning (`<think>`, not `<analysis>`) opens a line that no colon announces.
- No mark counts in code (fences, backticks), in quotation marks, or in the middle of a sentence
  ("between <think> and </think> the model ...").

Sources of the marks: the models' chat templates, the reasoning parsers of vLLM and SGLang, and for
gpt-oss https://cookbook.openai.com/articles/openai-harmony.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Container, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from itertools import accumulate
from operator import attrgetter
from typing import NamedTuple

_WORDS = frozenset(
    {
        "think",
        "thinking",
        "antthinking",
        "thought",
        "thoughts",
        "reason",
        "reasoning",
        "analysis",
        "reflect",
        "reflection",
        "scratchpad",
        "scratch",
        "monologue",
        "rationale",
        "deliberation",
        "cot",
        "internal",
    }
)
"""The words in the name of a mark. The name may also have namespaces (`seed:think`) and
`_QUALIFIERS`."""

_REASONING_ALONE = frozenset({"think", "thinking", "antthinking", "thought", "thoughts"})
"""The words of `_WORDS` that are not usual names of XML elements."""

_QUALIFIERS = frozenset({"content", "process", "trace", "chain", "of", "inner", "longcat", "pad"})
_EDGES = frozenset({"begin", "start", "end"})
_ANSWER = frozenset({"answer", "output", "response", "final", "solution", "text"})
"""The words in the name of a mark around the answer (Hunyuan, ERNIE, Cohere, OpenThinker)."""

# <think>, </think>, <|END_THINKING|>, <|think:start|>, [THINK], ◁/think▷, < think >,
# <think type="x">. A single word in square brackets is a heading or a gap to fill in, unless it is
# "think".
#
# Every mark takes a time linear in its own length. White space before the name can match in only
# one way. An attribute may contain the beginning of another mark ("<a b=[think c=[think d="), so
# without a bound on attributes, each of these would be read to the end of the text.
_ATTRIBUTES = 8
_TAG = re.compile(
    r"(?:<[|｜]?|◁|\[(?=/?think))(?P<gap>\s*)(?:(?P<slash>/)\s*)?(?P<label>[a-z][\w:.-]*)"
    r"(?:\s+[\w:-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'<>]+))"
    rf"{{0,{_ATTRIBUTES}}}\s*(?:[|｜]?>|\]|▷)",
    re.IGNORECASE,
)

# Marks that are not tags with such a name. The first of each pair opens, the second closes.
_PAIRS = {
    "gemma": (r"<\|channel>\s*thought\b", r"<channel\|>"),
    "medgemma": (r"<unused94>\s*thought\b", r"<unused95>"),
    "apertus": (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),
    "pangu": (r"\[unused16\]", r"\[unused17\]"),
    "s1": (r"<\|im_start\|>\s*think\b", r"<\|im_start\|>\s*answer\b"),
    "hyperclova": (r"<\|im_start\|>\s*assistant/think\b", r"<\|im_start\|>\s*assistant\b(?!/)"),
    "solar": (r"<\|think\|>", r"<\|content\|>"),
    "open-webui": (r"<details\s+type=[\"']reasoning[\"'][^>]{0,300}>", r"</details>"),
    "granite": (r"Here(?:['’]s| is) my thought process:", r"Here(?:['’]s| is) my response:"),
}
_PAIR = re.compile(
    # This look-ahead comes first, because hardly any character is one of these.
    r"(?=[<\[H])(?:"
    + "|".join(
        f"(?P<open{place}>{opening})|(?P<close{place}>{closing})"
        for place, (opening, closing) in enumerate(_PAIRS.values())
    )
    + ")",
    re.IGNORECASE,
)
_EDGES_OF_PAIRS = {
    f"{edge}{place}": (kind, edge == "open")
    for place, kind in enumerate(_PAIRS)
    for edge in ("open", "close")
}
"""The name of a group of `_PAIR` -> the kind of the mark, and whether it opens."""

_PROSE = "granite"
"""The pair in plain words, which counts only at the beginning of an answer."""

_COMMON = {"open-webui", "pangu", "solar"}
"""Pairs that also occur in vocabularies of models without reasoning."""

_CLOSED_BY_A_TURN = {"hyperclova"}
"""Pairs whose second mark opens the turn of the answer, as in every ChatML template."""

_NEVER_BY_THE_PROMPT = {_PROSE, "open-webui"}
"""Pairs whose first mark is never in a prompt, and whose second mark has other uses."""

_PROSE_HINT = re.compile(r"[mM][yY] (?i:thought process:)")

_ROLE = re.compile(r"(?:\s+|<s>|<bos>|<\|[\w-]+\|>|(?:assistant|model)\b:?){0,100}", re.IGNORECASE)
"""Text that may come before the first mark: white space and the marks of a turn."""

_CODE = re.compile(r"(?P<fence>```|~~~).*?(?P=fence)|(?P<tick>``?)[^`\n]+?(?P=tick)", re.DOTALL)
_QUOTES = "\"'`“”„‚‘’«»‹›「」『』《》"

_HARMONY_TOKEN = re.compile(r"<\|[a-z]+\|>")
_HARMONY = re.compile(r"\s*(?:<\|start\|>\s*assistant\s*)?<\|channel\|>")
_HARMONY_FINAL = re.compile(r"<\|channel\|>\s*final\b[^<]*<\|message\|>")
_HARMONY_MARK = re.compile(r"<\|(?:channel|message|start|end)\|>")

# Decoding with skip_special_tokens leaves the name of the channel directly before the first letter
# of the text ("analysisWe need to ..."). No text begins so by itself: an answer that begins with
# the word ("analysis of variance", "Analysis: ...") has a space or a mark after it.
_HARMONY_PLAIN = re.compile(r"\s*analysis(?=[^\W_])")
_HARMONY_PLAIN_FINAL = "assistantfinal"


class _Mark(NamedTuple):
    """A mark in a text: its place, its kind, and whether it opens reasoning or ends it."""

    start: int
    end: int
    kind: str
    opens: bool
    only_leads: bool
    """It counts only at the beginning of an answer: `< think >` may be code elsewhere."""
    reasoning_alone: bool
    """Answers have such a mark only for reasoning."""


def strip_reasoning(response: str) -> str | None:
    """Return the answer without the model's reasoning, or None if the reasoning never ended.

    A response without reasoning is returned as it is. Marks around the answer itself
    (`<answer>`, `<|START_RESPONSE|>`) are removed together with the reasoning.
    """
    if not _may_have_marks(response):
        return response
    if _HARMONY.match(response) or _opens_final_channel(response):
        return _harmony_answer(response)
    if _HARMONY_PLAIN.match(response):
        _, final, behind = response.rpartition(_HARMONY_PLAIN_FINAL)
        return behind if final else None
    answer = _Reading(response).answer()
    if answer is None or answer == response:
        return answer if answer is None else _unwrapped(answer, piped_only=True)
    return _unwrapped(answer)


def _may_have_marks(text: str) -> bool:
    """Return whether a text may have marks; four simple searches are faster than one pattern."""
    if "<" in text or "[" in text or "◁" in text:
        return True
    return bool(_HARMONY_PLAIN.match(text) or _PROSE_HINT.search(text))


def opened_in(prompt: str) -> str:
    """Return the mark with which the end of a prompt opens the reasoning, or "".

    A mark that ends in a letter gets a line break, so that it does not run into the next text.
    """
    end = len(prompt.rstrip())
    tail = max(0, end - 200)
    last = next((mark for mark in _marks(prompt[tail:end]) if mark.end == end - tail), None)
    mark = prompt[tail + last.start : end] if last and last.opens else ""
    return f"{mark}\n" if mark[-1:].isalnum() else mark


def marks_in(text: str) -> list[str]:
    """List the reasoning marks in a chat template or an entry of a vocabulary, in their order.

    The quotation marks of a template do not make a mark a quotation.
    """
    spans = [(mark.start, mark.end) for mark in _marks(text) if mark.kind != "open-webui"]
    spans += [match.span() for match in re.finditer(r"<\|channel\|>", text)]
    return list(dict.fromkeys(text[start:end] for start, end in sorted(spans)))


def marks_of_template(template: str) -> list[str]:
    """List the marks in a chat template which show that its model may reason, in their order.

    A turn that ends reasoning only after a turn of reasoning shows nothing by itself.
    """
    opened = {mark.kind for mark in _marks(template) if mark.opens}
    turns = {
        template[mark.start : mark.end]
        for mark in _marks(template)
        if mark.kind in _CLOSED_BY_A_TURN - opened
    }
    return [mark for mark in marks_in(template) if mark not in turns]


def marks_of_vocabulary(vocabulary: Iterable[str]) -> list[str]:
    """List the entries of a vocabulary that are reasoning marks without another use."""
    tokens = []
    for token in dict.fromkeys(vocabulary):
        if token[:1] in "<[◁" and 5 < len(token) < 40 and marks_in(token) == [token]:
            mark = next(_marks(token), None)
            if mark is None or (mark.reasoning_alone and mark.kind not in _COMMON):
                tokens.append(token)
    return tokens


def closing_of(marks: Iterable[str]) -> str | None:
    """Return the first of some marks that ends reasoning, or None."""
    return next((text for text in marks for mark in _marks(text) if not mark.opens), None)


def without_tokens(text: str, tokens: re.Pattern[str]) -> str:
    """Remove the special tokens of a vocabulary from a text, but keep reasoning marks.

    Args:
        text: an answer, decoded with its special tokens.
        tokens: a pattern for the special tokens.
    """
    spans = [(mark.start, mark.end) for mark in _marks(text)]
    if "<|channel|>" in text:
        spans += [match.span() for match in _HARMONY_MARK.finditer(text)]
    spans += [match.span() for match in _TAG.finditer(text) if _is_around_answer(match)]
    kept = _Spans(spans)
    return tokens.sub(lambda token: token[0] if token.start() in kept else "", text)


def _marks(text: str) -> Iterator[_Mark]:
    """Yield every mark in a text, at any place."""
    for match in _TAG.finditer(text):
        label = match["label"]
        # A longer name is not cached: it hardly names a mark, and may be as long as the text.
        named = (_named if len(label) <= 80 else _named.__wrapped__)(label.lower())
        if named is None or text[match.end() - 2] == "/":
            continue
        yield _Mark(
            *match.span(),
            kind=named.kind,
            opens=not match["slash"] and not named.ends,
            only_leads=bool(match["gap"]) and not match["slash"],
            reasoning_alone=named.reasoning_alone,
        )
    for match in _PAIR.finditer(text):
        kind, opens = _EDGES_OF_PAIRS[match.lastgroup or ""]
        yield _Mark(
            *match.span(),
            kind=kind,
            opens=opens,
            only_leads=kind == _PROSE and opens,
            reasoning_alone=kind != _PROSE,
        )


class _Name(NamedTuple):
    """The meaning of the name of a reasoning tag."""

    kind: str
    ends: bool
    """Whether it ends reasoning even without a slash, as `END_THINKING` does."""
    reasoning_alone: bool


@lru_cache(maxsize=1024)
def _named(label: str) -> _Name | None:
    """Return the meaning of a tag's lowercase name; None if it is not a reasoning tag."""
    parts = [set(re.split(r"[_.-]", part)) for part in label.split(":")]
    known = _WORDS | _QUALIFIERS | _EDGES
    name = next((part for part in parts if part & _WORDS and part <= known), None)
    if name is None:
        return None
    return _Name(
        kind=" ".join(sorted(name - _EDGES - {"of"})),
        ends=any("end" in part for part in parts),
        reasoning_alone=bool(name & _REASONING_ALONE),
    )


def _mentioned(text: str, mark: _Mark) -> bool:
    """Return whether a mark is quoted, or is a word of the sentence around it."""
    before, after = text[max(0, mark.start - 9) : mark.start], text[mark.end : mark.end + 2]
    last = before[-1:]
    if last and last in _QUOTES and after[:1] and after[:1] in _QUOTES:
        return True
    preceding = before.rstrip(" ")[-1:]
    if not preceding.isalpha() and preceding not in set(",，、(（"):
        return False  # It is at the beginning or after a whole sentence.
    if last in set(" (（"):
        goes_on = after[:1] == " " and after[1:].islower()
        return goes_on or after.lstrip(" ")[:1] in set(",.;:)?!，。、；：）？！")
    # In a script without spaces, such as Chinese, letters stand on both sides.
    return _caseless(preceding) and _caseless(after[:1])


def _caseless(letter: str) -> bool:
    return letter.isalpha() and letter.lower() == letter.upper()


class _Spans(Container[int]):
    """The places within spans of a text, with a membership test in logarithmic time.

    Args:
        spans: the (start, end) of each span; spans may overlap.
    """

    def __init__(self, spans: Iterable[tuple[int, int]]) -> None:
        in_order = sorted(spans)
        self._starts = [start for start, _ in in_order]
        # The spans that begin before a place reach as far as the one that ends last.
        self._reach = list(accumulate((end for _, end in in_order), max))

    def __contains__(self, place: object) -> bool:
        assert isinstance(place, int)
        before = bisect_right(self._starts, place)
        return before > 0 and place < self._reach[before - 1]


def _code(text: str) -> _Spans:
    """Return the spans of code in a text."""
    return _Spans(match.span() for match in _CODE.finditer(text))


def _place_from(marks: Sequence[_Mark], start: int) -> int:
    """Return the index of the first of some sorted marks that begins at `start` or later."""
    return bisect_left(marks, start, key=attrgetter("start"))


class _Closings:
    """The marks of a text that end reasoning, indexed by their kind.

    Args:
        marks: marks in their order; opening marks are ignored.
    """

    def __init__(self, marks: Iterable[_Mark]) -> None:
        self._by_kind: dict[str | None, list[_Mark]] = defaultdict(list)
        for mark in marks:
            if not mark.opens:
                self._by_kind[mark.kind].append(mark)
                self._by_kind[None].append(mark)

    def first(self, start: int, kind: str | None = None) -> _Mark | None:
        """Return the first closing mark at or after a place, of one kind or of any."""
        marks = self._by_kind.get(kind, [])
        place = _place_from(marks, start)
        return marks[place] if place < len(marks) else None


class _Reading:
    """A response that is read for reasoning, in a time linear in its length.

    Attributes:
        text: the response.
        every: all marks in it, in their order.
        spoken: the marks that count: not quoted, not in code and not in the middle of a sentence.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.every = sorted(_marks(text), key=lambda mark: (mark.start, -mark.end))
        code: Container[int] = _code(text) if self.every else ()
        self.spoken = [
            mark for mark in self.every if mark.start not in code and not _mentioned(text, mark)
        ]
        self._closings = _Closings(self.spoken)

    @cached_property
    def _all_closings(self) -> _Closings:
        return _Closings(self.every)

    @cached_property
    def _hidden_closings(self) -> _Closings:
        """The closing marks at the end of a line."""
        return _Closings(
            mark
            for mark in self.every
            if self.text[mark.end : mark.end + 1] in {"\n", ""}
            and self.text[mark.start - 1 : mark.start] != "`"
        )

    def answer(self) -> str | None:
        """Return the text without reasoning; None if a block of reasoning does not end."""
        start, kinds = 0, set[str]()
        while (mark := self._leading(start)) is not None:
            close = self._closing(mark) if mark.opens else mark
            if close is None:
                return self.text[start:] if self._explains(mark) else None
            start = close.end
            kinds |= {mark.kind, close.kind}
        kept, end = [], start
        here = before = 0
        for mark in self.spoken:
            if mark.start > here:
                here, before = mark.start, here
            since = max(start, before)
            if mark.start >= end and mark.opens and self._opens_later(mark, since, kinds):
                kept.append(self.text[start : mark.start])
                close = self._closing(mark)
                if close is None and not self._explains(mark):
                    return None
                start = end = close.end if close else mark.start
        return "".join([*kept, self.text[start:]])

    def _leading(self, start: int) -> _Mark | None:
        """Return the mark that begins reasoning at `start`, or that ends what the prompt began."""
        opened: set[str] = set()
        for place in range(_place_from(self.spoken, start), len(self.spoken)):
            mark = self.spoken[place]
            if mark.opens:
                # If the first opening mark does not lead, no later one does.
                if not opened and self._leads(start, mark):
                    return mark
                opened.add(mark.kind)
            elif mark.kind not in opened and mark.kind not in _NEVER_BY_THE_PROMPT:
                return mark
        return None

    def _leads(self, start: int, mark: _Mark) -> bool:
        """Return whether the text from `start` to the mark may come before a first mark."""
        # One more character shows whether a word ends here.
        role = _ROLE.match(self.text, start, mark.start + 1)
        return role is not None and role.end() >= mark.start

    def _opens_later(self, mark: _Mark, since: int, kinds: set[str]) -> bool:
        """Return whether a mark after the beginning opens reasoning.

        Args:
            mark: the mark.
            since: where the text before the mark begins, or another mark. The text before that mark
                decides nothing, so no part of the text is read for two marks.
            kinds: the kinds of the marks with which the answer began.
        """
        if mark.only_leads:
            return False
        return mark.kind in kinds or (mark.reasoning_alone and self._opens_line(mark.start, since))

    def _opens_line(self, place: int, since: int) -> bool:
        """Return whether a place opens its line, after white space, and no colon announces it."""
        before = self.text[since:place]
        said = before.rstrip()
        return not said or ("\n" in before[len(said) :] and said[-1] not in ":：")

    def _closing(self, opening: _Mark) -> _Mark | None:
        """Return the mark that ends a block: of its own kind, or of any kind if there is none.

        A fence that the reasoning left open hides such a mark; then a mark at the end of a line
        counts.
        """
        return _first_closing(opening, self._closings) or _first_closing(
            opening, self._hidden_closings
        )

    def _explains(self, opening: _Mark) -> bool:
        """Return whether the text only mentions the closing mark, so that no block began."""
        return self._all_closings.first(opening.end, opening.kind) is not None


def _first_closing(opening: _Mark, closings: _Closings) -> _Mark | None:
    return closings.first(opening.end, opening.kind) or closings.first(opening.end)


def _is_around_answer(tag: re.Match[str]) -> bool:
    label = set(re.split(r"[_.-]", tag["label"].lower().split(":")[0]))
    return bool(label & _ANSWER) and label <= _ANSWER | _EDGES | {"of"}


def _unwrapped(answer: str, *, piped_only: bool = False) -> str:
    """Remove the marks around an answer. The second one may be missing."""
    first = _TAG.match(answer.lstrip())
    if not first or not _is_around_answer(first) or (piped_only and first[0][1] != "|"):
        return answer
    answer = answer.lstrip()[first.end() :]
    ends = [tag for tag in _TAG.finditer(answer) if _is_around_answer(tag)]
    return answer[: ends[-1].start()] + answer[ends[-1].end() :] if ends else answer


def _opens_final_channel(response: str) -> bool:
    """Return whether gpt-oss begins its answer after reasoning that the prompt opened."""
    if "<|channel|>" not in response:
        return False
    code = _code(response)
    return any(final.start() not in code for final in _HARMONY_FINAL.finditer(response))


def _harmony_answer(response: str) -> str | None:
    last = deque(_HARMONY_FINAL.finditer(response), maxlen=1)
    if not last:
        return None
    begin = last[0].end()
    end = _HARMONY_TOKEN.search(response, begin)
    return response[begin : end.start() if end else None]
