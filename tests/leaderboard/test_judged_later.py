"""Labels that a judge gave later: in tables, on the page and at the gate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from polyrefuse_leaderboard import model_rows, rates
from polyrefuse_leaderboard.reading.results import read

from polyrefuse_tasks.judges import Judgement
from polyrefuse_tasks.rejudging import rejudge
from tests.commands import run_in_process
from tests.leaderboard.result_files import task, write_run
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
        harmful = {judge: record.value for judge, record in row.harmful.items()}
        assert harmful == {"by-length": 0.4, "first-word": 0.4}
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
    assert "| harmful answers |" in markdown
    assert "first-word 40.0 (26.3 to 55.4, n = 40)" in markdown
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
