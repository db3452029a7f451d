"""The folder of a study as `polyrefuse study run` leaves it, with invented results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.commands import run_in_process
from tests.leaderboard.result_files import DIRECTION, Task, task, transfer_report, write_run

MODEL = "/somebody/keeps/model-1"
"""Where the model lies, which nobody is to read in a card."""

VERSIONS = {"lm-eval-polyrefuse": "0.1.0", "torch": "2.13.0"}


def tasks(english: str, german: str, harmless: str) -> list[Task]:
    """Two harmful tasks and a harmless one."""
    return [
        task("harmful", "en", english),
        task("harmful", "de", german),
        task("harmless", "en", harmless),
    ]


def job(folder: Path, name: str, kind: str, **more: Any) -> dict[str, Any]:
    """An entry of summary.json; its folder is made."""
    place = f"jobs/{name.replace('/', '-')}.0123"
    (folder / place).mkdir(parents=True)
    return {
        "name": name,
        "kind": kind,
        "model": name.split("/")[0],
        "condition": "",
        "state": "finished",
        "folder": place,
        "command": f"lm_eval --model_args pretrained={MODEL} --output_path {place}/results",
        "rests_on": {"model": "contents:0123abcd"},
    } | more


def write_study(folder: Path, transfer: dict[str, Any] | None = None) -> Path:
    """A study of one model with two answered conditions, a failed job and one that was not begun.

    Returns:
        Its summary.json.
    """
    jobs: list[dict[str, Any]] = []

    def answers(called: str, day: int, asked: Sequence[Task], **more: Any) -> None:
        jobs.append(job(folder, f"chat/{called}", "answers", condition=called))
        results = folder / jobs[-1]["folder"] / "results"
        write_run(results, asked, model=MODEL, day=day, limit=len(asked[0].labels), **more)

    answers("baseline", 1, tasks("rrrc", "rrcc", "cccr"))
    answers(
        "half", 2, tasks("cccr", "cccc", "cccc"), condition="ablation",
        info=DIRECTION | {"coefficient": 0.5},
    )  # fmt: skip
    failed = {"state": "failed", "said": "first\nThe disk is full.", "condition": "mcd"}
    jobs.append(job(folder, "chat/mcd", "answers", **failed))
    waiting = {"state": "not begun", "because": "chat/mcd failed", "condition": ""}
    jobs.append(job(folder, "chat/mcd-judged-by-other", "judging", **waiting))
    if transfer is not None:
        jobs.append(job(folder, "chat/transfer", "transfer"))
        place = folder / jobs[-1]["folder"] / "transfer"
        place.mkdir()
        (place / "transfer.json").write_text(json.dumps(transfer))
    summary = folder / "summary.json"
    document = {"study": "invented", "versions": VERSIONS, "jobs": jobs}
    summary.write_text(json.dumps(document), encoding="utf-8")
    return summary


def build(folder: Path, *more: object) -> tuple[int, str, str]:
    """`polyrefuse leaderboard build` of a study's folder."""
    names = folder / "names.json"
    names.write_text(json.dumps({MODEL: "chat"}))
    usual = ("--output", folder / "site", "--model-names", names)
    return run_in_process("leaderboard", "build", folder / "jobs", *usual, *more)


def whole_study(folder: Path) -> Path:
    """A written study with its site.

    Returns:
        The card's HTML.
    """
    summary = write_study(folder, transfer_report())
    code, _, err = build(folder, "--study", summary)
    assert code == 0, err
    return folder / "site" / "cards" / "chat.html"
