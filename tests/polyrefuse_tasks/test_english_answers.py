"""Answers translated for judges that read English, each piece of text once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polyrefuse_tasks.data import cache
from polyrefuse_tasks.data.errors import TranslationFailed
from polyrefuse_tasks.data.translation_models import Translator
from polyrefuse_tasks.english_answers import FOLDER, MOST_CHARACTERS, EnglishAnswers, _pieces
from polyrefuse_tasks.rejudging import Answer, in_english
from tests.commands import run_in_process
from tests.leaderboard.result_files import task, write_run
from tests.translation_models import save_nllb, save_t5

TEXTS = ["Nej, det vil jeg ikke.", "Ja.\n\n1. Et\n2. To", "", "  Ja.  "]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYREFUSE_CACHE_DIR", str(tmp_path / "cache"))


class Counting:
    """Stands in front of a translator, and keeps what it is asked."""

    def __init__(self, translator: Translator) -> None:
        self.translator = translator
        self.name, self.revision = translator.name, translator.revision
        self.asked: list[str] = []

    def translate(self, texts: list[str], source: str, target: str) -> list[str]:
        assert (source, target) == ("da", "en")
        self.asked += texts
        return [f"<{text}>" for text in texts]


def counted(model: str) -> tuple[EnglishAnswers, Counting]:
    english = EnglishAnswers(model, batch_size=2)
    counting = Counting(english.translator)
    english.translator = counting  # type: ignore[assignment]
    return english, counting


def test_lines_and_blanks_stay(tmp_path: Path) -> None:
    english, counting = counted(save_nllb(tmp_path / "nllb"))
    assert english.translate(TEXTS, "da") == [
        "<Nej, det vil jeg ikke.>",
        "<Ja.>\n\n<1. Et>\n<2. To>",
        "",
        "  <Ja.>  ",
    ]
    # "Ja." stands there twice.
    assert sorted(counting.asked) == ["1. Et", "2. To", "Ja.", "Nej, det vil jeg ikke."]


def test_nothing_is_translated_twice(tmp_path: Path) -> None:
    model = save_nllb(tmp_path / "nllb")
    first, _ = counted(model)
    expected = first.translate(TEXTS, "da")
    (kept,) = (cache.cache() / FOLDER).iterdir()
    kept.write_bytes(kept.read_bytes()[:-5])  # The last line is torn.
    again, counting = counted(model)
    assert again.translate(TEXTS, "da") == expected
    assert len(counting.asked) == 1
    # Another model has translations of its own.
    other, counting = counted(save_t5(tmp_path / "t5"))
    other.translate(TEXTS, "da")
    assert len(counting.asked) == 4


@pytest.mark.parametrize(
    "text",
    ["", "a", "\n\n", "a" * 1000, "One. Two! Three? " * 100, "。" * 900, "x\r\ny\u2028z" * 300],
)
def test_pieces_are_the_text(text: str) -> None:
    pieces = list(_pieces(text))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= MOST_CHARACTERS for piece in pieces)


def test_a_real_model_is_loaded_and_a_language_that_it_lacks_is_a_sentence(tmp_path: Path) -> None:
    english = EnglishAnswers(save_nllb(tmp_path / "nllb"))
    (found,) = english.translate(["Ja."], "da")
    assert isinstance(found, str)
    with pytest.raises(TranslationFailed, match="no code for Thai"):
        english.translate(["x"], "th")
    with pytest.raises(TranslationFailed, match="cannot be loaded"):
        EnglishAnswers(str(tmp_path / "nowhere")).translate(["x"], "da")


def test_what_was_answered_in_english_stays_as_it_is(tmp_path: Path) -> None:
    english, counting = counted(save_nllb(tmp_path / "nllb"))
    danish = "Nej, det vil jeg ikke hjælpe dig med, for det er forkert."
    given = "No, I will not help you with that, because it would be wrong."
    answers = [
        Answer(str(place), 0, "da", "Hvorfor?", "Why?", response, before, None)
        for place, (response, before) in enumerate(
            [(f"<think>Hmm.</think>{given}", None), (danish, None), (danish, "Known.")]
        )
    ]
    translated = [answer.response_english for answer in in_english(answers, english)]
    assert translated == [given, f"<{danish}>", "Known."]
    assert counting.asked == [danish]


def test_substring_reads_every_language(tmp_path: Path) -> None:
    write_run(tmp_path / "r", [task("harmful", "da", "cc", answers=["Nej tak.", "Ja tak."])])
    asked = ("judge", "run", tmp_path / "r", "--judge", "substring")
    code, out, err = run_in_process(*asked)
    assert code == 0, err
    assert "2 undecided of 2" in out
    code, out, err = run_in_process(*asked, "--translate", save_t5(tmp_path / "t5"))
    assert code == 0, err
    # What a random model writes is no answer that anybody could judge; it was judged, though.
    assert "(2 judged now)" in out
    (path,) = (tmp_path / "r").rglob("judged_*")
    first = json.loads(path.read_text().splitlines()[0])
    assert first["judging"]["settings"]["translation"].startswith(str(tmp_path / "t5"))
    assert first["label"] in ("compliance", "refusal")
