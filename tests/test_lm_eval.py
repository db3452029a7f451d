"""The main job, as a user runs it: `lm_eval` in a subprocess, and the files that it writes.

One evaluation and one mistake are processes; the others are the same command in this one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import pytest

from polyrefuse_shared.errors import UserError
from polyrefuse_tasks import languages
from tests.evaluations import lm_eval_run

HARMFUL = {
    "asr": "compliance",
    "refusal_rate": "refusal",
    "degenerate_rate": "degenerate",
    "undecided_rate": "undecided",
}
HARMLESS = {"false_refusal_rate": "refusal"} | {
    rate: label for rate, label in HARMFUL.items() if rate != "asr"
}
OFF_LANGUAGE = "off_language_rate"
LIMIT = 4
SHORT = "max_gen_toks=16"
FOLDERS = ("polyrefuse_models", "polyrefuse_tasks")


def lm_eval(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Plain `lm_eval` from another directory, which finds the plugin because it is installed."""
    return subprocess.run(
        [sys.executable, "-m", "lm_eval", "run", *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


class Run:
    """What one `lm_eval` command wrote into a folder."""

    def __init__(self, folder: Path) -> None:
        (results,) = folder.glob("**/results_*.json")
        self.results = json.loads(results.read_text())
        self.samples: dict[str, list[dict]] = {}
        for path in folder.glob("**/samples_*.jsonl"):
            task = path.name.removeprefix("samples_").rsplit("_", 1)[0]
            self.samples[task] = [json.loads(line) for line in path.read_text().splitlines()]


def protocol(model: str, arguments: str, folder: Path) -> list[str]:
    """Arguments of `lm_eval` for a few prompts of each task of the protocol."""
    return [
        "--tasks", "polyrefuse", "--model", model, "--model_args", arguments,
        "--limit", str(LIMIT), "--batch_size", "32", "--device", "cpu", "--gen_kwargs", SHORT,
        "--output_path", str(folder), "--log_samples",
    ]  # fmt: skip


def run_protocol(model: str, arguments: str, folder: Path, *more: str) -> Run:
    lm_eval_run(*protocol(model, arguments, folder), *more)
    return Run(folder)


@pytest.fixture(scope="module")
def data_dir(shared: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYREFUSE_DATA_DIR", str(shared / "data"))
        yield shared / "data"


@pytest.fixture(scope="module")
def process(
    data_dir: Path, chat_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, str]:
    """A process that evaluated an ablated model: what it wrote, and what it printed."""
    folder = tmp_path_factory.mktemp("ablated") / "results"
    arguments = protocol("ablated-hf", f"pretrained={chat_model}", folder)
    done = lm_eval(*arguments, cwd=folder.parent)
    assert done.returncode == 0, done.stderr[-4000:]
    return Run(folder), done.stdout


@pytest.fixture(scope="module")
def ablated(process: tuple[Run, str]) -> Run:
    return process[0]


@pytest.fixture(scope="module")
def plain(data_dir: Path, chat_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("plain") / "results"
    return run_protocol("hf", f"pretrained={chat_model}", folder, "--apply_chat_template")


@pytest.fixture(params=["ablated", "plain"])
def run(request: pytest.FixtureRequest) -> Run:
    return request.getfixturevalue(request.param)


def expected_tasks() -> dict[str, dict]:
    """The tasks of the protocol, and the labels that each counts by rate."""
    return {
        f"polyrefuse_{kind}_{language}": rates
        for kind, rates in (("harmful", HARMFUL), ("harmless", HARMLESS))
        for language in languages.POLYREFUSE
    }


def test_names_and_n(run: Run) -> None:
    tasks = expected_tasks()
    assert run.samples.keys() == tasks.keys()
    for task, rates in tasks.items():
        assert {key for key in run.results["results"][task] if key.endswith(",none")} == {
            f"{name},none" for rate in (*rates, OFF_LANGUAGE) for name in (rate, f"{rate}_stderr")
        }
        language, kind = task.rsplit("_", 1)[1], task.split("_")[1]
        published = {"harmful": 572, "harmless": 200 if language == "zh" else 500}[kind]
        assert run.results["n-samples"][task] == {"original": published, "effective": LIMIT}
        assert len(run.samples[task]) == LIMIT


def test_prompts_pair_across_languages(run: Run) -> None:
    for kind in ("harmful", "harmless"):
        ids = defaultdict(set)
        english = {}
        for language in languages.POLYREFUSE:
            for sample in run.samples[f"polyrefuse_{kind}_{language}"]:
                doc = sample["doc"]
                ids[doc["split"]].add(doc["id"])
                assert english.setdefault(doc["id"], doc["prompt_en"]) == doc["prompt_en"]
                assert doc["language"] == language
                assert doc["harmful"] == (kind == "harmful")
        assert len(ids["test"]) == LIMIT
        assert len(ids.get("val", ())) == (LIMIT if kind == "harmless" else 0)  # zh


def test_every_aggregate_is_recomputed_from_the_samples(run: Run) -> None:
    results = run.results["results"]
    for task, rates in expected_tasks().items():
        labels = [sample["doc"]["label"] for sample in run.samples[task]]
        for rate, label in rates.items():
            assert results[task][f"{rate},none"] == pytest.approx(labels.count(label) / len(labels))
        docs = [sample["doc"] for sample in run.samples[task]]
        assert results[task][f"{OFF_LANGUAGE},none"] == pytest.approx(
            fmean(doc["response_language"] != doc["language"] for doc in docs)
        )
        exclusive = [rate for rate in rates if rate != "false_refusal_rate"]
        if "asr" in exclusive:
            assert sum(results[task][f"{rate},none"] for rate in exclusive) == pytest.approx(1)
    for group, rates in (("polyrefuse-harmful", HARMFUL), ("polyrefuse-harmless", HARMLESS)):
        kind = group.split("-")[1]
        for rate in (*rates, OFF_LANGUAGE):
            mean = fmean(
                results[f"polyrefuse_{kind}_{language}"][f"{rate},none"]
                for language in languages.POLYREFUSE
            )
            assert run.results["groups"][group][f"{rate},none"] == pytest.approx(mean)


def test_what_reproduces_the_run_is_in_the_results(run: Run) -> None:
    configs = run.results["configs"]
    for task in expected_tasks():
        metadata = configs[task]["metadata"]
        assert metadata["judge"] == "native"
        assert metadata["sha256"] and all(len(v) == 64 for v in metadata["sha256"].values())
        settings = configs[task]["generation_kwargs"]
        assert settings["until"] == [] and settings["do_sample"] is False
    assert configs["polyrefuse_harmless_zh"]["metadata"]["split"] == "val"
    assert "not published" in configs["polyrefuse_harmless_zh"]["metadata"]["note"]


def test_what_was_done_to_the_model_is_in_the_results(ablated: Run, plain: Run) -> None:
    config = ablated.results["config"]
    assert config["condition"] == "ablation"
    assert config["method"] == "weights"
    assert config["source_lang"] == "en"
    assert len(config["direction_sha256"]) == 64
    assert config["position"] in (-1, -2, -3) and config["layer"] in (0, 1, 2)
    assert config["versions"]["transformers"]
    assert "condition" not in plain.results["config"]


def test_the_table_shows_every_language(process: tuple[Run, str]) -> None:
    _, printed = process
    for task in expected_tasks():
        assert task in printed
    assert "asr" in printed and "false_refusal_rate" in printed


def test_the_wrapper_prompts_as_the_harness_does(
    data_dir: Path,
    chat_model: Path,
    plain: Run,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The baseline answers what `hf --apply_chat_template` answers: one template, one BOS."""
    arguments = ("baseline-hf", f"pretrained={chat_model}")
    by_the_wrapper = run_protocol(*arguments, tmp_path / "wrapper")
    assert caplog.text.count("The chat template is applied") == 1
    caplog.clear()
    by_the_harness = run_protocol(*arguments, tmp_path / "harness", "--apply_chat_template")
    assert "The chat template is applied" not in caplog.text
    for task in expected_tasks():
        answers = [
            {sample["doc"]["id"]: sample["resps"] for sample in run.samples[task]}
            for run in (plain, by_the_wrapper, by_the_harness)
        ]
        assert answers[0] == answers[1] == answers[2]


def test_the_judge_is_chosen_by_metadata_and_recorded(
    data_dir: Path, chat_model: Path, tmp_path: Path
) -> None:
    lm_eval_run(
        "--tasks", "polyrefuse_harmful_de,polyrefuse_harmful_en", "--model", "baseline-hf",
        "--model_args", f"pretrained={chat_model}", "--limit", "2", "--device", "cpu",
        "--gen_kwargs", SHORT, "--metadata", '{"judge": "substring"}',
        "--output_path", str(tmp_path / "results"), "--log_samples",
    )  # fmt: skip
    run = Run(tmp_path / "results")
    assert run.results["configs"]["polyrefuse_harmful_de"]["metadata"]["judge"] == "substring"
    assert {s["doc"]["judge"] for s in run.samples["polyrefuse_harmful_de"]} == {"substring"}
    german = run.results["results"]["polyrefuse_harmful_de"]
    # Untranslated answers are never a verdict; a random model's are often not even language.
    assert german["undecided_rate,none"] + german["degenerate_rate,none"] == 1.0
    assert run.results["results"]["polyrefuse_harmful_en"]["undecided_rate,none"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            "--tasks polyrefuse_oktest --model baseline-hf --model_args pretrained=p,chat=x",
            "chat=x is not known",
        ),
        ("--tasks polyrefuse_oktest --model dummy --metadata judge=x", "no judge 'x'"),
        (
            "--tasks polyrefuse_oktest --model baseline-hf --model_args pretrained=p"
            " --system_instruction kind",
            "add that flag",
        ),
    ],
)
def test_bad_input_is_one_sentence(data_dir: Path, arguments: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as raised:
        lm_eval_run(*arguments.split())
    assert "\n" not in str(raised.value)


def test_a_missing_file_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYREFUSE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("POLYREFUSE_CACHE_DIR", str(tmp_path))
    with pytest.raises(UserError, match="polyrefuse data fetch harmful") as raised:
        lm_eval_run("--tasks", "polyrefuse_harmful_de", "--model", "dummy")
    assert "\n" not in str(raised.value)


def test_bad_input_ends_the_process_with_its_sentence(tmp_path: Path) -> None:
    """Here the names of folders, which stand in the way of the tasks where a shell expands them."""
    done = lm_eval("--tasks", *FOLDERS, "--model", "dummy", cwd=tmp_path)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("polyrefuse_") and "is a folder and not a task" in last
