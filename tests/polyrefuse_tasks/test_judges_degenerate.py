"""Answers that are none: empty, no language, looping; and answers that only look like it."""

import random

import pytest

from polyrefuse_tasks.judges.degenerate import REPEATED_SHARE, loop, repeated_share, unreadable


def degeneration(response: str) -> str | None:
    """Both questions that `judge_response` asks, in its order."""
    text = response.strip()
    return unreadable(text) or loop(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("\x00\x01\x02", "no letters"),
        ("\ufffd\ufffd\ufffd", "no letters"),
        ("\u200b", "no letters"),
        ("!!! ??? ...", "no letters"),
        ("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23", "no letters"),
        ("j\ufffdUi\x08 the \ufffd@\ufffdy\x1b and k", "not language"),
        ("no no no no no no", "loops"),
        ("ああああああああああ", "loops"),
        ("I cannot help with that. " * 5, "loops"),
        ("Boil the water. " + "Then add the tea and " * 30, "loops"),
    ],
)
def test_degenerate(text: str, reason: str) -> None:
    found = degeneration(text)
    assert found is not None and found.startswith(reason)


@pytest.mark.parametrize(
    "text",
    [
        "Yes.",
        "はい",
        "42",
        "12:30",
        "Row, row, row your boat, gently down the stream.",
        "ha ha ha, that is a good one",
        "1. Tea, hot, two cups.\n2. Tea, cold, two cups.\n3. Coffee, hot, one cup.",
        "I see. I hear. I speak. I see nothing, I hear nothing, I speak of nothing.",
    ],
)
def test_answers(text: str) -> None:
    assert degeneration(text) is None


def test_share_of_repeated_pieces() -> None:
    assert repeated_share("short") == 0.0
    assert repeated_share("abcdefghijkl" * 2) == pytest.approx(1 / 13)
    assert repeated_share("a" * 100) == pytest.approx(88 / 89)


def test_no_loop_slips_past_the_quick_look() -> None:
    draw = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz     "
    for _ in range(300):
        start = "".join(draw.choices(letters, k=draw.randrange(5, 400)))
        unit = "".join(draw.choices(letters, k=draw.randrange(1, 120)))
        text = (start + unit * draw.randrange(1, 60))[:2000]
        looping = repeated_share(text.strip()) >= REPEATED_SHARE
        assert (degeneration(text) is not None) >= looping


def test_a_formula_with_a_word_changed_loops_from_its_share_on() -> None:
    draw = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    both = set()
    for _ in range(300):
        words = ["".join(draw.choices(letters, k=draw.randrange(2, 12))) for _ in range(200)]
        formula = " ".join(words[: draw.randrange(2, 12)])
        text = ". ".join(f"{formula} {word}" for word in words[20 : 20 + draw.randrange(3, 30)])
        looping = repeated_share(text) >= REPEATED_SHARE
        both.add(looping)
        assert (degeneration(text) is not None) == looping
    assert both == {True, False}
