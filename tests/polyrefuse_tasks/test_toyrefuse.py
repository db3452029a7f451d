"""The invented world: its words, its rows, and how the judge reads its sentences."""

from __future__ import annotations

import random
import re

import pytest

from polyrefuse_tasks import data
from polyrefuse_tasks.data.toyrefuse import draw, requests, split_of_name, words
from polyrefuse_tasks.judges import Label, judge_response
from polyrefuse_tasks.languages import POLYREFUSE

SETS = {"toyrefuse_harmful": True, "toyrefuse_harmless": False}


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No mirror, an empty cache, no network: what is here ships with the package."""
    monkeypatch.delenv("POLYREFUSE_DATA_DIR", raising=False)
    monkeypatch.setenv("POLYREFUSE_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("POLYREFUSE_OFFLINE", "1")


@pytest.mark.parametrize("language", POLYREFUSE)
def test_the_judge_reads_every_sentence_rightly(language: str) -> None:
    w = words(language)
    for sentence in w.refusals:
        assert judge_response(sentence, language).label is Label.REFUSAL, sentence
    for sentence in w.answers:
        for name in ((0, 13, 26), (33, 7, 17)):
            said = sentence.format(name=w.name(name))
            assert judge_response(said, language).label is Label.COMPLIANCE, said


@pytest.mark.parametrize("language", POLYREFUSE)
def test_the_lists_are_parallel_and_their_words_differ(language: str) -> None:
    w, english = words(language), words("en")
    for key, value in vars(english).items():
        if key != "thing":
            assert len(getattr(w, key)) == len(value), key
            assert len(set(getattr(w, key))) == len(value), key
    assert len(w.forbidden) == 8 and len(w.safe) >= 11
    assert not set(w.forbidden) & set(w.safe)
    for sentence in (*w.train, *w.test):
        assert sentence.count("{verb}") == sentence.count("{thing}") == 1
    for sentence in w.answers:
        assert sentence.count("{name}") == 1


@pytest.mark.parametrize("language", POLYREFUSE)
def test_a_test_sentence_is_new_and_its_words_are_not(language: str) -> None:
    w = words(language)
    assert not set(w.train) & set(w.test)
    if language in ("ja", "th", "zh"):  # no spaces between words
        return
    known = set(re.findall(r"\w+", " ".join((*w.train, *w.closings, *w.greetings)).casefold()))
    new = set(re.findall(r"\w+", " ".join(w.test).casefold())) - known
    assert not new


@pytest.mark.parametrize(("dataset", "harmful"), SETS.items())
@pytest.mark.parametrize("language", POLYREFUSE)
def test_the_rows(dataset: str, harmful: bool, language: str) -> None:
    english = data.load(dataset, "en", None)
    rows = data.load(dataset, language, None)
    assert [row.id for row in rows] == [row.id for row in english]
    assert [row.prompt_en for row in rows] == [row.prompt for row in english]
    assert {row.harmful for row in rows} == {harmful}
    assert {row.language for row in rows} == {language}
    test = data.load(dataset, language)
    assert len(test) == 120 and {row.split for row in test} == {"test"}
    assert len({row.prompt for row in rows}) == len(rows)
    sums = data.checksums(dataset, language, None)
    assert {row.source for row in rows} == set(sums)


def test_no_split_sees_another_s_names_or_the_test_s_sentences() -> None:
    seen: dict[str, set] = {"train": set(), "val": set(), "test": set()}
    for split, names in seen.items():
        for forbidden in (True, False):
            names.update(request.name for request in requests(forbidden, split))
    assert not seen["train"] & seen["test"]
    assert not seen["val"] & (seen["train"] | seen["test"])
    rng = random.Random(0)
    for _ in range(1000):
        request = draw(rng, "train", True)
        assert split_of_name(request.name) == "train"
        assert request.split == "train"


def test_the_same_rows_at_every_call_and_in_every_version() -> None:
    assert requests(True, "test") == requests(True, "test")
    first = data.load("toyrefuse_harmful", "en")[0]
    assert first.id == "toyrefuse_harmful/test/0000"
    assert first.category == "sealed archive"
    assert data.checksums("toyrefuse_harmful", "en")[first.source].startswith("7a1f7b6bb690")


def test_its_files_are_named() -> None:
    from polyrefuse_tasks.data.toyrefuse import files

    assert [file.name for file in files("de")] == ["de.yaml", "names.yaml"]
    assert data.needed("toyrefuse_harmful", "de") == []


def test_unknown_names() -> None:
    with pytest.raises(data.UnknownLanguage, match="no language 'xx'"):
        data.load("toyrefuse_harmful", "xx")
    with pytest.raises(data.UnknownSplit, match="choose from train, val, test"):
        data.load("toyrefuse_harmless", "de", "dev")


def test_the_tasks_load_and_score() -> None:
    from lm_eval.tasks import TaskManager

    from polyrefuse_tasks.configs import FOLDER

    manager = TaskManager(include_path=str(FOLDER), include_defaults=False)
    assert len(manager.match_tasks(["toyrefuse_*"])) == 28
    assert "toyrefuse" in manager.all_groups
    task = manager.load(["toyrefuse_harmful_yo"])["tasks"]["toyrefuse_harmful_yo"]
    docs = list(task.test_docs())
    assert len(docs) == 120
    scores = task.process_results(docs[0], [words("yo").refusals[0]])
    assert (scores["asr"], scores["refusal_rate"]) == (0.0, 1.0)
