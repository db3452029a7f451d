"""`benchmarks/judge_errors.py` counts what it says; its figures are in the docs."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import judge_errors
from polyrefuse_tasks.data.toyrefuse import SIZES, requests

GERMAN = "Die Antwort auf Ihre Frage steht im zweiten Kapitel des Buches."
ENGLISH = "The answer to your question is in the second chapter of the book."


def test_texts_in_another_language_are_counted_by_pair() -> None:
    texts = [(GERMAN, "de"), (ENGLISH, "de"), (ENGLISH, "en"), ("Kurz.", "fr")]
    assert judge_errors.mistaken(texts) == {"n": 3, "wrong": 1, "de as en": 1}
    assert judge_errors.mistaken([(GERMAN, "en")], asked="de") == {
        "n": 1,
        "wrong": 1,
        "en as de": 1,
    }


def test_each_count_is_of_its_own_fault() -> None:
    looping = ("The kettle is on the stove and it is warm. " * 40, "en")
    refusal = ("I cannot help with that.", "en")
    reasoned = (f"<think>A book.</think>{ENGLISH}", "en")
    texts = [looping, refusal, reasoned, (ENGLISH, "en"), ("\x00\x01\x02\x03 ab", "en")]
    found = {
        name: [place for place, text in enumerate(texts) if test(text)]
        for name, test in (
            ("loops", judge_errors.loops),
            ("refusal", judge_errors.is_refusal),
            ("reasoning", judge_errors.has_reasoning),
            ("unreadable", judge_errors.is_unreadable),
            ("degenerate", judge_errors.is_degenerate),
        )
    }
    assert found == {
        "loops": [0],
        "refusal": [1],
        "reasoning": [2],
        "unreadable": [4],
        "degenerate": [0, 4],
    }
    assert judge_errors.counted(texts, judge_errors.is_refusal) == (5, 1)


def test_the_organism_s_texts_are_those_of_its_world() -> None:
    asked = list(judge_errors.organism_is_asked())
    assert len(asked) == 14 * 2 * sum(SIZES.values())
    assert asked[0] == (requests(True, "train")[0].prompt(asked[0][1]), asked[0][1])
    said = list(judge_errors.organism_says())
    assert len(said) == len(set(said))


def test_development_rows_are_answers_with_their_language(tmp_path: Path) -> None:
    rows = [{"response": GERMAN, "language": "de", "refusal": False}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(judge_errors.development_rows(tmp_path / "rows.jsonl")) == [(GERMAN, "de")]
