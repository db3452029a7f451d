"""What `polyrefuse study plan` says of prompts, tokens and time, as a user sees it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from polyrefuse_studies.forecast import forecast
from polyrefuse_studies.forecast.survey import survey
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from polyrefuse_models import bundled
from polyrefuse_tasks import data
from tests.commands import run_in_process
from tests.small_study import write


def planned(*arguments: object) -> tuple[dict[str, Any], str]:
    code, out, err = run_in_process("study", "plan", *arguments, "--json")
    assert code == 0, err
    return json.loads(out), err


def unloadable(folder: Path) -> Path:
    """A model whose files are all there and whose weights do not fit its configuration."""
    shutil.copytree(bundled.path(), folder)
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    save_file(
        {name: tensor[..., :-1].contiguous() for name, tensor in tensors.items()},
        weights,
        {"format": "pt"},
    )
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYREFUSE_CACHE_DIR", str(tmp_path / "cache"))


def test_a_probe_estimates_and_is_kept(tmp_path: Path) -> None:
    file = write(tmp_path, limit=3, batch_size=4)
    document, told = planned(file)
    assert "probing the model" in told
    (job,), rates = document["jobs"], document["probes"]["toy"]
    tokenizer = AutoTokenizer.from_pretrained(bundled.path())
    prompts = [row.prompt for row in data.load("toyrefuse_harmful", "en")[:3]]
    read = sum(
        len(
            tokenizer(
                tokenizer.apply_chat_template(
                    [{"role": "user", "content": prompt}],
                    add_generation_prompt=True,
                    tokenize=False,
                ),
                add_special_tokens=False,
            ).input_ids
        )
        for prompt in prompts
    )
    assert (job["prompts"], job["prompt_tokens"]) == (3, read)
    assert job["generated_tokens_at_most"] == 3 * 512
    assert (job["not_known"], job["no_estimate"]) == (None, None)
    assert rates["rows"] == 4 and rates["device"].startswith("cpu")
    assert 0 < rates["longest"] < 64  # the organism's answers end early
    begun = rates["imports"] + rates["loading"]
    assert begun < job["seconds"] < job["seconds_at_most"]
    # One batch of 4, to the limit or to the length of the probe's longest.
    more = (512 - rates["longest"]) * 4 / rates["generated"]
    assert job["seconds_at_most"] - job["seconds"] == pytest.approx(more)
    total = document["total"]
    assert total["seconds"] == total["longest_chain"] == total["with_slots"] == job["seconds"]
    again, told = planned(file)
    assert "probing" not in told
    assert again["probes"] == document["probes"]
    assert again["total"] == total


def test_what_cannot_be_known_is_null_with_a_reason_and_not_in_the_sums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, Any] = {}

    def once(jobs: Any, *arguments: Any) -> Any:
        name = jobs[0].job.model
        if name not in found:
            found[name] = survey(jobs, *arguments)
        return found[name]

    monkeypatch.setattr(forecast, "survey", once)
    broken = unloadable(tmp_path / "broken")
    models = {"toy": "polyrefuse-organism", "broken": str(broken)}
    file = write(tmp_path, limit=3, models=models, judges=["substring", "wildguard"])
    arguments = (file, "--no-probe")
    document, _ = planned(*arguments)
    jobs = {job["name"]: job for job in document["jobs"]}
    assert jobs["broken/baseline"]["prompts"] == 3
    judged = jobs["toy/baseline-judged-by-wildguard"]
    assert judged["prompts"] is None and "is a model" in judged["not_known"]
    assert jobs["toy/baseline-judged-by-substring"]["judged_answers"] == 3
    assert {job["seconds"] for job in jobs.values()} == {None}
    assert jobs["toy/baseline"]["no_estimate"] == "no probe was asked for"
    total = document["total"]
    # Two models, each with its answers and the substring judge's.
    assert total["prompts"] == 2 * (3 + 3) and total["seconds"] is None
    assert len(total["not_known"]) == 2 and len(total["without_estimate"]) == 6
    code, out, _ = run_in_process("study", "plan", *arguments)
    assert code == 0
    assert "3 prompts, " in out and "no estimate: no probe was asked for" in out
    left_out = "not known, and left out of the numbers: "
    (names,) = [line.removeprefix(left_out) for line in out.splitlines() if left_out in line]
    assert names.split(", ") == total["not_known"]


def test_a_model_that_cannot_be_probed_fails_no_plan(tmp_path: Path) -> None:
    broken = unloadable(tmp_path / "broken")
    document, _ = planned(write(tmp_path, models={"broken": str(broken)}, datasets="toyrefuse"))
    (job,) = document["jobs"]
    assert job["prompts"] == 4 and job["seconds"] is None
    assert job["no_estimate"] == document["probes"]["broken"]
    assert "mismatched" in job["no_estimate"] or "size mismatch" in job["no_estimate"]
    assert not list((tmp_path / "cache").rglob("*.json"))
