"""What the report of a study asks the leaderboard for."""

from __future__ import annotations

from typing import Any

from polyrefuse_studies.report import shown_tasks


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
