"""Several processes that measure one model together: what one would have measured, and no more."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.utils import DistributedType
from lm_eval.api.instance import Instance
from safetensors.torch import save_file

from polyrefuse_models.directions import prompts
from polyrefuse_models.mcd import artifact as soft_prompts
from polyrefuse_models.mcd.artifact import Prompt
from polyrefuse_models.wrappers.ranks import (
    ALONE,
    Ranks,
    disagreement,
    in_order,
    own_number,
    ranks_of,
)
from polyrefuse_models.wrappers.run_notes import RunNotes
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.log import logger
from tests.conftest import ROOT
from tests.evaluations import lm_eval_run
from tests.ranked import FEW

TASKS = "toyrefuse_harmful_de,toyrefuse_harmless_yo"
LIMIT = 11  # Odd, so that one of two processes has a prompt less of each task.


def arguments(output: Path, *more: str, **of_model: object) -> list[str]:
    of_model = {"pretrained": "polyrefuse-organism"} | of_model
    return [
        "--tasks", TASKS, "--limit", str(LIMIT), "--batch_size", "8", "--log_samples",
        "--model_args", ",".join(f"{name}={value}" for name, value in of_model.items()),
        "--output_path", str(output), *more,
    ]  # fmt: skip


def launched(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command on two processes, as `accelerate launch` starts them."""
    return subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
        + ["--main_process_port", "0", *command],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=500,
    )


def written(folder: Path) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Results, without what no two runs share, and samples."""
    (file,) = folder.glob("**/results_*.json")
    results = json.loads(file.read_text())
    for name in ("date", "start_time", "end_time", "total_evaluation_time_seconds", "git_hash"):
        results.pop(name, None)
    samples = {
        path.name.rsplit("_", 1)[0]: [json.loads(line) for line in path.read_text().splitlines()]
        for path in folder.glob("**/samples_*.jsonl")
    }
    return results, samples


class Together:
    """What two processes wrote and raised, case by case."""

    def __init__(self, folder: Path, cases: dict[str, list[str]]) -> None:
        self.folder = folder
        (folder / "cases.json").write_text(json.dumps(cases))
        self.done = launched("-m", "tests.ranked", str(folder), cwd=folder)

    def outcomes(self, case: str) -> list[dict[str, Any]]:
        files = [self.folder / f"{case}-{rank}.json" for rank in range(2)]
        assert all(file.is_file() for file in files), self.done.stderr[-3000:]
        return [json.loads(file.read_text()) for file in files]


ADDED = ("--model", "refusal-added-hf", "--gen_kwargs", "max_gen_toks=8")


def too_much(folder: Path) -> dict[str, object]:
    """An addition after which every answer is the same."""
    return {"direction": folder / "host0" / "d.safetensors", "layer": 1, "coefficient": 1000}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Together:
    folder = tmp_path_factory.mktemp("together")
    for rank in range(2):  # What fits the model on the first machine alone.
        host, d = folder / f"host{rank}", 128 - rank
        host.mkdir()
        save_file({"direction": torch.ones(d)}, host / "e.safetensors")
        soft_prompts.save(Prompt(torch.ones(2, d), {"languages": ["en"]}), host / "p", {})
    for rank in range(2):  # A file of one name with other numbers on the second machine.
        vector = torch.zeros(128).index_fill(0, torch.tensor([rank]), 1.0)
        save_file({"direction": vector}, folder / f"host{rank}" / "d.safetensors")
    (folder / "unwritable.cache").write_text("a file, in which no folder can be made")
    ablated = ("--model", "ablated-hf")
    few = ("--limit", "2")
    return Together(
        folder,
        {
            "same": arguments(folder / "same", *ablated),
            "warned": arguments(folder / "warned", *ADDED, **too_much(folder)),
            "unwritable": arguments(folder / "unwritable", *ablated, *few),
            "failing": arguments(
                folder / "failing",
                *ablated,
                *few,
                rule="2406.11717",
                direction_seed=1,
                refusal_tokens="a",
            ),  # fmt: skip
            "differing": arguments(folder / "differing", *ablated, *few, direction="d.safetensors"),
            "unfit": arguments(folder / "unfit", *ablated, *few, direction="e.safetensors"),
            "early": arguments(folder / "early", *ablated, *few, prompt="p"),
        },
    )


def test_two_processes_measure_what_one_does(
    together: Together, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert together.outcomes("same") == [
        {"raised": None, "extracted": 1},
        {"raised": None, "extracted": 0},
    ]
    monkeypatch.setenv("POLYREFUSE_CACHE_DIR", str(together.folder / "same.cache"))
    monkeypatch.setattr(prompts, "SIZES", FEW)
    lm_eval_run(*arguments(tmp_path, "--model", "ablated-hf"))
    results, samples = written(tmp_path)
    assert [len(rows) for rows in samples.values()] == [LIMIT, LIMIT]
    assert written(together.folder / "same") == (results, samples)


def test_every_rank_s_warnings_are_in_the_results(together: Together, tmp_path: Path) -> None:
    lm_eval_run(*arguments(tmp_path, *ADDED, **too_much(together.folder)))
    results, samples = written(tmp_path)
    warnings = results["config"]["warnings"]
    assert any(f"of the {LIMIT} answers" in sentence for sentence in warnings)
    assert written(together.folder / "warned") == (results, samples)


def test_a_direction_reaches_the_others_without_a_disk(together: Together) -> None:
    outcomes = together.outcomes("unwritable")
    assert outcomes == [{"raised": None, "extracted": 1}, {"raised": None, "extracted": 0}]
    assert (together.folder / "unwritable.cache").is_file()


def test_where_the_extraction_fails_no_process_waits_on(together: Together) -> None:
    one, other = together.outcomes("failing")
    assert one["raised"].startswith("NoDirection: ")
    assert other["raised"] == one["raised"].replace("NoDirection", "UserError")
    assert (one["extracted"], other["extracted"]) == (1, 0)


@pytest.mark.parametrize(("case", "extracted"), [("unfit", 0), ("early", 1)])
def test_where_one_rank_fails_alone_no_process_waits_on(
    together: Together, case: str, extracted: int
) -> None:
    """The second one, while its direction is fitted, and before the first has extracted one."""
    one, other = together.outcomes(case)
    kind, sentence = other["raised"].split(": ", 1)
    assert kind in ("BadDirection", "BadPrompt") and "127" in sentence
    assert one["raised"] == f"UserError: {sentence}"
    assert (one["extracted"], other["extracted"]) == (extracted, 0)


def test_ranks_that_disagree_on_a_direction_are_refused(together: Together) -> None:
    one, other = (outcome["raised"] for outcome in together.outcomes("differing"))
    assert one == other
    assert one.startswith(
        "Disagreement: The processes would not measure the same model: direction_sha256 "
    )
    assert "… on rank 0, " in one and "… on rank 1" in one
    assert not list((together.folder / "differing").glob("**/*.json"))


def test_a_log_line_is_written_by_one_process(together: Together) -> None:
    together.outcomes("differing")
    applying = "The chat template is applied to generate_until requests"
    # Of the three evaluations that ask the model anything.
    assert together.done.stderr.count(applying) == 3


@pytest.mark.slow
def test_the_command_of_the_documentation(tmp_path: Path) -> None:
    """`accelerate launch -m lm_eval`, with response caches: a file for each process."""
    shared_arguments = ("--model", "ablated-hf")
    lm_eval_run(*arguments(tmp_path / "one", *shared_arguments))
    use_cache = ("--use_cache", str(tmp_path / "responses"))
    for name in ("two", "again"):
        done = launched(
            "-m", "lm_eval", "run",
            *arguments(tmp_path / name, *shared_arguments, *use_cache), cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        results, samples = written(tmp_path / name)
        assert results["config"].pop("use_cache")
        expected, expected_samples = written(tmp_path / "one")
        assert not expected["config"].pop("use_cache")
        assert samples == expected_samples
        assert results["results"] == expected["results"]
    assert len(list(tmp_path.glob("responses_rank*.db"))) == 2


@pytest.mark.slow
def test_a_task_with_fewer_prompts_than_processes(tmp_path: Path) -> None:
    done = launched(
        "-m", "lm_eval", "run", *arguments(tmp_path, "--model", "baseline-hf", "--limit", "1"),
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode != 0
    assert "task.build_requests() did not find any docs!" in done.stderr
    assert not list(tmp_path.glob("**/results_*.json"))


def test_a_command_of_ours_uses_one_process(tmp_path: Path) -> None:
    done = launched("-m", "polyrefuse", "organism", "path", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1 and Path(done.stdout.strip()).is_dir()
    assert done.stderr.count("polyrefuse: this command uses one process, so 1 of the 2 ") == 1


# --- what the processes exchange


@pytest.mark.parametrize(("n", "count"), [(1, 2), (7, 2), (8, 2), (8, 3), (9, 8), (3, 8)])
def test_what_was_dealt_out_comes_back_in_order(n: int, count: int) -> None:
    def sample(place: int, name: str) -> dict[str, Any]:
        return {"doc_id": place, "filter": name}

    samples = {"t": [sample(place, name) for name in "ba" for place in range(n)]}
    values = {"t": {("asr", name): list(range(n)) for name in "ba"}}
    dealt_samples = [
        {"t": [sample(place, name) for name in "ba" for place in range(rank, n, count)]}
        for rank in range(count)
    ]
    dealt_values = [
        {"t": {("asr", name): list(range(rank, n, count)) for name in "ba"}}
        for rank in range(count)
    ]
    assert in_order(dealt_samples) == samples
    assert in_order(dealt_values) == values


def test_ranks_with_the_same_model_agree() -> None:
    identity = {"condition": "ablation", "generation_settings": {"num_beams": 1}}
    assert disagreement([identity] * 3) is None
    ALONE.agree(lambda: identity)


def test_a_disagreement_names_ranks_and_checksums() -> None:
    a, b = "a" * 64, "b" * 64
    identities = [{"direction_sha256": a}, {"direction_sha256": b}, {"direction_sha256": a}]
    sentence = disagreement([each | {"layer": 3} for each in identities])
    assert sentence == (
        "The processes would not measure the same model: direction_sha256 is aaaaaaaaaaaa… on "
        "ranks 0, 2, bbbbbbbbbbbb… on rank 1. Give each of them the same files."
    )


def test_a_disagreement_within_a_setting_or_on_its_being_there() -> None:
    sentence = disagreement([{"settings": {"beams": 1}}, {"settings": {"beams": 2}}])
    assert sentence is not None and "settings.beams is 1 on rank 0, 2 on rank 1" in sentence
    sentence = disagreement([{"peft": None}, {"peft": "x"}])
    assert sentence is not None and "peft is None on rank 0, x on rank 1" in sentence


def test_weights_that_nothing_proves_are_not_compared() -> None:
    identities = [{"weights": f"files:{rank}", "dtype": "float32"} for rank in "ab"]
    assert disagreement(identities) is None
    assert disagreement([identities[0], {"weights": "checksum:a", "dtype": "float32"}]) is None
    sentence = disagreement([identities[0], identities[1] | {"dtype": "bfloat16"}])
    assert sentence is not None and "weights" not in sentence
    proved = [{"weights": f"checksum:{rank}", "weights_of": 1} for rank in "ab"]
    assert "weights is checksum:a on rank 0" in (disagreement(proved) or "")


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED", "MEGATRON_LM"])
def test_a_model_that_is_split_among_processes_is_refused(kind: str) -> None:
    accelerator = SimpleNamespace(
        distributed_type=DistributedType(kind), process_index=1, num_processes=2
    )
    with pytest.raises(UserError, match=f"split the model among its processes .{kind}., but each"):
        ranks_of(accelerator)
    accelerator.distributed_type = DistributedType.MULTI_GPU
    assert ranks_of(accelerator) == Ranks(1, 2)
    assert ranks_of(None) == ALONE


def test_no_rank_waits_for_another_s_numbers() -> None:
    assert own_number(torch.tensor(5), Ranks(1, 3)).tolist() == [5, 5, 5]
    assert own_number(torch.tensor([5]), Ranks(1, 3)).tolist() == [5, 5, 5]


def test_a_single_process_makes_and_raises_for_itself() -> None:
    assert ALONE.first(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        ALONE.first(lambda: 1 // 0)


def request(place: int) -> Instance:
    doc = {"language": "en", "id": place}
    return Instance("generate_until", doc, (f"{place}?", {}), 0, ("t", place, 1))


def test_answers_of_all_ranks_are_looked_at_together() -> None:
    """Five on each of two ranks are too few to warn of, ten are not; and each is sent once."""
    ranks = [RunNotes(), RunNotes()]
    for rank, notes in enumerate(ranks):
        notes.keep([request(place) for place in range(rank, 10, 2)], ["Sure: one text."] * 5)
        notes.warn(f"Only of rank {rank}.")
        notes.note_settings([{"max_gen_toks": rank}, {"do_sample": False}])
    sent = [notes.taken() for notes in ranks]
    ranks[0].take(sent)
    assert ranks[0].warnings[:2] == ["Only of rank 0.", "Only of rank 1."]
    assert "10 of the 10 answers" in ranks[0].warnings[2]
    assert ranks[0].settings == [{"max_gen_toks": 0}, {"do_sample": False}, {"max_gen_toks": 1}]
    ranks[0].take([notes.taken() for notes in ranks])
    assert len(ranks[0].warnings) == 3


@pytest.mark.parametrize(
    ("environment", "logged"),
    [
        ({}, True),
        ({"RANK": "1"}, True),  # Of nobody's launcher.
        ({"RANK": "0", "WORLD_SIZE": "2"}, True),
        ({"RANK": "1", "WORLD_SIZE": "2"}, False),
    ],
)
def test_who_logs(
    environment: dict[str, str],
    logged: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with caplog.at_level(logging.WARNING, logger=logger.name):
        logger.warning("Something.")
    assert (caplog.messages == ["Something."]) is logged
