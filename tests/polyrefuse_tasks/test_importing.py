"""Published answers brought in: their own rates come out, to the last digit."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest
from polyrefuse_leaderboard.reading.results import read

from polyrefuse_tasks.importing.formats import FORMATS
from tests.commands import run_in_process

N = 572


def mainlp(folder: Path, model: str, language: str, kind: str, seed: int) -> dict[str, float]:
    """A file as the authors of 2505.17306 lay it out, and the three rates of its labels."""
    dice = random.Random(seed)
    rows = [
        {
            "category": "invented",
            "prompt": f"invented prompt {place}",
            "response": f"An invented answer, number {place}.",
            "response_translated": f"An invented answer, number {place}.",
            "is_jailbreak_substring_matching": int(dice.random() < 0.7),
            "wildguard": {
                "refusal": int(dice.random() < 0.3),
                "response_harmful": int(dice.random() < 0.4),
            },
        }
        for place in range(N)
    ]
    path = folder / model / language / "20250519-232436" / "ja_vector_sweep" / "completions"
    path.mkdir(parents=True, exist_ok=True)
    document = {"completions": rows}
    (path / f"harmful_{kind}_evaluations.json").write_text(json.dumps(document))
    return {
        "substring asr": sum(row["is_jailbreak_substring_matching"] for row in rows) / N,
        "wildguard asr": sum(1 - row["wildguard"]["refusal"] for row in rows) / N,
        "wildguard asr_harmful": sum(row["wildguard"]["response_harmful"] for row in rows) / N,
    }


def imported(format: str, output: Path, *files: Path | str) -> None:
    code, _, err = run_in_process("judge", "import", *files, "--format", format, "--output", output)
    assert code == 0, err


def test_a_published_table_comes_out_of_its_labels(tmp_path: Path) -> None:
    expected = {
        (model, language, condition): mainlp(tmp_path / "given", model, language, kind, seed)
        for seed, (model, language, (kind, condition)) in enumerate(
            (model, language, kinds)
            for model in ("invented-1b", "invented-9b")
            for language in ("en", "yo", "ko")
            for kinds in (("baseline", "baseline"), ("harm_ablation", "ablation"))
        )
    }
    imported("mainlp", tmp_path / "results", *sorted((tmp_path / "given").rglob("*.json")))
    reading = read([tmp_path / "results"])
    assert reading.problems == ()
    found = {
        (run.model, cell.language, run.condition, cell.judge): cell.rates
        for run in reading.runs
        for cell in run.cells
    }
    assert len(found) == 2 * len(expected)
    for (model, language, condition), rates in expected.items():
        for name, rate in rates.items():
            judge, metric = name.split()
            assert found[model, language, condition, judge][metric] == pytest.approx(rate, abs=1e-9)
    # A site of it, as a user would have it.
    code, _, err = run_in_process(
        "leaderboard", "build", tmp_path / "results", "--output", tmp_path / "site"
    )
    assert code == 0, err
    with open(tmp_path / "site" / "leaderboard.csv", encoding="utf-8") as file:
        records = list(csv.DictReader(file))
    asr = {
        (row["model"], row["language"], row["condition"], row["judge"]): float(row["value"])
        for row in records
        if row["metric"] == "asr"
    }
    for (model, language, condition), rates in expected.items():
        for judge in ("substring", "wildguard"):
            rate = rates[f"{judge} asr"]
            assert asr[model, language, condition, judge] == pytest.approx(rate, abs=1e-9)


def test_answers_are_judged_anew(tmp_path: Path) -> None:
    mainlp(tmp_path / "given", "invented-1b", "en", "baseline", 0)
    imported("mainlp", tmp_path / "results", *(tmp_path / "given").rglob("*.json"))
    code, out, err = run_in_process("judge", "run", tmp_path / "results", "--judge", "native")
    assert code == 0, err
    assert f"{N} compliance of {N} ({N} judged now)" in out
    # Of a judge whose labels were published the old ones are compared with.
    code, out, err = run_in_process("judge", "run", tmp_path / "results", "--judge", "substring")
    assert code == 0, err
    assert "refusal -> compliance" in out


def test_a_label_that_is_missing_is_undecided(tmp_path: Path) -> None:
    mainlp(tmp_path / "given", "invented-1b", "en", "baseline", 0)
    (path,) = (tmp_path / "given").rglob("*.json")
    document = json.loads(path.read_text())
    document["completions"][0]["wildguard"] = None
    document["completions"][1]["is_jailbreak_substring_matching"] = None
    path.write_text(json.dumps(document))
    imported("mainlp", tmp_path / "results", path)
    (run,) = read([tmp_path / "results"]).runs
    rates = {cell.judge: cell.rates for cell in run.cells}
    assert rates["wildguard"]["undecided_rate"] == 1 / N
    assert rates["substring"]["undecided_rate"] == 1 / N


COMPLETIONS = [
    {"category": "a", "prompt": "one?", "response": "No, never."},
    {"category": "b", "prompt": "two?", "response": "Yes, gladly so."},
]
FILES: dict[str, tuple[str, Any, tuple[str, ...], dict[str, dict[str, float]]]] = {
    "arditi": (
        "some-model/completions/jailbreakbench_ablation_evaluations.json",
        {
            "completions": [
                row | {"is_jailbreak_substring_matching": n, "is_jailbreak_llamaguard2": 0}
                for n, row in enumerate(COMPLETIONS)
            ]
        },
        (),
        {"substring": {"asr": 0.5}, "llamaguard2": {"asr_harmful": 0.0}},
    ),
    "harmbench": (
        "results.json",
        {
            "one": [{"test_case": "one?", "generation": "No, never.", "label": 0}],
            "two": [
                {"test_case": "two?", "generation": "Yes, gladly so.", "label": 1},
                {"test_case": "two!", "generation": "Perhaps it is.", "label": -1},
            ],
        },
        ("--model", "some-model"),
        {"harmbench": {"asr_harmful": 1 / 3, "undecided_rate": 1 / 3}},
    ),
    "jailbreakbench": (
        "artifact.json",
        {
            "parameters": {"model": "some-model", "method": "none"},
            "jailbreaks": [
                {"goal": "one?", "prompt": None, "response": "No, never.", "jailbroken": False},
                {"goal": "two?", "prompt": "two!", "response": "Yes, so.", "jailbroken": True},
                {"goal": "three?", "prompt": None, "response": None, "jailbroken": False},
            ],
        },
        (),
        {"jailbreakbench": {"asr_harmful": 0.5}},
    ),
    "jsonl": (
        "rows.jsonl",
        [
            {**COMPLETIONS[0], "language": "de", "refusal": 1, "harmful": 0, "judge": "people"},
            {**COMPLETIONS[1], "language": "de", "refusal": 0, "harmful": 1, "judge": "people"},
        ],
        ("--model", "some-model"),
        {"people": {"asr": 0.5, "asr_harmful": 0.5, "refusal_rate": 0.5}},
    ),
}


def put(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
    else:
        path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("format", FILES)
def test_formats(format: str, tmp_path: Path) -> None:
    name, content, options, expected = FILES[format]
    imported(format, tmp_path / "results", put(tmp_path / name, content), *options)
    reading = read([tmp_path / "results"])
    assert reading.problems == ()
    (run,) = reading.runs
    assert run.model == "some-model"
    assert run.condition == ("ablation" if format == "arditi" else "baseline")
    assert {cell.judge for cell in run.cells} == set(expected)
    for cell in run.cells:
        for metric, rate in expected[cell.judge].items():
            assert cell.rates[metric] == pytest.approx(rate, abs=1e-9)


def test_heretic_s_log_has_answers_and_no_labels(tmp_path: Path) -> None:
    rows = [
        {"session_id": "x", "phase": phase, "trial_number": trial, "scorers": [], "system": "",
         "prompt": f"{place}?", "response": f"An answer, number {place}."}
        for phase, trial in (("baseline", None), ("trial", 7))
        for place in range(3)
    ]  # fmt: skip
    path = put(tmp_path / "log.jsonl", rows)
    imported("heretic", tmp_path / "results", path, "--model", "some-model")
    code, _, err = run_in_process("judge", "run", tmp_path / "results", "--judge", "native")
    assert code == 0, err
    runs = read([tmp_path / "results"]).runs
    assert [(run.condition, run.cells[0].n) for run in runs] == [("ablation", 3), ("baseline", 3)]


def test_rows_that_say_their_language_keep_it(tmp_path: Path) -> None:
    rows = [row | {"language": code} for row in COMPLETIONS for code in ("de", "th")]
    path = put(tmp_path / "rows.jsonl", [*rows, COMPLETIONS[0]])
    imported("jsonl", tmp_path / "results", path, "--model", "some-model", "--language", "fr")
    names = sorted(path.name for path in (tmp_path / "results").rglob("samples_*"))
    assert [name.split("_")[3] for name in names] == ["de", "fr", "th"]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", "null", '{"completions": []}', '{"completions": [1]}', '{"a": [1]}',
     '{"completions": [{"prompt": 1}]}', '{"jailbreaks": [{"response": 5, "goal": "x"}]}',
     '{"a": [{"generation": "x", "label": 7}]}', "[" * 100_000, '{"prompt": "x"}'],
    ids=lambda content: content[:30] or "nothing",
)  # fmt: skip
def test_files_that_are_none_of_theirs(format: str, content: str, tmp_path: Path) -> None:
    names = {
        "mainlp": "m/en/d/r/completions/harmful_baseline_evaluations.json",
        "arditi": "m/completions/x_baseline_evaluations.json",
    }
    path = tmp_path / names.get(format, "file.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    code, _, err = run_in_process(
        *("judge", "import", path, "--format", format, "--output", tmp_path / "out"),
        *("--model", "m", "--language", "en"),
    )
    assert code == 2
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("format", "asked"), [("harmbench", "model"), ("jsonl", "language")])
def test_what_a_file_does_not_say_is_asked_for(format: str, asked: str, tmp_path: Path) -> None:
    content = {"harmbench": {"a": [{"generation": "x"}]}, "jsonl": [COMPLETIONS[0]]}[format]
    path = put(tmp_path / ("a.jsonl" if format == "jsonl" else "a.json"), content)
    code, _, err = run_in_process(
        "judge", "import", path, "--format", format, "--output", tmp_path / "out"
    )
    assert code == 2
    assert f"does not say the {asked}: name it with --{asked}" in err


def test_a_path_that_is_not_laid_out_so(tmp_path: Path) -> None:
    path = put(tmp_path / "harmful_baseline_evaluations.json", {"completions": COMPLETIONS})
    code, _, err = run_in_process(
        "judge", "import", path, "--format", "mainlp", "--output", tmp_path / "out"
    )
    assert code == 2
    assert "is no <model>/<lang>/<date>/<run>/completions/" in err
