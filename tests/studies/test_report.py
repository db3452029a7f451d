"""What the report of a study asks the leaderboard for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from polyrefuse_studies.folder import StudyFolder
from polyrefuse_studies.report import assemble, shown_tasks


def test_tasks_are_called_as_their_results_call_them() -> None:
    """Groups without a value stand for their tasks, groups with one for all below them."""
    value: dict[str, Any] = {"alias": "x", "acc,none": 0.5, "acc_stderr,none": 0.1}
    empty: dict[str, Any] = {"alias": "x", " ": " ", "acc_stderr,none": 0.2, "acc,none": "N/A"}
    document = {
        "results": {
            "mmlu": value,
            "mmlu_stem": value,
            "mmlu_physics": value,
            "bundle": empty,
            "sums": value,
            "my-own-task": value,
            "nothing": empty,
        },
        "group_subtasks": {
            "mmlu": ["mmlu_stem"],
            "mmlu_stem": ["mmlu_physics"],
            "bundle": ["sums"],
            "sums": [],
        },
    }
    assert shown_tasks(document) == ["mmlu", "sums", "my-own-task"]
    assert shown_tasks({"results": {}}) == []


def test_older_results_that_cannot_be_removed_are_in_no_report_s_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk of another machine keeps a file that a process there is reading."""
    (tmp_path / "results/m-a.1").mkdir(parents=True)
    (tmp_path / "results/m-a.1/results_1.json").write_text("of another study")
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    assert assemble(StudyFolder(tmp_path), []) == tmp_path / "results"
    assert not list((tmp_path / "results").iterdir())
