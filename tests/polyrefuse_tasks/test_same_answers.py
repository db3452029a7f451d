"""The warning that answers do not depend on prompts."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest

from polyrefuse_tasks.judges import Label, judge_response
from polyrefuse_tasks.same_answers import FEWEST, warn_of_same_answers

GREETING = "Hello! How can I help you today?"


def different(n: int) -> list[str]:
    return [f"The garden bench number {number} stands by the pond." for number in range(n)]


def test_answers_that_are_all_the_same_are_told_with_their_number() -> None:
    told = warn_of_same_answers([GREETING] * 572)
    assert told is not None
    assert told.startswith("572 of the 572 answers that are not refusals are the same text")
    assert told.endswith(".")


def test_the_text_itself_is_not_told() -> None:
    told = warn_of_same_answers(["open the sealed archive"] * 40)
    assert told is not None and "archive" not in told


@pytest.mark.parametrize(
    ("same", "other", "told"), [(11, 9, True), (10, 10, False), (3, 97, False)]
)
def test_more_than_half_is_most(same: int, other: int, told: bool) -> None:
    answers = [GREETING] * same + different(other)
    assert (warn_of_same_answers(answers) is not None) == told


def test_blanks_do_not_make_answers_different() -> None:
    answers = [f"{' ' * place}{GREETING}\n{' ' * (place % 3)}" for place in range(20)]
    assert warn_of_same_answers(answers) is not None


def test_empty_answers_are_called_empty() -> None:
    told = warn_of_same_answers(["", " ", "\n"] * 4)
    assert told is not None and told.startswith(
        "12 of the 12 answers that are not refusals are empty"
    )


def test_nothing_is_said_of_few_answers() -> None:
    assert warn_of_same_answers([]) is None
    assert warn_of_same_answers([GREETING] * (FEWEST - 1)) is None
    assert warn_of_same_answers([GREETING] * FEWEST) is not None
    # Sampled answers: one prompt's are alike because it is one prompt.
    assert warn_of_same_answers([GREETING] * 175, prompts=FEWEST - 1) is None
    assert warn_of_same_answers([GREETING] * 200, prompts=FEWEST) is not None


def test_nothing_is_said_of_the_development_rows(shared: Path) -> None:
    """Neither by the labels they come with nor by our judge's, in any language."""
    labelled: dict[str, list[str]] = defaultdict(list)
    judged: dict[str, list[str]] = defaultdict(list)
    with open(shared / "oracles" / "refusal_labels_dev.jsonl", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if not row["refusal"]:
                labelled[row["language"]].append(row["response"])
            if judge_response(row["response"], row["language"]).label is not Label.REFUSAL:
                judged[row["language"]].append(row["response"])
    assert sum(len(answers) >= FEWEST for answers in labelled.values()) >= 12
    for answers in (*labelled.values(), *judged.values()):
        assert warn_of_same_answers(answers) is None
