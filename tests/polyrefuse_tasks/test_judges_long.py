"""Long answers, made to be slow or to break: what a judge does grows with the length, no faster."""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from benchmarks.long_answers import CONDEMNED, KINDS, READERS
from polyrefuse_tasks import judges
from polyrefuse_tasks.judges import Label, judge_response
from polyrefuse_tasks.judges.degenerate import loop
from polyrefuse_tasks.judges.layout import first_list_item, undressed
from polyrefuse_tasks.judges.leftovers import is_leftover
from polyrefuse_tasks.judges.normalise import normalise
from polyrefuse_tasks.judges.quotes import own_words
from polyrefuse_tasks.judges.reasoning import strip_reasoning, without_tokens

FOLDER = str(Path(judges.__file__).parent)
TOKENS = re.compile(r"<\|[A-Z_a-z]+\|>")
# Steps as one pattern, which reads five hundred characters for each first one.
STEPS = re.compile(
    r"(?<![\w.,])(?:(\w{2,12}) ?|\()?1(?:[.:)：]|\s?[-–—])\s?(?=\D).{3,500}?"
    r"(?<![\w.,])(?(1)\1 ?|\(?)2(?:[.:)：]|\s?[-–—])\s?(?=\D)",
    re.DOTALL,
)
ONE_UNIT = re.compile(r"(.{1,40}?)\1{3,}(.{0,39})", re.DOTALL)
QUOTED = re.compile(
    r"\"[^\"]{1,1000}\"|«[^»]{1,1000}»|»[^«»]{1,1000}[«»]|„[^“”„]{1,1000}[“”„]|“[^”“]{1,1000}[”“]"
    r"|(?<!\w)'(?=\w)(?:[^'\n]|(?<=\w)'(?=\w)){1,1000}'(?!\w)"
)


def lines_run(read: Callable[[str], object], answer: str) -> int:
    """How many lines of the judges are run to read an answer."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace if frame.f_code.co_filename.startswith(FOLDER) else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        read(answer)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    "unit",
    [
        "<think>",
        "<think>\n",
        "<think></think>",
        "</think>",
        "<think>a</think> b <analysis>c</analysis>\n",
        "a <think> b",
        "`<think>` </think>\n",
        "```\n<think>\n```\n</think>\n",
        "<|START_THINKING|><|END_THINKING|>",
        "<thinking></reasoning>",
        "`<|channel|>final<|message|>`",
    ],
)
@pytest.mark.parametrize("before", ["", "Tea. ", "<think>"])
def test_marks_of_reasoning_are_looked_at_once(unit: str, before: str) -> None:
    for read in (strip_reasoning, lambda text: without_tokens(text, TOKENS)):
        some, twice = (lines_run(read, before + unit * n) for n in (300, 600))
        assert twice <= 2.2 * some + 100


@pytest.mark.parametrize("unit", ["«", "« ", "'a ", "„a", "1. a Step 1: b ", "2. a 2. b ", "[]"])
def test_marks_of_quotations_and_steps_are_looked_at_once(unit: str) -> None:
    for read in (own_words, first_list_item):
        some, twice = (lines_run(read, f"Tea. {unit * n}") for n in (300, 600))
        assert twice <= 2.2 * some + 100


def drawn(seed: int, n: int, units: list[str]) -> Iterator[str]:
    draw = random.Random(seed)
    for _ in range(n):
        yield "".join(draw.choices(draw.sample(units, draw.randrange(2, 7)), k=draw.randrange(30)))


def test_steps_are_those_of_one_pattern() -> None:
    units = ["1", "2", "1. ", "2. ", " 1-", "2 -", "(1) ", "(2) ", "Step 1: ", "Step 2: ", "step1:"]
    units += ["step2:", "Step ", "ab", " ", ".", "12", "a" * 12, "a" * 13, "y " * 124]
    found = 0
    for text in (f"Tea {drawn_text}" for drawn_text in drawn(1, 5_000, units)):
        steps = STEPS.search(text)
        found += steps is not None
        assert first_list_item(text) == (steps and steps.start()), text
    assert 500 < found < 4_500


def test_a_piece_repeated_is_that_of_one_pattern() -> None:
    draw = random.Random(2)
    found = 0
    for _ in range(5_000):
        unit = "".join(draw.choices("ab- ", k=draw.choice([1, 2, 3, 5, 39, 40, 41])))
        rest = "".join(draw.choices("ab-", k=draw.choice([0, 1, 38, 39, 40])))
        text = unit * draw.randrange(1, 9) + unit[: draw.randrange(41)] + rest
        whole = ONE_UNIT.fullmatch(text)
        looping = whole is not None and bool(re.search("[ab]", whole[1])) >= bool(
            re.search("[ab]", whole[2])
        )
        found += looping
        assert (loop(text) == "loops: one piece repeated") == looping, text
    assert 500 < found < 4_500


def test_quotations_are_those_of_one_pattern() -> None:
    units = ['"', "«", "»", "„", "“", "'", " 'a", "b'", "don't", "a", " ", "\n", "x" * 400]
    found = 0
    for text in drawn(3, 5_000, units):
        quoted = f"The bench stands there. {text}"
        # What is short and stands behind a word is that word's, which is another matter.
        expected = QUOTED.sub(lambda m: m[0] if len(m[0]) <= 12 else ' "" ', quoted)
        if any(len(match[0]) <= 12 for match in QUOTED.finditer(quoted)):
            continue
        found += expected != quoted
        assert own_words(quoted) == expected, quoted
    assert found > 500


def test_a_hundred_brackets_are_no_riddle() -> None:
    assert judge_response("[]" * 60 + "x", "en").label is Label.DEGENERATE
    assert is_leftover("[] null {}") and is_leftover("%system")
    assert not is_leftover("[] nullx {}")


def test_deep_json_is_read_to_its_bottom() -> None:
    answer = "I cannot help you with that."
    for opening, closing in (('{"a": ', "}"), ("[", "]")):
        wrapped = f'{opening * 400}"{answer}"{closing * 400}'
        assert undressed(wrapped) == answer
        assert judge_response(wrapped, "en").label is Label.REFUSAL


def test_an_entity_with_thousands_of_digits_is_no_character() -> None:
    assert undressed(f"Tea &amp; &#{'1' * 5_000}; milk") == "Tea & \ufffd milk"


def test_thousands_of_marks_on_a_letter() -> None:
    assert normalise("a\u0301" + "\u0316\u0301" * 20_000).startswith("á")
    text = "한국어 ｶﾞｷﾞ ﬁ e\u0301 ㍿ " * 200
    assert normalise(text) == normalise(text[: len(text) // 2]) + " " + normalise(
        text[len(text) // 2 :]
    )


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_refusal_is_one_however_long_what_follows(language: str) -> None:
    refusal = {"en": "I'm sorry, I can't help with that. ", "zh": "抱歉，我无法帮助你。"}[language]
    rest = KINDS["plain text"](300_000)
    assert judge_response(refusal + rest, language).label is Label.REFUSAL
    assert judge_response(CONDEMNED + rest, language).label is Label.COMPLIANCE


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_time_grows_with_the_length(kind: str) -> None:
    """A square would be sixteen times as much; the benchmark measures more closely."""
    for read in READERS.values():
        read("The old bench stands by the pond.")
        answers = [KINDS[kind](n) for n in (50_000, 200_000)]
        some, more = (min(_seconds(read, answer) for _ in range(2)) for answer in answers)
        assert more < 8 * some + 0.05, (kind, some, more)


def _seconds(read: Callable[[str], object], answer: str) -> float:
    start = time.process_time()
    read(answer)
    return time.process_time() - start
