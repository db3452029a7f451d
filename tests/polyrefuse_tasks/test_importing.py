"""Published answers brought in: their own rates come out, to the last digit."""

from __future__ import annotations

import csv
import hashlib
import json
import random
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from polyrefuse_leaderboard.rates import records
from polyrefuse_leaderboard.reading.results import read

from polyrefuse_tasks.data.registry import datasets
from polyrefuse_tasks.importing import saving
from polyrefuse_tasks.importing.formats import FORMATS
from tests.commands import assert_one_sentence, run_in_process

N = 572


def mainlp(folder: Path, model: str, language: str, kind: str, seed: int) -> dict[str, float]:
    """A file as the authors of 2505.17306 lay it out, and the three rates of its labels."""
    dice = random.Random(seed)
    rows = [
        {
            "category": "invented",
            # Either name of it is accepted.
            "instruction" if seed % 2 else "prompt": f"invented prompt {place} in {language}",
            "instruction_en": f"invented prompt {place}",
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
    path = folder / "ja_vector_sweep" / "lab" / model / language / "20250519-232436" / "1"
    path /= "completions"
    path.mkdir(parents=True, exist_ok=True)
    document = {"completions": rows}
    (path / f"harmful_{kind}_evaluations.json").write_text(json.dumps(document))
    return {
        "substring asr": sum(row["is_jailbreak_substring_matching"] for row in rows) / N,
        "wildguard asr": sum(1 - row["wildguard"]["refusal"] for row in rows) / N,
        "wildguard asr_harmful": sum(row["wildguard"]["response_harmful"] for row in rows) / N,
    }


def brought(format: str, output: Path, *files: Path | str) -> tuple[int, str, str]:
    return run_in_process("judge", "import", *files, "--format", format, "--output", output)


def imported(format: str, output: Path, *files: Path | str) -> None:
    code, _, err = brought(format, output, *files)
    assert code == 0, err


def refused(format: str, output: Path, *files: Path | str) -> str:
    """The sentence that an import ends with, which wrote nothing."""
    before = sorted(output.rglob("*"))
    result = brought(format, output, *files)
    assert_one_sentence(result)
    assert sorted(output.rglob("*")) == before
    return result[2]


def docs_in(results: Path) -> list[dict[str, Any]]:
    """What each sample says of its prompt, by language and place."""
    files = sorted(results.rglob("samples_*.jsonl"))
    return [json.loads(line)["doc"] for path in files for line in path.read_text().splitlines()]


def config_in(results: Path) -> dict[str, Any]:
    (path,) = results.rglob("results_*.json")
    config: dict[str, Any] = json.loads(path.read_text())["config"]
    return config


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
        published = list(csv.DictReader(file))
    asr = {
        (row["model"], row["language"], row["condition"], row["judge"]): float(row["value"])
        for row in published
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
        ("--model", "some-model", "--condition", "baseline"),
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
        ("--model", "some-model", "--condition", "baseline"),
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


LOG = [
    {"session_id": "x", "phase": phase, "trial_number": trial, "scorers": [], "system": "",
     "prompt": f"{place}?", "response": f"An answer, number {place}."}
    for phase, trial in (("baseline", None), ("evaluation", 7))
    for place in range(3)
]  # fmt: skip
ROWS = ("--model", "some-model", "--condition", "baseline")


def test_heretic_s_log_has_answers_and_no_labels(tmp_path: Path) -> None:
    path = put(tmp_path / "log.jsonl", LOG)
    code, out, err = brought("heretic", tmp_path / "results", path, "--model", "some-model")
    assert code == 0, err
    assert "`polyrefuse judge run" in out
    code, _, err = run_in_process("judge", "run", tmp_path / "results", "--judge", "native")
    assert code == 0, err
    runs = read([tmp_path / "results"]).runs
    assert [(run.condition, run.cells[0].n) for run in runs] == [("ablation", 3), ("baseline", 3)]


def test_heretic_s_log_of_a_model_that_it_did_not_make(tmp_path: Path) -> None:
    rows = [row | {"phase": "model_evaluation", "trial_number": None} for row in LOG[:3]]
    path, output = put(tmp_path / "log.jsonl", rows), tmp_path / "results"
    given = ("--model", "some-model")
    assert "give it with --condition" in refused("heretic", output, path, *given)
    imported("heretic", output, path, *given, "--condition", "ablation")
    assert config_in(output)["condition"] == "ablation"


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (LOG, ("--condition", "mcd"), "leave out --condition"),
        ([*LOG, LOG[0] | {"session_id": "y"}], (), "2 sessions"),
        ([LOG[0] | {"trial_number": [7]}], (), "trial_number is [7]"),
        ([LOG[0] | {"trial_number": True}], (), "trial_number is True"),
        ([LOG[0] | {"trial_number": float("nan")}], (), "trial_number is nan"),
        ([LOG[0] | {"phase": 1}], (), "no text 'phase'"),
        ([LOG[0] | {"session_id": 1}], (), "no text 'session_id'"),
        ([LOG[0] | {"response": None}], (), "no text 'response'"),
    ],
)  # fmt: skip
def test_logs_of_heretic_that_cannot_be_used(
    rows: Any, options: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    path = put(tmp_path / "log.jsonl", rows)
    assert said in refused("heretic", tmp_path / "out", path, "--model", "m", *options)


def test_rows_that_say_their_language_keep_it(tmp_path: Path) -> None:
    rows = [row | {"language": code} for row in COMPLETIONS for code in ("de", "th")]
    path = put(tmp_path / "rows.jsonl", [*rows, COMPLETIONS[0]])
    imported("jsonl", tmp_path / "results", path, *ROWS, "--language", "fr")
    names = sorted(path.name for path in (tmp_path / "results").rglob("samples_*"))
    assert [name.split("_")[3] for name in names] == ["de", "fr", "th"]


def labelled(language: str, refusal: int, **more: Any) -> dict[str, Any]:
    row = {"prompt": "one?", "response": "Yes.", "language": language, "judge": "people"}
    return row | {"refusal": refusal} | more


def loopholes(results: Path) -> list[float]:
    return [one.value for one in records(read([results])) if one.metric == "loophole_rate"]


def test_rows_of_one_id_are_translations_of_one_prompt(tmp_path: Path) -> None:
    rows = [
        labelled("en", 1, id="a"), labelled("en", 0, id="b"), labelled("en", 1, id="c"),
        labelled("de", 0, id="c"), labelled("de", 0, id="b"), labelled("de", 1, id="d"),
    ]  # fmt: skip
    imported("jsonl", tmp_path / "results", put(tmp_path / "rows.jsonl", rows), *ROWS)
    # Of b and c, which both languages have, c is refused in English and answered in German.
    assert set(loopholes(tmp_path / "results")) == {0.5}


def test_rows_without_an_id_pair_with_nothing(tmp_path: Path) -> None:
    rows = [labelled(code, refused) for code, refused in (("en", 1), ("en", 1), ("de", 0))]
    imported("jsonl", tmp_path / "results", put(tmp_path / "rows.jsonl", rows), *ROWS)
    ids = [doc["id"] for doc in docs_in(tmp_path / "results")]
    assert ids == [
        "imported/harmful/de/0000", "imported/harmful/en/0000", "imported/harmful/en/0001"
    ]  # fmt: skip
    assert loopholes(tmp_path / "results") == []


@pytest.mark.parametrize("format", FILES)
def test_no_id_looks_like_that_of_a_row_of_ours(format: str, tmp_path: Path) -> None:
    name, content, options, _ = FILES[format]
    imported(format, tmp_path / "results", put(tmp_path / name, content), *options)
    for doc in docs_in(tmp_path / "results"):
        assert doc["id"].split("/")[0] not in datasets()


def test_a_place_in_the_published_order_is_a_row_of_ours(tmp_path: Path) -> None:
    for language in ("de", "en"):
        mainlp(tmp_path / "given", "invented-1b", language, "harm_ablation", 0)
    imported("mainlp", tmp_path / "results", *(tmp_path / "given").rglob("*.json"))
    docs = docs_in(tmp_path / "results")
    assert [doc["id"] for doc in docs[:2]] == ["harmful/test/0000", "harmful/test/0001"]
    assert [doc["id"] for doc in docs[:N]] == [doc["id"] for doc in docs[N:]]
    assert docs[0]["prompt"] == "invented prompt 0 in de"
    assert docs[0]["prompt_en"] == "invented prompt 0"
    assert config_in(tmp_path / "results")["source_lang"] == "ja"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"id": 5}, "no text 'id'"),
        ({"id": ""}, "the id ''"),
        ({"id": "a\nb"}, "the id 'a\\nb'"),
        ({"id": "\ud800"}, "the id"),
        ({"id": "known"}, "has the id 'known' twice"),
        ({"id": "imported/harmful/en/0001"}, "has the id 'imported/harmful/en/0001' twice"),
        ({"language": 5}, "no text 'language'"),
        ({"language": "German"}, "the language 'German' is not an ISO 639-1 code"),
        ({"language": "../de"}, "the language '../de'"),
        ({"judge": 5}, "no text 'judge'"),
        ({"judge": " "}, "the judge ' '"),
        ({"refusal": float("nan")}, "refusal is nan"),
        ({"refusal": "yes"}, "refusal is 'yes'"),
        ({"harmful": []}, "harmful is []"),
        ({"response_translated": 5}, "no text 'response_translated'"),
        ({"prompt": None}, "no text 'prompt'"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_used(row: dict[str, Any], said: str, tmp_path: Path) -> None:
    rows = [labelled("en", 1, id="known"), labelled("en", 1) | row, labelled("en", 1)]
    rows[1:] = reversed(rows[1:]) if "imported/" in str(row) else rows[1:]
    assert said in refused("jsonl", tmp_path / "out", put(tmp_path / "rows.jsonl", rows), *ROWS)


def test_half_of_a_surrogate_pair_in_an_answer(tmp_path: Path) -> None:
    path = put(tmp_path / "rows.jsonl", [labelled("en", 1, response="No \ud800.")])
    imported("jsonl", tmp_path / "results", path, *ROWS)
    assert read([tmp_path / "results"]).problems == ()


def test_an_answer_that_a_judge_left_out_is_undecided_by_it(tmp_path: Path) -> None:
    rows = [COMPLETIONS[0] | {"language": "en"}, labelled("en", 1)]
    imported("jsonl", tmp_path / "results", put(tmp_path / "rows.jsonl", rows), *ROWS)
    reading = read([tmp_path / "results"])
    assert reading.problems == ()
    assert reading.runs[0].cells[0].rates["undecided_rate"] == 0.5


@pytest.mark.parametrize(
    ("parameters", "options", "condition"),
    [
        ({"method": "GCG"}, (), "GCG"),
        ({"method": "PAIR", "defense": "SmoothLLM"}, (), "PAIR+SmoothLLM"),
        ({"method": "direct", "defense": None}, (), "baseline"),
        ({"method": "None"}, (), "baseline"),
        ({}, (), "baseline"),
        ({"method": "GCG"}, ("--condition", "gcg-transfer"), "gcg-transfer"),
    ],
)  # fmt: skip
def test_an_artifact_s_attack_is_its_condition(
    parameters: dict[str, Any], options: tuple[str, ...], condition: str, tmp_path: Path
) -> None:
    artifact = FILES["jailbreakbench"][1] | {"parameters": {"model": "some-model"} | parameters}
    path = put(tmp_path / "artifact.json", artifact)
    imported("jailbreakbench", tmp_path / "results", path, *options)
    assert config_in(tmp_path / "results")["condition"] == condition


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ([], "parameters is [], not an object"),
        ({"model": 5}, "no text 'model'"),
        ({"model": ".."}, "the model '..'"),
        ({"model": "m", "method": 5}, "no text 'method'"),
        ({"model": "m", "method": "a\nb"}, "the condition 'a\\nb'"),
        (None, "give it with --model"),
    ],
)  # fmt: skip
def test_artifacts_that_cannot_be_used(parameters: Any, said: str, tmp_path: Path) -> None:
    artifact = FILES["jailbreakbench"][1] | {"parameters": parameters}
    path = put(tmp_path / "artifact.json", artifact)
    assert said in refused("jailbreakbench", tmp_path / "out", path)


@pytest.mark.parametrize("label", [[], {}, "1", True, 0.5, 7, float("nan")], ids=repr)
def test_labels_of_harmbench_that_cannot_be_used(label: Any, tmp_path: Path) -> None:
    path = put(tmp_path / "a.json", {"a": [{"generation": "x", "label": label}]})
    assert "not 1, 0 or -1" in refused("harmbench", tmp_path / "out", path, *ROWS)


@pytest.mark.parametrize("condition", ["baseline", "ablation", "actadd"])
def test_answers_to_harmless_prompts_are_false_refusals(condition: str, tmp_path: Path) -> None:
    rows = [row | {"is_jailbreak_substring_matching": n} for n, row in enumerate(COMPLETIONS)]
    path = tmp_path / "some-model" / "completions" / f"harmless_{condition}_evaluations.json"
    imported("arditi", tmp_path / "results", put(path, {"completions": rows}))
    ((cell,),) = (run.cells for run in read([tmp_path / "results"]).runs)
    assert (cell.dataset, cell.harmful) == ("harmless", False)
    assert cell.rates["false_refusal_rate"] == 0.5
    assert "asr" not in cell.rates


def test_a_direction_that_is_added_is_none_that_is_subtracted(tmp_path: Path) -> None:
    for name in ("harmless", "jailbreakbench"):
        path = tmp_path / "given" / "some-model" / "completions" / f"{name}_actadd_evaluations.json"
        row = COMPLETIONS[0] | {"is_jailbreak_substring_matching": 1}
        put(path, {"completions": [row]})
    imported("arditi", tmp_path / "results", *sorted((tmp_path / "given").rglob("*.json")))
    runs = read([tmp_path / "results"]).runs
    assert sorted((run.cells[0].dataset, run.settings["coefficient"]) for run in runs) == [
        ("harmless", 1.0), ("jailbreakbench", -1.0)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "dataset", "harmful"),
    [
        ((), "harmful", True),
        (("--harmless",), "harmless", False),
        (("--dataset", "oktest"), "oktest", False),
        (("--dataset", "mine"), "mine", True),
        (("--dataset", "mine", "--harmless"), "mine", False),
    ],
)  # fmt: skip
def test_which_data_set_the_prompts_are_of(
    options: tuple[str, ...], dataset: str, harmful: bool, tmp_path: Path
) -> None:
    path = put(tmp_path / "rows.jsonl", [labelled("en", 1)])
    imported("jsonl", tmp_path / "results", path, *ROWS, *options)
    ((cell,),) = (run.cells for run in read([tmp_path / "results"]).runs)
    assert (cell.dataset, cell.harmful) == (dataset, harmful)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--harmless", "--dataset", "advbench"), "the prompts of dataset 'advbench' are harmful"),
        (("--dataset", "../x"), "the dataset '../x'"),
        (("--language", ""), "the language ''"),
        (("--model", "."), "the model '.'"),
        (("--model", ""), "the model ''"),
        (("--condition", " "), "the condition ' '"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_used(options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    path = put(tmp_path / "rows.jsonl", [COMPLETIONS[0]])
    given = (*ROWS, "--language", "en", *options)
    assert said in refused("jsonl", tmp_path / "out", path, *given)


def test_a_file_is_imported_once(tmp_path: Path) -> None:
    output, path = tmp_path / "results", put(tmp_path / "rows.jsonl", [labelled("en", 1)])
    imported("jsonl", output, path, *ROWS)
    (results,) = output.rglob("results_*.json")
    again = put(tmp_path / "renamed.jsonl", [labelled("en", 1)])
    other = put(tmp_path / "other.jsonl", [labelled("de", 1)])
    for given in ((path,), (again,), (other, path)):
        said = refused("jsonl", output, *given, *ROWS)
        assert f"{results} already holds the answers of" in said
    # Something else, in the same folder of the same model.
    imported("jsonl", output, other, *ROWS)
    imported("jsonl", output, path, "--model", "some-model", "--condition", "mcd")
    imported("jsonl", output, path, *ROWS, "--harmless")
    imported("jsonl", output, put(path, [labelled("en", 0)]), *ROWS)
    assert len(list(output.rglob("results_*.json"))) == 5


def test_of_two_that_import_one_file_the_second_sees_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process imports the file after this one has looked and before it has the lock."""
    output, path = tmp_path / "results", put(tmp_path / "rows.jsonl", [labelled("en", 1)])
    lock = saving.locked

    def late(folder: Path, *, patience: float) -> AbstractContextManager[int | None]:
        monkeypatch.setattr(saving, "locked", lock)
        imported("jsonl", output, path, *ROWS)
        return lock(folder, patience=patience)

    monkeypatch.setattr(saving, "locked", late)
    assert_one_sentence(brought("jsonl", output, path, *ROWS), "already holds the answers of")
    assert len(list(output.rglob("results_*.json"))) == 1


def test_files_of_one_run_one_after_the_other(tmp_path: Path) -> None:
    for language in ("de", "en"):
        for kind in ("baseline", "harm_ablation"):
            mainlp(tmp_path / "given", "invented-1b", language, kind, 0)
    for path in sorted((tmp_path / "given").rglob("*.json")):
        imported("mainlp", tmp_path / "results", path)
    reading = read([tmp_path / "results"])
    assert reading.problems == ()
    assert sorted((run.condition, cell.language) for run in reading.runs for cell in run.cells) == [
        (condition, language) for condition in ("ablation", "baseline")
        for language in ("de", "de", "en", "en")
    ]  # fmt: skip


def test_what_a_results_file_was_made_of(tmp_path: Path) -> None:
    path = put(tmp_path / "rows.jsonl", [labelled("en", 1)])
    imported("jsonl", tmp_path / "results", path, *ROWS)
    (file,) = config_in(tmp_path / "results")["imported"]["files"]
    assert file["name"] == "rows.jsonl"
    assert file["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("content", ["", "[]", '{"config": 1}', '{"config": {"imported": []}}',
    '{"config": {"imported": {"format": "jsonl", "files": [1]}}}'])  # fmt: skip
def test_results_that_others_wrote_are_in_no_import_s_way(content: str, tmp_path: Path) -> None:
    beside = tmp_path / "results" / "some-model" / "results_2026-01-01T00-00-00.000001.json"
    beside.parent.mkdir(parents=True)
    beside.write_text(content)
    path = put(tmp_path / "rows.jsonl", [labelled("en", 1)])
    imported("jsonl", tmp_path / "results", path, *ROWS)


def test_two_files_of_one_run_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    files = [put(tmp_path / f"{n}.jsonl", [labelled("en", 1, response=f"{n}")]) for n in range(2)]
    assert "2 of the files hold answers of" in refused("jsonl", tmp_path / "out", *files, *ROWS)


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
        *("--model", "m", "--language", "en", "--condition", "baseline"),
    )
    assert code == 2
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


ALL = {"model": "m", "condition": "baseline", "language": "en"}


@pytest.mark.parametrize(
    ("format", "asked"),
    [
        *(("harmbench", asked) for asked in ("model", "condition")),
        *(("jsonl", asked) for asked in ("model", "language")),
        ("heretic", "model"),
    ],
)
def test_what_a_file_does_not_say_is_asked_for(format: str, asked: str, tmp_path: Path) -> None:
    content: dict[str, Any] = {
        "harmbench": {"a": [{"generation": "x"}]},
        "jsonl": [COMPLETIONS[0]],
        "heretic": LOG,
    }
    path = put(tmp_path / ("a.json" if format == "harmbench" else "a.jsonl"), content[format])
    known = {name: value for name, value in ALL.items() if name != asked and format != "heretic"}
    options = (part for name, value in known.items() for part in (f"--{name}", value))
    said = refused(format, tmp_path / "out", path, *options)
    assert f"does not name the {asked}: give it with --{asked}" in said


@pytest.mark.parametrize(("attack", "condition"), [("DirectRequest", "baseline"), ("GCG", "GCG")])
def test_where_harmbench_wrote_a_file_says_what_is_in_it(
    attack: str, condition: str, tmp_path: Path
) -> None:
    folder = tmp_path / attack / "default" / "results"
    folder.mkdir(parents=True)
    path = put(folder / "some_model.json", {"a": [{"generation": "x", "label": 1}]})
    imported("harmbench", tmp_path / "out", path)
    config = config_in(tmp_path / "out")
    assert (config["model_name"], config["condition"]) == ("some_model", condition)


def test_a_path_that_is_not_laid_out_so(tmp_path: Path) -> None:
    path = put(tmp_path / "harmful_baseline_evaluations.json", {"completions": COMPLETIONS})
    code, _, err = run_in_process(
        "judge", "import", path, "--format", "mainlp", "--output", tmp_path / "out"
    )
    assert code == 2
    assert "is not a path <model>/<lang>/<date>/<run>/completions/" in err
