"""`leaderboard/gate/reports.py`: names that would be markup, in each of its forms."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from polyrefuse_leaderboard.gate import comparison, reports
from polyrefuse_leaderboard.gate.baseline import Baseline, Score
from polyrefuse_leaderboard.gate.thresholds import ALPHA, TOLERANCE

N = 30


class TestMarkup:
    """Names that would be markup, were they not escaped."""

    DATASET = "a|b <b>&\x1b[31m[red]*x*"

    @pytest.fixture
    def outcome(self) -> comparison.Outcome:
        before = Score(
            dataset=self.DATASET,
            language="de",
            metric="asr",
            judge="native",
            generation="greedy",
            data_sha256={},
            n=N,
            hits=0,
            labels=None,
            beside={},
        )
        now = replace(before, hits=N)
        return comparison.Outcome(
            baseline=Baseline("<i>|m", "baseline", ("r",), {}, (before,)),
            model="<i>|m",
            condition="baseline",
            runs=("r",),
            alpha=ALPHA,
            tolerance=TOLERANCE,
            comparisons=comparison.compare([before], [now]),
            problems=("<u>\x00 is not JSON",),
            notes=("[red]",),
        )

    def test_junit(self, outcome: comparison.Outcome) -> None:
        case, problem = ElementTree.fromstring(reports.junit(outcome).encode())[0]
        name = self.DATASET.replace("\x1b", "\ufffd")
        assert case.get("classname") == f"polyrefuse.{name}.asr.native"
        assert case.find("failure") is not None
        assert "<u>\ufffd is not JSON" in (problem.findtext("failure") or "")

    def test_summary(self, outcome: comparison.Outcome) -> None:
        text = reports.summary(outcome)
        assert "<b>" not in text
        assert "<i>" not in text
        assert "<u>" not in text
        assert "a\\|b &lt;b&gt;&amp;" in text
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in rows}) == 1

    def test_terminal(
        self, outcome: comparison.Outcome, capsys: pytest.CaptureFixture[str]
    ) -> None:
        reports.show(outcome)
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert self.DATASET.replace("\x1b", "\ufffd") in out
