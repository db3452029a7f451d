"""What the leaderboard calls the models of a study."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from polyrefuse_studies.jobs import Job, place
from polyrefuse_studies.names import report_names
from polyrefuse_studies.schema import read

from tests.commands import run_in_process
from tests.leaderboard.result_files import task, write_run


def test_a_condition_with_weights_of_its_own_has_a_name_of_its_own(tmp_path: Path) -> None:
    """Two models that are called the same would be refused, and the study have no leaderboard."""
    file = tmp_path / "study.yaml"
    tuned = {"like": "baseline", "pretrained": "invented/chat-tuned"}
    conditions = {"baseline": None, "tuned": tuned, "half": {"like": "baseline", "dtype": "half"}}
    document = {
        "study": "names", "models": {"chat": "invented/chat"}, "datasets": "harmful",
        "languages": "de", "conditions": conditions,
    }  # fmt: skip
    file.write_text(yaml.safe_dump(document))
    jobs = place(
        [Job(f"chat/{one}", "answers", "chat", (one,), condition=one) for one in conditions]
    )
    names = report_names(read(file), jobs, tmp_path)
    results = [f"results/{Path(one.folder).name}" for one in jobs]
    assert [names[folder] for folder in results] == [
        {"invented/chat": "chat"}, {"invented/chat-tuned": "chat (tuned)"},
        {"invented/chat": "chat"},
    ]  # fmt: skip
    for number, (folder, model) in enumerate(zip(results, ("chat", "chat-tuned"), strict=False), 1):
        write_run(
            tmp_path / folder, [task("harmful", "de", "rrc")], model=f"invented/{model}", day=number
        )
    (tmp_path / "names.json").write_text(
        json.dumps({str(tmp_path / name): given for name, given in names.items() if "/" in name})
    )
    code, _, err = run_in_process(
        "leaderboard", "build", tmp_path / "results", "--output", tmp_path / "site",
        "--model-names", tmp_path / "names.json",
    )  # fmt: skip
    assert code == 0, err
    board = json.loads((tmp_path / "site" / "leaderboard.json").read_text())
    assert {record["model"] for record in board["records"]} == {"chat", "chat (tuned)"}
