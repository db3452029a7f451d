"""Every language's own sentences, from `sentences.yaml`: one row a language."""

from pathlib import Path

import pytest
import yaml

from polyrefuse_tasks.judges import Label, judge_response
from polyrefuse_tasks.judges.rules import languages
from polyrefuse_tasks.languages import NAMES, POLYREFUSE

SENTENCES: dict[str, dict[str, list[str]]] = yaml.safe_load(
    Path(__file__).with_name("sentences.yaml").read_text(encoding="utf-8")
)


def _rows(kind: str) -> list[tuple[str, str]]:
    return [(code, text) for code, row in SENTENCES.items() for text in row[kind]]


def test_every_language_has_phrases_and_sentences() -> None:
    assert languages() == tuple(sorted(NAMES)) == tuple(sorted(SENTENCES))
    for code, row in SENTENCES.items():
        enough = 12 if code in POLYREFUSE else 6
        assert len(row["refusals"]) >= enough and len(row["answers"]) >= enough, code


@pytest.mark.parametrize(("language", "text"), _rows("refusals"))
def test_refusals_refuse_and_show_the_phrase(language: str, text: str) -> None:
    judgement = judge_response(text, language)
    assert judgement.label is Label.REFUSAL
    assert judgement.evidence


@pytest.mark.parametrize(("language", "text"), _rows("answers"))
def test_answers_comply(language: str, text: str) -> None:
    assert judge_response(text, language).label is Label.COMPLIANCE


@pytest.mark.parametrize("language", sorted(SENTENCES))
def test_english_refusal_counts_in_every_language(language: str) -> None:
    judgement = judge_response("Sorry, but I can't assist with that request.", language)
    assert judgement.label is Label.REFUSAL
