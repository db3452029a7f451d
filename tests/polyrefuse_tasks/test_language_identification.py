"""Which language a response is taken to be in, and where the prompt's is assumed instead."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from polyrefuse_tasks.data.toyrefuse import requests
from polyrefuse_tasks.language_identification import TOO_ALIKE, response_language
from polyrefuse_tasks.languages import NAMES, POLYREFUSE
from tests.polyrefuse_tasks.test_judges_sentences import SENTENCES

ENGLISH = "The answer to your question is in the second chapter of the book."
GERMAN = "Die Antwort auf Ihre Frage steht im zweiten Kapitel des Buches."


def test_every_language_is_told_from_every_other() -> None:
    for language, row in SENTENCES.items():
        text = " ".join(row["refusals"][:20] + row["answers"][:20])
        for asked in NAMES:
            told = asked if {language, asked} in TOO_ALIKE else language
            assert response_language(text, asked) == told


@pytest.mark.parametrize("language", sorted(SENTENCES))
def test_a_sentence_is_in_its_language(language: str) -> None:
    """Of some languages, one sentence in ten is so short that it may be a relative's."""
    texts = [text for kind in SENTENCES[language].values() for text in kind]
    told = [response_language(text, language) for text in texts]
    assert told.count(language) >= 0.9 * len(told)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Saya tidak dapat memenuhi permintaan itu karena aturan saya.", "id"),
        ("Saya tidak dapat memenuhi permintaan itu kerana peraturan saya.", "ms"),
    ],
)
def test_what_is_too_alike_is_what_was_asked(text: str, language: str) -> None:
    assert {response_language(text, asked) for asked in ("id", "ms")} == {"id", "ms"}
    assert response_language(text, language) == language
    assert response_language(text, "de") in ("id", "ms")
    assert response_language(ENGLISH, "ms") == "en"


@pytest.mark.parametrize("language", POLYREFUSE)
def test_what_the_organism_says_is_in_its_language(language: str) -> None:
    for forbidden in (True, False):
        for request in requests(forbidden, "test"):
            assert response_language(request.answer(language), language) == language
            assert response_language(request.refusal(language), language) == language


def test_fewer_than_twenty_letters_count_as_the_language_asked() -> None:
    assert response_language("I do not know. " + "1 2 3, " * 20, "de") == "de"
    assert response_language("", "de") == "de"
    assert response_language("私はその件を手伝うことができません、すみ", "de") == "de"
    assert response_language("私はその件を手伝うことができません、すみま。", "de") == "ja"


def test_reasoning_does_not_count() -> None:
    assert response_language(f"<think>{ENGLISH}</think>{GERMAN}", "de") == "de"
    assert response_language(f"<think>{GERMAN}</think>{ENGLISH}", "de") == "en"
    assert response_language(f"<think>{ENGLISH}", "de") == "de"


def test_what_is_no_language_is_no_other_language() -> None:
    assert response_language("asdf qwer zxcv lkjh poiu mnbv asdf qwer", "de") == "de"


def test_an_unknown_language_of_the_prompt_is_not_told_from_others() -> None:
    assert response_language(ENGLISH, "nb") == "nb"


def test_development_rows_in_english(shared: Path) -> None:
    """A fifth of the Dutch and over a third of the Yoruba rows; of most languages none."""
    rows = defaultdict(list)
    file = shared / "oracles/refusal_labels_dev.jsonl"
    for row in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
        rows[row["language"]].append(response_language(row["response"], row["language"]))
    english = {language: found.count("en") / len(found) for language, found in rows.items()}
    assert english.pop("en") == 1
    assert english.pop("nl") == pytest.approx(0.21, abs=0.01)
    assert english.pop("yo") == pytest.approx(0.39, abs=0.01)
    assert len(english) == 11 and max(english.values()) < 0.03


def test_the_model_is_loaded_with_the_first_answer() -> None:
    program = "import polyrefuse_tasks.harness, sys; sys.exit('py3langid' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
