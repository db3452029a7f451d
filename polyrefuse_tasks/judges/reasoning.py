"""Reasoning marks: where a model's reasoning begins and ends, and how to remove it.

This is the one list of marks: the judges remove what stands between them, the wrappers give an
answer back the mark that its prompt opened and keep marks that decoding would drop.

A mark counts only where a model would put it. Answers quote marks, explain them and hold XML, so

- reasoning is at the beginning of an answer: a block of any mark that opens it, several in a row,
  or the text before a closing mark whose opening one stood in the prompt;
- further on, a block counts where the answer began with one of the same mark, or where a mark of
  reasoning alone (`<think>`, not `<analysis>`) opens a line that no colon announces;
- nothing counts in code (fences, backticks), in quotation marks, or in the midst of a sentence
  ("between <think> and </think> the model ...").

Sources of the marks: the models' chat templates, vLLM's and SGLang's reasoning parsers, and for
gpt-oss https://cookbook.openai.com/articles/openai-harmony.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

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
"""What the name of a mark says. Namespaces (`seed:think`) and `_QUALIFIERS` may stand beside it."""

_REASONING_ALONE = frozenset({"think", "thinking", "antthinking", "thought", "thoughts"})
"""Words of `_WORDS` that are no usual name of an XML element."""

_QUALIFIERS = frozenset({"content", "process", "trace", "chain", "of", "inner", "longcat", "pad"})
_EDGES = frozenset({"begin", "start", "end"})
_ANSWER = frozenset({"answer", "output", "response", "final", "solution", "text"})
"""What the name of a mark around the answer itself says (Hunyuan, ERNIE, Cohere, OpenThinker)."""

# <think>, </think>, <|END_THINKING|>, <|think:start|>, [THINK], ◁/think▷, < think >,
# <think type="x">. A word alone in square brackets is a heading or a gap to fill in: only "think".
_TAG = re.compile(
    r"(?:<[|｜]?|◁|\[(?=/?think))(?P<gap>\s*)(?P<slash>/?)\s*(?P<label>[a-z][\w:.-]*)"
    r"(?:\s+[\w:-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'<>]+))*\s*(?:[|｜]?>|\]|▷)",
    re.IGNORECASE,
)

# Marks that are no tags with a telling name. The first of each pair opens, the second closes.
_PAIRS = {
    "gemma": (r"<\|channel>\s*thought\b", r"<channel\|>"),
    "medgemma": (r"<unused94>\s*thought\b", r"<unused95>"),
    "apertus": (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),
    "pangu": (r"\[unused16\]", r"\[unused17\]"),
    "s1": (r"<\|im_start\|>\s*think\b", r"<\|im_start\|>\s*answer\b"),
    "hyperclova": (r"<\|im_start\|>\s*assistant/think\b", r"<\|im_start\|>\s*assistant\b(?!/)"),
    "solar": (r"<\|think\|>", r"<\|content\|>"),
    "open-webui": (r"<details\s+type=[\"']reasoning[\"'][^>]*>", r"</details>"),
    "granite": (r"Here(?:['’]s| is) my thought process:", r"Here(?:['’]s| is) my response:"),
}
_PAIR = re.compile(
    "|".join(
        f"(?P<open{place}>{opening})|(?P<close{place}>{closing})"
        for place, (opening, closing) in enumerate(_PAIRS.values())
    ),
    re.IGNORECASE,
)
_PROSE = "granite"
"""The pair in plain words, which says something only at the beginning of an answer."""

_COMMON = {"open-webui", "pangu", "solar"}
"""Pairs of whose entries vocabularies without reasoning have some, too."""

_NEVER_BY_THE_PROMPT = {_PROSE, "open-webui"}
"""Pairs whose first one no prompt opens, and whose second one has other uses."""

_PROSE_HINT = re.compile(r"[mM][yY] (?i:thought process:)")

_ROLE = re.compile(r"(?:\s|<s>|<bos>|<\|[\w-]+\|>|(?:assistant|model)\b:?)*", re.IGNORECASE)
"""What may stand before the first mark: white space, and a turn's own marks."""

_CODE = re.compile(r"(?P<fence>```|~~~).*?(?P=fence)|(?P<tick>``?)[^`\n]+?(?P=tick)", re.DOTALL)
_QUOTES = "\"'`“”„‚‘’«»‹›「」『』《》"

_HARMONY_TOKEN = re.compile(r"<\|[a-z]+\|>")
_HARMONY = re.compile(r"\s*(?:<\|start\|>\s*assistant\s*)?<\|channel\|>")
_HARMONY_FINAL = re.compile(r"<\|channel\|>\s*final\b[^<]*<\|message\|>")
_HARMONY_MARK = re.compile(r"<\|(?:channel|message|start|end)\|>")

# Decoding with skip_special_tokens leaves the channel's name glued to the text's first letter
# ("analysisWe need to ..."). No text opens like that by itself: an answer which begins with the
# word ("analysis of variance", "Analysis: ...") has a space or a mark after it.
_HARMONY_PLAIN = re.compile(r"\s*analysis(?=[^\W_])")
_HARMONY_PLAIN_FINAL = "assistantfinal"


@dataclass(frozen=True)
class _Mark:
    """A mark in a text: its place, what kind it is, and whether it opens reasoning or ends it."""

    start: int
    end: int
    kind: str
    opens: bool
    only_leads: bool
    """Says something only where it begins an answer: `< think >` may be code elsewhere."""
    reasoning_alone: bool
    """No answer has such a mark for another reason than reasoning."""


def strip_reasoning(response: str) -> str | None:
    """The answer without the model's reasoning, or None where the reasoning never ended.

    A response without reasoning is returned as it is. Marks around the answer itself
    (`<answer>`, `<|START_RESPONSE|>`) go with the reasoning.
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
    """Whether a text has what no mark is without; four looks tell it sooner than one pattern."""
    if "<" in text or "[" in text or "◁" in text:
        return True
    return bool(_HARMONY_PLAIN.match(text) or _PROSE_HINT.search(text))


def opened_in(prompt: str) -> str:
    """The mark by which a prompt's end opens the reasoning, as it stands there; "" where none.

    A line ends behind one that is a word at its end, or it would run into what follows.
    """
    end = len(prompt.rstrip())
    tail = max(0, end - 200)
    last = next((mark for mark in _marks(prompt[tail:end]) if mark.end == end - tail), None)
    mark = prompt[tail + last.start : end] if last and last.opens else ""
    return f"{mark}\n" if mark[-1:].isalnum() else mark


def marks_in(text: str) -> list[str]:
    """The reasoning marks that a chat template or a vocabulary's entry holds, in their order.

    In a template's own quotation marks a mark is no quotation.
    """
    spans = [(mark.start, mark.end) for mark in _marks(text) if mark.kind != "open-webui"]
    spans += [match.span() for match in re.finditer(r"<\|channel\|>", text)]
    return list(dict.fromkeys(text[start:end] for start, end in sorted(spans)))


def marks_of_vocabulary(vocabulary: Iterable[str]) -> list[str]:
    """The entries of a vocabulary that are reasoning marks and have no other use."""
    tokens = []
    for token in dict.fromkeys(vocabulary):
        if token[:1] in "<[◁" and 5 < len(token) < 40 and marks_in(token) == [token]:
            mark = next(_marks(token), None)
            if mark is None or (mark.reasoning_alone and mark.kind not in _COMMON):
                tokens.append(token)
    return tokens


def closing_of(marks: Iterable[str]) -> str | None:
    """The first of some marks that ends reasoning."""
    return next((text for text in marks for mark in _marks(text) if not mark.opens), None)


def without_tokens(text: str, tokens: re.Pattern[str]) -> str:
    """A text without a vocabulary's special tokens, but with those that are marks of reasoning.

    Args:
        text: an answer, decoded with its special tokens.
        tokens: finds a special token.
    """
    kept = [(mark.start, mark.end) for mark in _marks(text)]
    kept += [match.span() for match in _HARMONY_MARK.finditer(text) if "<|channel|>" in text]
    kept += [match.span() for match in _TAG.finditer(text) if _is_around_answer(match)]
    return tokens.sub(
        lambda token: token[0] if any(a <= token.start() < b for a, b in kept) else "", text
    )


def _marks(text: str) -> Iterator[_Mark]:
    """Every mark in a text, wherever it stands."""
    for match in _TAG.finditer(text):
        parts = [set(re.split(r"[_.-]", part)) for part in match["label"].lower().split(":")]
        known = _WORDS | _QUALIFIERS | _EDGES
        name = next((part for part in parts if part & _WORDS and part <= known), None)
        if name is None or "/" in match[0][-2:-1]:
            continue
        edges = _EDGES & set().union(*parts)
        yield _Mark(
            *match.span(),
            kind=" ".join(sorted(name - _EDGES - {"of"})),
            opens=not match["slash"] and "end" not in edges,
            only_leads=bool(match["gap"]) and not match["slash"],
            reasoning_alone=bool(name & _REASONING_ALONE),
        )
    for match in _PAIR.finditer(text):
        edge = match.lastgroup or ""
        kind = list(_PAIRS)[int(re.sub(r"\D", "", edge))]
        yield _Mark(
            *match.span(),
            kind=kind,
            opens=edge.startswith("open"),
            only_leads=kind == _PROSE and edge.startswith("open"),
            reasoning_alone=kind != _PROSE,
        )


def _mentioned(text: str, mark: _Mark) -> bool:
    """Whether a mark is quoted, or a word of the sentence that it stands in."""
    before, after = text[max(0, mark.start - 9) : mark.start], text[mark.end : mark.end + 2]
    last = before[-1:]
    if last and last in _QUOTES and after[:1] and after[:1] in _QUOTES:
        return True
    preceding = before.rstrip(" ")[-1:]
    if not preceding.isalpha() and preceding not in set(",，、(（"):
        return False  # at the beginning, or behind a whole sentence
    if last in set(" (（"):
        goes_on = after[:1] == " " and after[1:].islower()
        return goes_on or after.lstrip(" ")[:1] in set(",.;:)?!，。、；：）？！")
    # Without spaces between words, as Chinese is written, letters stand on both sides.
    return _caseless(preceding) and _caseless(after[:1])


def _caseless(letter: str) -> bool:
    return letter.isalpha() and letter.lower() == letter.upper()


class _Reading:
    """A response read for reasoning.

    Attributes:
        text: the response.
        every: all marks in it, in their order.
        spoken: those by which a model reasons: not quoted, in code or in the midst of a sentence.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.every = sorted(_marks(text), key=lambda mark: (mark.start, -mark.end))
        fences = [match.span() for match in _CODE.finditer(text)] if self.every else []
        self.spoken = [
            mark
            for mark in self.every
            if not any(a <= mark.start < b for a, b in fences) and not _mentioned(text, mark)
        ]

    def answer(self) -> str | None:
        """The text without reasoning; None where a block of it does not end."""
        start, kinds = 0, set[str]()
        while (mark := self._leading(start)) is not None:
            close = self._closing(mark) if mark.opens else mark
            if close is None:
                return self.text[start:] if self._explains(mark) else None
            start = close.end
            kinds |= {mark.kind, close.kind}
        kept, end = [], start
        for mark in self.spoken:
            if mark.start >= end and mark.opens and self._opens_later(mark, start, kinds):
                kept.append(self.text[start : mark.start])
                close = self._closing(mark)
                if close is None and not self._explains(mark):
                    return None
                start = end = close.end if close else mark.start
        return "".join([*kept, self.text[start:]])

    def _leading(self, start: int) -> _Mark | None:
        """The mark that begins reasoning at `start`, or ends what the prompt began."""
        lead = _ROLE.match(self.text, start)
        opened: set[str] = set()
        for mark in self.spoken:
            if mark.start < start:
                continue
            if mark.opens and lead is not None and mark.start <= lead.end():
                return mark
            if mark.opens:
                opened.add(mark.kind)
            elif mark.kind not in opened and mark.kind not in _NEVER_BY_THE_PROMPT:
                return mark
        return None

    def _opens_later(self, mark: _Mark, start: int, kinds: set[str]) -> bool:
        """Whether a mark behind the beginning opens reasoning."""
        if mark.only_leads:
            return False
        line = self.text.rfind("\n", start, mark.start) + 1 or start
        announced = self.text[start:line].rstrip()[-1:] in {":", "："}
        opens_line = not self.text[line : mark.start].strip() and not announced
        return mark.kind in kinds or (mark.reasoning_alone and opens_line)

    def _closing(self, opening: _Mark) -> _Mark | None:
        """The mark that ends a block: of its own kind, or of any where there is none.

        A fence that the reasoning left open hides it: then it is one that ends a line.
        """
        hidden = (
            mark
            for mark in self.every
            if self.text[mark.end : mark.end + 1] in {"\n", ""}
            and self.text[mark.start - 1 : mark.start] != "`"
        )
        return _first_closing(opening, self.spoken) or _first_closing(opening, hidden)

    def _explains(self, opening: _Mark) -> bool:
        """Whether the text speaks of the mark that would end a block, so that none was begun."""
        return any(
            not mark.opens and mark.kind == opening.kind and mark.start >= opening.end
            for mark in self.every
        )


def _first_closing(opening: _Mark, marks: Iterable[_Mark]) -> _Mark | None:
    other = None
    for mark in marks:
        if not mark.opens and mark.start >= opening.end:
            if mark.kind == opening.kind:
                return mark
            other = other or mark
    return other


def _is_around_answer(tag: re.Match[str]) -> bool:
    label = set(re.split(r"[_.-]", tag["label"].lower().split(":")[0]))
    return bool(label & _ANSWER) and label <= _ANSWER | _EDGES | {"of"}


def _unwrapped(answer: str, *, piped_only: bool = False) -> str:
    """An answer without the marks around it, the second of which may be missing."""
    first = _TAG.match(answer.lstrip())
    if not first or not _is_around_answer(first) or (piped_only and first[0][1] != "|"):
        return answer
    answer = answer.lstrip()[first.end() :]
    ends = [tag for tag in _TAG.finditer(answer) if _is_around_answer(tag)]
    return answer[: ends[-1].start()] + answer[ends[-1].end() :] if ends else answer


def _opens_final_channel(response: str) -> bool:
    """Whether gpt-oss begins its answer behind reasoning that the prompt opened."""
    code = [match.span() for match in _CODE.finditer(response)]
    finals = _HARMONY_FINAL.finditer(response)
    return any(not any(a <= final.start() < b for a, b in code) for final in finals)


def _harmony_answer(response: str) -> str | None:
    answers = list(_HARMONY_FINAL.finditer(response))
    if not answers:
        return None
    return _HARMONY_TOKEN.split(response[answers[-1].end() :], maxsplit=1)[0]
