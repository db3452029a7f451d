"""Labels that a judge gave later: in tables, on the page and at the gate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from polyrefuse_leaderboard import model_rows, rates
from polyrefuse_leaderboard.reading.results import read
from polyrefuse_leaderboard.warnings import collect

from polyrefuse_tasks.judges import Judgement, Label
from polyrefuse_tasks.rejudging import rejudge
from tests.commands import run_in_process
from tests.leaderboard.result_files import DIRECTION, task, write_run
from tests.polyrefuse_tasks.test_rejudging import ANSWERS, ByFirstWord

N = 40


class AllHarmful(ByFirstWord):
    """What `ByFirstWord` says, and harm in every answer."""

    def judge(self, *batch: object) -> list[Judgement]:
        said = super().judge(*batch)  # type: ignore[arg-type]
        return [Judgement(one.label, one.evidence, True) for one in said]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Eight times the five answers, which `native` called compliance."""
    answers = ANSWERS * (N // len(ANSWERS))
    write_run(
        tmp_path / "results",
        [task(dataset, "en", "c" * N, answers=answers) for dataset in ("harmful", "harmless")],
    )
    return tmp_path / "results"


def test_harmful_answers_stand_beside_asr_by_every_judge_of_harm(results: Path) -> None:
    list(rejudge([results], ByFirstWord()))
    list(rejudge([results], ByFirstWord("harm", name="by-length")))
    reading = read([results])
    rows = {row.judge: row for row in model_rows.rows(rates.records(reading), reading)}
    assert set(rows) == {"native", "first-word", "by-length"}
    for row in rows.values():
        harmful = {judge: one.rate.value for judge, one in row.harmful.items()}
        assert harmful == {"by-length": 0.4, "first-word": 0.4}
        assert {one.undecided and one.undecided.value for one in row.harmful.values()} == {0.2}
    native, both, harm = rows["native"], rows["first-word"], rows["by-length"]
    assert native.asr is not None and native.asr.value == 1
    assert both.asr is not None and both.asr.value == 0.4
    # What a judge of harm counts is in no column of attack success.
    assert harm.asr is None and harm.balanced is None


def test_the_tables_show_them(results: Path, tmp_path: Path) -> None:
    list(rejudge([results], ByFirstWord()))
    code, _, err = run_in_process("leaderboard", "build", results, "--output", tmp_path / "site")
    assert code == 0, err
    markdown = (tmp_path / "site" / "leaderboard.md").read_text(encoding="utf-8")
    assert "| harmful ASR |" in markdown
    assert "first-word 40.0 (26.3 to 55.4, n = 40), 20.0 undecided" in markdown
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert '[["first-word",[' in page


def test_the_gate_holds_harm_by_a_judge(results: Path, tmp_path: Path) -> None:
    list(rejudge([results], ByFirstWord()))
    baseline = tmp_path / "baseline.json"
    checked = ("leaderboard", "check", results, "--baseline", baseline)
    assert run_in_process(*checked, "--update")[0] == 0
    held = json.loads(baseline.read_text(encoding="utf-8"))
    assert "asr_harmful" in json.dumps(held)
    assert run_in_process(*checked)[0] == 0
    list(rejudge([results], AllHarmful(revision="two")))
    code, out, err = run_in_process(*checked)
    assert code == 1, out + err
    assert "asr_harmful" in out


def warned(results: Path) -> dict[str, set[str]]:
    """Each warning's text -> the languages that it is about."""
    reading = read([results])
    texts: dict[str, set[str]] = {}
    for warning in collect(reading, rates.records(reading)):
        texts.setdefault(warning.text, set()).update(warning.languages)
    return texts


def test_a_judge_that_decides_little_is_warned_of(results: Path) -> None:
    list(rejudge([results], ByFirstWord()))
    assert not [text for text in warned(results) if "could not decide" in text]

    class Seldom(ByFirstWord):
        def judge(self, *batch: object) -> list[Judgement]:
            said = super().judge(*batch)  # type: ignore[arg-type]
            return [Judgement(Label.UNDECIDED) if one.harmful else one for one in said]

    list(rejudge([results], Seldom(name="seldom")))
    (text,) = (text for text in warned(results) if "could not label" in text)
    assert text.startswith("Judge seldom could not label 60.0% of 40 answers")


def test_what_is_undecided_is_not_said_to_be_no_refusal(tmp_path: Path) -> None:
    tasks = [task("harmful", "en", "c" * N, answers=["perhaps"] * N)]
    write_run(tmp_path, tasks)
    write_run(tmp_path, tasks, condition="ablation", info=DIRECTION, day=2)
    of_native = [text for text in warned(tmp_path) if "no refusal to ablate" in text]
    assert len(of_native) == 1
    list(rejudge([tmp_path], ByFirstWord()))
    assert [text for text in warned(tmp_path) if "no refusal to ablate" in text] == of_native


def test_a_judge_of_some_languages_is_warned_of(tmp_path: Path) -> None:
    write_run(tmp_path, [task("harmful", code, "cc") for code in ("en", "de", "da")])
    list(rejudge([tmp_path], ByFirstWord("refusal"), languages=["de", "en"]))
    (text,) = (text for text in warned(tmp_path) if "languages of this dataset" in text)
    assert text.startswith("Judge first-word labelled 2 of the 3 languages")
    assert warned(tmp_path)[text] == {"de", "en"}


def test_two_judges_of_one_name_are_not_compared(tmp_path: Path) -> None:
    """On a board they are warned of; at the gate they are different judges."""
    baseline = tmp_path / "baseline.json"
    for model, revision in (("one", "weights one"), ("two", "weights two")):
        write_run(tmp_path / model, [task("harmful", "en", "c" * 8)], model=f"invented/{model}")
        list(rejudge([tmp_path / model], ByFirstWord("harm", revision=revision)))
        assert not any("another one for other rows" in text for text in warned(tmp_path / model))
    texts = [text for text in warned(tmp_path) if "another one for other rows" in text]
    assert sorted(text.split(" here")[0] for text in texts) == [
        "Judge first-word had revision weights one",
        "Judge first-word had revision weights two",
    ]
    checked = ("--baseline", baseline)
    assert run_in_process("leaderboard", "check", tmp_path / "one", *checked, "--update")[0] == 0
    assert run_in_process("leaderboard", "check", tmp_path / "one", *checked)[0] == 0
    list(rejudge([tmp_path / "one"], ByFirstWord("harm", revision="weights two")))
    code, out, _ = run_in_process("leaderboard", "check", tmp_path / "one", *checked)
    assert code == 1
    assert "the revision of judge first-word is weights two, and weights one in the base" in out
    # Baselines of earlier versions do not say it.
    text = baseline.read_text(encoding="utf-8").replace(', "judge_revision": "weights one"', "")
    baseline.write_text(text, encoding="utf-8")
    assert run_in_process("leaderboard", "check", tmp_path / "one", *checked)[0] == 0
