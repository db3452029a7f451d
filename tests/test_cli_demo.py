"""`polyrefuse demo`: real results of lm_eval, and what is said of them is what they say."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest
from polyrefuse_leaderboard.records import MEAN, Record, from_json
from polyrefuse_studies import demo

from benchmarks import result_picture
from polyrefuse_models import bundled
from polyrefuse_models.mcd import artifact
from tests.commands import assert_one_sentence, run_in_process
from tests.evaluations import evaluate
from tests.terminals import open_terminal, printed

LANGUAGES, LIMIT = ("en", "yo"), 4
FIRST, WEAK = bundled.ORGANISM, bundled.WEAKENED


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """The folder, the printed document and standard error of a demonstration of a few prompts."""
    folder = tmp_path_factory.mktemp("demo") / "new"
    few = partial(demo.demonstrate, languages=LANGUAGES, limit=LIMIT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "demonstrate", few)
        code, out, err = run_in_process("demo", "--output", folder, "--json")
    assert code == 0, err
    return folder, json.loads(out), err


def labels(folder: Path) -> dict[tuple[str, str, str], list[list[float]]]:
    """Model, condition and metric -> for each language, what lm_eval logged of each answer."""
    found = defaultdict(list)
    for file in sorted(folder.glob("results/*/results_*.json")):
        config = json.loads(file.read_text())["config"]
        date = file.stem.removeprefix("results_")
        for samples in sorted(file.parent.glob(f"samples_*_{date}.jsonl")):
            rows = [json.loads(line) for line in samples.read_text().splitlines()]
            metric = "asr" if "_harmful_" in samples.name else "false_refusal_rate"
            key = config["model_name"], config["condition"], metric
            found[key].append([float(row[metric]) for row in rows])
    return found


def test_rates_are_those_of_the_samples(small: tuple[Path, dict[str, Any], str]) -> None:
    folder, document, _ = small
    logged = labels(folder)
    assert len(logged) == 2 * len(demo.measurements())
    told = {
        (rate["model"], rate["condition"], rate["metric"]): rate
        for rate in document["rates"]
        if rate["metric"] in ("asr", "false_refusal_rate")
    }
    assert told.keys() == logged.keys()
    for key, languages in logged.items():
        assert [len(values) for values in languages] == [LIMIT] * len(LANGUAGES)
        assert told[key]["value"] == pytest.approx(fmean(map(fmean, languages)))
        assert told[key]["n"] == LIMIT * len(LANGUAGES)
        assert told[key]["low"] <= told[key]["value"] <= told[key]["high"]
    assert fmean(map(fmean, logged[FIRST, "baseline", "asr"])) == 0
    assert fmean(map(fmean, logged[FIRST, "ablation", "asr"])) == 1
    assert fmean(map(fmean, logged[FIRST, "addition", "false_refusal_rate"])) == 1
    weak = [fmean(map(fmean, logged[WEAK, name, "asr"])) for name in ("baseline", "mcd")]
    assert weak[0] > weak[1]


def test_answers_are_those_of_lm_eval(small: tuple[Path, dict[str, Any], str]) -> None:
    (file,) = (
        path
        for path in small[0].glob("results/*/results_*.json")
        if json.loads(path.read_text())["config"]["condition"] == "mcd"
    )
    config = json.loads(file.read_text())["config"]
    assert config["model"] == "mcd-hf"
    task = "toyrefuse_harmful_yo"
    again = evaluate(config["model"], [task], model_args=config["model_args"], limit=LIMIT)
    date = file.stem.removeprefix("results_")
    kept = (file.parent / f"samples_{task}_{date}.jsonl").read_text().splitlines()
    assert [json.loads(line)["resps"] for line in kept] == [
        sample["resps"] for sample in again["samples"][task]
    ]


def test_the_page_and_the_gate_are_made_of_the_results(
    small: tuple[Path, dict[str, Any], str], tmp_path: Path
) -> None:
    folder, document, _ = small
    assert Path(document["page"]).is_file()
    assert not (folder / "site" / "samples.jsonl").exists()
    code, _, err = run_in_process(
        "leaderboard", "build", folder / "results", "--output", tmp_path / "site"
    )
    assert code == 0, err
    ours, anew = (
        json.loads((place / "leaderboard.json").read_text())
        for place in (folder / "site", tmp_path / "site")
    )
    assert ours["records"] == anew["records"]
    code, out, _ = run_in_process(
        *("leaderboard", "check", folder / "results", "--baseline", folder / "baseline.json"),
        *("--model", FIRST, "--condition", "ablation", "--json"),
    )
    comparisons = json.loads(out)["comparisons"]
    failed = sum(bool(one["failures"]) for one in comparisons)
    assert document["gate"] == {
        "passed": code == 0, "comparisons": len(comparisons), "failed": failed
    }  # fmt: skip
    assert document["gate"]["comparisons"] == 2 * len(LANGUAGES)


def test_it_is_quiet_where_there_is_no_terminal(small: tuple[Path, dict[str, Any], str]) -> None:
    folder, document, err = small
    assert err == ""
    assert json.loads((folder / "demo.json").read_text()) == {
        name: value for name, value in document.items() if name not in ("output", "page")
    }
    assert (folder / "log.txt").read_text()


def test_the_picture_is_of_the_leaderboard(
    small: tuple[Path, dict[str, Any], str], tmp_path: Path
) -> None:
    records = from_json((small[0] / "site/leaderboard.json").read_text())
    rates = {(each.model, each.condition, each.metric, each.language): each for each in records}
    drawn = result_picture.picture(records, "#000000", "#ffffff")
    for panel, axes in zip(result_picture.PANELS, drawn.get_axes(), strict=True):
        points = sorted(
            line.get_xdata()[0] for line in axes.lines if line.get_marker() not in ("None", None)
        )
        assert points == sorted(
            100 * rates[panel.model, condition, panel.metric, language].value
            for condition in panel.conditions
            for language in LANGUAGES
        )
    names = [tick.get_text() for tick in drawn.get_axes()[0].get_yticklabels()]
    assert names == ["Yoruba", "English"]
    result_picture.main(small[0], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "result-dark.png", "result-dark.svg", "result.png", "result.svg"
    ]  # fmt: skip


def record(model: str, condition: str, metric: str, value: float) -> Record:
    return Record(
        model=model, revision="", condition=condition, intervention="", generation="",
        dataset="d", language=MEAN, judge="native", metric=metric, value=value, n=10,
        low=value - 0.01, high=value + 0.01, run="",
    )  # fmt: skip


def test_the_sentences_say_what_the_records_say() -> None:
    rates = {
        (FIRST, "baseline", "asr"): 0.11,
        (FIRST, "ablation", "asr"): 0.22,
        (FIRST, "baseline", "false_refusal_rate"): 0.33,
        (FIRST, "addition", "false_refusal_rate"): 0.44,
        (WEAK, "baseline", "asr"): 0.55,
        (WEAK, "system-prompt", "asr"): 0.66,
        (WEAK, "mcd", "asr"): 0.77,
        (WEAK, "mcd", "false_refusal_rate"): 0.88,
    }
    means = [record(*key, value) for key, value in rates.items()]
    outcome: Any = SimpleNamespace(failed=("one",), comparisons=("one", "other"))
    ablation, addition, repair = demo.seen(means, outcome, ("en", "yo"), 5)
    assert re.findall(r"([\d.]+)% \[([\d.]+), ([\d.]+)\]", f"{ablation} {addition} {repair}") == [
        (f"{n}{n}.0", f"{n}{n - 1}.0", f"{n}{n + 1}.0") for n in range(1, 9)
    ]
    assert "finds 1 of 2 rates worse" in ablation
    for sentence in (ablation, addition, repair):
        assert "mean of 2 languages, n = 5 prompts in each" in sentence
    with pytest.raises(ValueError, match="unpack"):
        demo.seen([*means, replace(means[0])], outcome, ("en",), 5)


def test_the_soft_prompt_that_ships_is_the_weakened_organism_s() -> None:
    prompt = artifact.load(bundled.soft_prompt())
    assert prompt.metadata["model"] == WEAK
    assert prompt.metadata["settings"]["init"] == demo.IN_WORDS
    assert prompt.metadata["dataset"] == "toyrefuse"
    # What was not trained on is repaired as well, which the rates above show in Yoruba.
    assert prompt.metadata["languages"] == ["en", "de"]


def test_a_folder_that_exists_is_refused(tmp_path: Path) -> None:
    assert_one_sentence(run_in_process("demo", "--output", tmp_path), str(tmp_path), "exists")


def test_what_is_interrupted_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_measure", interrupted)
    before = os.fstat(2)
    code, out, err = run_in_process("demo", "--output", tmp_path / "new")
    assert (code, out, err) == (130, "", "polyrefuse: interrupted.\n")
    assert list(tmp_path.iterdir()) == []
    assert os.path.samestat(before, os.fstat(2)), "standard error is what it was"


@pytest.mark.slow
def test_the_whole_in_a_terminal(tmp_path: Path) -> None:
    ours, theirs = open_terminal()
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    environment = {k: v for k, v in os.environ.items() if k != "TQDM_DISABLE"}
    with subprocess.Popen(
        [sys.executable, "-m", "polyrefuse", "demo"],
        cwd=tmp_path,
        env=environment | {"POLYREFUSE_CACHE_DIR": str(tmp_path / "cache")},
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    ) as process:
        os.close(theirs)
        drawn = "".join(iter(partial(printed, ours), ""))
        assert process.stdout is not None
        out = process.stdout.read()
    assert process.returncode == 0, drawn
    lines = out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "Ablation", "Addition", "Repair", "The page"
    ]  # fmt: skip
    assert lines[-1].endswith("polyrefuse-demo/site/index.html")
    assert (tmp_path / "polyrefuse-demo/site/index.html").is_file()
    document = json.loads((tmp_path / "polyrefuse-demo/demo.json").read_text())
    n = demo.LIMIT * len(document["languages"])
    assert f"{6 * 2 * n}/{6 * 2 * n}" in drawn, "the bar counts every answer"
    assert "Loading weights" not in drawn and "WARNING" not in drawn
    assert document["gate"] == {"passed": False, "comparisons": 28, "failed": 14}
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 150
