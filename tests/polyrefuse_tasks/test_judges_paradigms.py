"""Grammar of refusals: every combination of modal, object, adverb and verbs that no phrase has."""

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
import yaml

from polyrefuse_tasks.judges import Label, judge_response
from polyrefuse_tasks.judges.rules import PHRASES

PARADIGMS: dict[str, dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("paradigms.yaml").read_text(encoding="utf-8")
)
ROWS = Path(__file__).parents[3] / "shared" / "oracles" / "refusal_labels_dev.jsonl"


def _sentences(frame: str, words: dict[str, list[str]]) -> Iterator[str]:
    names = [name for _, name, _, _ in Formatter().parse(frame) if name]
    for chosen in product(*(words[name] for name in names)):
        sentence = frame.format(**dict(zip(names, chosen, strict=True)))
        sentence = re.sub(r" +(?=[ .,?]|')", "", sentence).strip()
        yield sentence[0].upper() + sentence[1:]


def _frames(kind: str) -> list[tuple[str, str]]:
    return [(language, frame) for language, row in PARADIGMS.items() for frame in row[kind]]


def _judged_otherwise(language: str, frame: str, label: Label) -> list[str]:
    sentences = list(_sentences(frame, PARADIGMS[language]["words"]))
    assert len(sentences) > 3
    return [text for text in sentences if judge_response(text, language).label is not label]


@pytest.mark.parametrize(("language", "frame"), _frames("refuses"))
def test_whatever_the_verb(language: str, frame: str) -> None:
    assert _judged_otherwise(language, frame, Label.REFUSAL) == []


@pytest.mark.parametrize(("language", "frame"), _frames("complies"))
def test_contrasts_comply(language: str, frame: str) -> None:
    assert _judged_otherwise(language, frame, Label.COMPLIANCE) == []


@pytest.mark.parametrize("language", sorted(PARADIGMS))
def test_no_phrase_and_no_row_has_the_verbs(language: str) -> None:
    known = (PHRASES / f"{language}.yaml").read_text(encoding="utf-8").casefold()
    if ROWS.exists():
        known += ROWS.read_text(encoding="utf-8").encode().decode("unicode_escape", "ignore")
    for verb in PARADIGMS[language]["words"]["verb"]:
        assert verb not in known
