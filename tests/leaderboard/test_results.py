"""`leaderboard/reading/`: who a run is of, its samples, its duplicates; and sixty damaged files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from polyrefuse_leaderboard.reading.results import NoResults, read
from polyrefuse_leaderboard.reading.runs import Cell, Reading, Run

from tests.leaderboard.result_files import (
    DIRECTION,
    PROMPT,
    Task,
    api,
    plain_hf,
    task,
    vllm,
    write_run,
)

ENGLISH = task("harmful", "en", "rrcdu")
GERMAN = task("harmful", "de", "ccrcc", off_language=[1])


def _read(*folders: Path, include_samples: bool = False) -> Reading:
    reading = read(folders, include_samples=include_samples)
    assert reading.problems == ()
    return reading


def _only(reading: Reading) -> Run:
    (run,) = reading.runs
    return run


def _cell(run: Run, dataset: str, language: str) -> Cell:
    (cell,) = (c for c in run.cells if (c.dataset, c.language) == (dataset, language))
    return cell


def called(file: Path, root: Path) -> str:
    """What a file below the folder that was named is called, without where that folder is."""
    return f"{root.name}/{file.relative_to(root)}"


# What is read.


def test_a_run_of_ours(tmp_path: Path) -> None:
    path = write_run(tmp_path, [ENGLISH, GERMAN, task("harmless", "en", "crc")])
    run = _only(_read(tmp_path))
    assert run.file == called(path, tmp_path)
    assert run.run == "invented__model-1/2026-01-01T00-00-00.000001"
    assert (run.model, run.revision) == ("invented/model-1", "main")
    assert (run.condition, run.intervention) == ("baseline", "")
    assert run.date == 1767225600.5
    assert run.settings["versions"]["torch"] == "2.13.0"
    assert run.settings["torch_seed"] == 1234
    cell = _cell(run, "harmful", "de")
    assert (cell.judge, cell.n, cell.harmful) == ("native", 5, True)
    assert cell.rates == {
        "asr": 0.8,
        "refusal_rate": 0.2,
        "degenerate_rate": 0.0,
        "undecided_rate": 0.0,
        "off_language_rate": 0.2,
    }
    assert list(cell.data_sha256) == ["harmful/de.json"]
    assert _cell(run, "harmless", "en").harmful is False
    assert _cell(run, "harmless", "en").rates["false_refusal_rate"] == pytest.approx(1 / 3)


def test_labels_make_each_prompt_s_values(tmp_path: Path) -> None:
    write_run(tmp_path, [ENGLISH])
    responses = _cell(_only(_read(tmp_path)), "harmful", "en").responses
    assert responses is not None
    assert [response.id for response in responses] == [f"harmful/test/000{i}" for i in range(5)]
    names = ["refusal_rate", "refusal_rate", "asr", "degenerate_rate", "undecided_rate"]
    for response, name in zip(responses, names, strict=True):
        assert {metric for metric, value in response.values.items() if value} == {name}
        assert response.text is None


def test_values_come_from_the_labels_and_not_from_the_sample_s_own_rates(tmp_path: Path) -> None:
    path = write_run(tmp_path, [ENGLISH])
    samples = path.with_name(path.name.replace("results", f"samples_{ENGLISH.name}") + "l")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    samples.write_text("".join(json.dumps(line | {"asr": 1.0}) + "\n" for line in lines))
    responses = _cell(_only(_read(tmp_path)), "harmful", "en").responses
    assert responses is not None and sum(r.values["asr"] for r in responses) == 1


def test_sampled_answers(tmp_path: Path) -> None:
    write_run(tmp_path, [task("advbench", "en", ["rrcr", "rrrr", "cdcc"], sampled=True)])
    cell = _cell(_only(_read(tmp_path)), "advbench", "en")
    assert cell.rates["asr_any"] == pytest.approx(2 / 3)
    assert cell.rates["asr_mean"] == pytest.approx((1 / 4 + 3 / 4) / 3)
    assert cell.responses is not None
    assert [r.values["asr_any"] for r in cell.responses] == [1, 0, 1]
    assert [r.values["asr_mean"] for r in cell.responses] == [0.25, 0, 0.75]


def test_text_is_kept_only_where_asked_for(tmp_path: Path) -> None:
    write_run(tmp_path, [ENGLISH, task("advbench", "en", ["rc"], sampled=True)])
    without = str(_only(_read(tmp_path)))
    assert "answer 0" not in without and "invented prompt" not in without
    run = _only(_read(tmp_path, include_samples=True))
    greedy, sampled = _cell(run, "harmful", "en"), _cell(run, "advbench", "en")
    assert greedy.responses is not None and sampled.responses is not None
    assert greedy.responses[3].text == "answer 0 to invented prompt 3"
    assert sampled.responses[0].text == (
        "answer 0 to invented prompt 0\n\nanswer 1 to invented prompt 0"
    )


def test_without_samples_the_rates_are_the_file_s(tmp_path: Path) -> None:
    write_run(tmp_path, [ENGLISH], samples=False)
    cell = _cell(_only(_read(tmp_path)), "harmful", "en")
    assert cell.responses is None
    assert (cell.rates["asr"], cell.n) == (0.2, 5)


def test_samples_without_the_language_of_answers(tmp_path: Path) -> None:
    """Results of a version that did not identify languages."""
    path = write_run(tmp_path, [ENGLISH])
    _edit(path, lambda document: document["results"][ENGLISH.name].pop("off_language_rate,none"))
    _edit_samples(path, lambda line: line["doc"].pop("response_language"))
    assert "off_language_rate" not in _cell(_only(_read(tmp_path)), "harmful", "en").rates


def test_sampled_answers_without_their_languages(tmp_path: Path) -> None:
    path = write_run(tmp_path, [task("advbench", "en", ["rc", "rr"], sampled=True)])
    _edit(
        path, lambda document: document["results"]["mcd_advbench_en"].pop("off_language_rate,none")
    )

    def forget(line: dict[str, Any]) -> None:
        for answer in line["doc"]["kept"]:
            del answer["response_language"]

    _edit_samples(path, forget)
    rates = _cell(_only(_read(tmp_path)), "advbench", "en").rates
    assert (rates["asr_any"], rates["asr_mean"]) == (0.5, 0.25)
    assert "off_language_rate" not in rates


def test_lines_of_other_filters_are_skipped(tmp_path: Path) -> None:
    path = write_run(tmp_path, [ENGLISH])
    samples = _samples_of(path)
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    again = [line | {"filter": "strict"} for line in lines]
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines + again))
    assert _cell(_only(_read(tmp_path)), "harmful", "en").n == 5


def test_english_only_tasks_have_their_language(tmp_path: Path) -> None:
    write_run(tmp_path, [task("xstest_safe", "en", "cr"), task("xstest_unsafe", "en", "cr")])
    run = _only(_read(tmp_path))
    assert [(c.dataset, c.language, c.harmful) for c in run.cells] == [
        ("xstest_safe", "en", False),
        ("xstest_unsafe", "en", True),
    ]


def test_tasks_of_others_and_groups_are_left_out_silently(tmp_path: Path) -> None:
    path = write_run(tmp_path, [ENGLISH])

    def add(document: dict[str, Any]) -> None:
        document["results"]["mmlu"] = {"acc,none": float("nan"), "sample_len": 3}
        document["configs"]["mmlu"] = {"task": "mmlu", "dataset_kwargs": {"trust": True}}
        document["results"]["mcd_protocol"] = {"asr_any,none": 0.5}
        document["groups"]["mcd_protocol"] = document["results"]["mcd_protocol"]
        document["results"]["polyrefuse_own"] = {"asr,none": 0.5}
        document["group_subtasks"]["polyrefuse_own"] = [ENGLISH.name]

    _edit(path, add)
    reading = _read(tmp_path)
    assert [cell.dataset for cell in _only(reading).cells] == ["harmful"]
    assert reading.notes == ()


def test_a_file_of_other_tasks_alone_is_a_note(tmp_path: Path) -> None:
    write_run(tmp_path / "ours", [ENGLISH])
    path = write_run(tmp_path / "other", [ENGLISH], day=2, samples=False)

    def rename(document: dict[str, Any]) -> None:
        document["configs"] = {"mmlu": {"task": "mmlu"}}
        document["results"] = {"mmlu": {"acc,none": 0.5}}

    _edit(path, rename)
    reading = _read(tmp_path)
    assert len(reading.runs) == 1
    (note,) = reading.notes
    assert called(path, tmp_path) in note


# Who it is of.


@pytest.mark.parametrize(
    ("config", "model", "revision"),
    [
        (plain_hf("a/model"), "a/model", "main"),
        (plain_hf("a/model", revision="v2") | {"model_revision": "v2"}, "a/model", "v2"),
        (plain_hf("a/model", load_in_4bit=True), "a/model", "main load_in_4bit=True"),
        (plain_hf("a/model", load_in_4bit=False, dtype="auto"), "a/model", "main"),
        (plain_hf("a/model", peft="a/lora"), "a/model", "main peft=a/lora"),
        (vllm("a/model", revision="v2", quantization="awq"), "a/model", "v2 quantization=awq"),
        (api("gpt-invented"), "gpt-invented", ""),
        ({"model": "hf", "model_args": "pretrained=a/b,dtype=float16"}, "a/b", "dtype=float16"),
    ],
)  # fmt: skip
def test_models_of_lm_eval_s_own(
    tmp_path: Path, config: dict[str, Any], model: str, revision: str
) -> None:
    write_run(tmp_path, [ENGLISH], config=config)
    run = _only(_read(tmp_path))
    assert (run.model, run.revision) == (model, revision)
    assert (run.condition, run.intervention) == ("baseline", "")


def test_a_model_object_from_python_has_its_own_name(tmp_path: Path) -> None:
    config = {"model": "a/model", "model_args": None}
    write_run(tmp_path, [ENGLISH], config=config, model="qdpv68r5", top={"model_source": "CUSTOM"})
    assert _only(_read(tmp_path)).model == "a/model"


def test_an_adapter_of_a_model_object_of_ours_is_part_of_the_revision(tmp_path: Path) -> None:
    info = {"model_args": None, "peft": "a/lora"}
    write_run(tmp_path, [ENGLISH])
    write_run(tmp_path, [ENGLISH], info=info, day=2)
    assert [run.revision for run in _read(tmp_path).runs] == ["main", "main peft=a/lora"]


def test_a_system_instruction_is_a_condition(tmp_path: Path) -> None:
    top = {"system_instruction": "Be kind.", "system_instruction_sha": "12" * 32}
    other = {"system_instruction": "Be brief.", "system_instruction_sha": "34" * 32}
    write_run(tmp_path, [ENGLISH], config=vllm("a/model"), top=top)
    write_run(tmp_path, [ENGLISH], config=vllm("a/model"), top=other, day=2)
    write_run(tmp_path, [ENGLISH], condition="ablation", info=DIRECTION, top=top, day=3)
    runs = _read(tmp_path).runs
    assert [run.condition for run in runs] == ["system-prompt"] * 2 + ["ablation+system-prompt"]
    assert len({run.intervention for run in runs}) == 3
    assert "" not in {run.intervention for run in runs}


def test_an_intervention_is_known_by_what_was_done(tmp_path: Path) -> None:
    done: dict[str, dict[str, Any]] = {
        "as it is": DIRECTION,
        "again": DIRECTION | {"direction_warnings": ["x"], "direction_seed": 1},
        "layer": DIRECTION | {"layer": 3},
        "layers": DIRECTION | {"layers": "1-2"},
        "direction": DIRECTION | {"direction_sha256": "ef" * 32},
        "prompt": PROMPT,
        "moved": PROMPT | {"prompt": "/elsewhere", "prompt_overlap": None},
        "both": DIRECTION | PROMPT,
        "own system text": DIRECTION | {"system": "template", "system_text": "Hi"},
        "system file": DIRECTION | {"system": "file", "system_sha256": "12" * 32},
        "another file": DIRECTION | {"system": "file", "system_sha256": "34" * 32},
    }
    found = {}
    for name, info in done.items():
        write_run(tmp_path / name, [ENGLISH], condition="ablation", info=info)
        found[name] = _only(_read(tmp_path / name)).intervention
    assert found["as it is"] == found["again"] == found["own system text"]
    assert found["prompt"] == found["moved"]
    assert len(set(found.values())) == 8
    assert all(len(checksum) == 16 and int(checksum, 16) for checksum in found.values())


def test_anchors_overlap_is_read(tmp_path: Path) -> None:
    write_run(tmp_path, [ENGLISH], condition="mcd", info=PROMPT)
    assert _only(_read(tmp_path)).anchors_overlap == {
        "multijail": ["multijail/0003", "multijail/0007"],
        "advbench": [],
    }


def test_generation_settings_are_those_in_force(tmp_path: Path) -> None:
    chat = {"chat_template": "{{ messages }}", "chat_template_sha": "ab" * 32}
    longer = task("harmful", "en", "rrcdu", generation={"max_gen_toks": 1024})

    def generation(
        name: str,
        one: Task = ENGLISH,
        entry: Callable[[Path], Any] = lambda path: None,
        **options: Any,
    ) -> str:
        entry(write_run(tmp_path / name, [one], **options))
        return _cell(_only(_read(tmp_path / name)), "harmful", "en").generation

    ours = generation("ours")
    # The same settings are the same, whatever the model and the text of its template.
    assert generation("hf", config=plain_hf("b/b"), top=chat) == ours
    assert generation("api", config=api("b/b"), top={"chat_template": ""}) == ours
    assert generation("ablated", condition="ablation", info=DIRECTION) == ours
    others = {
        generation("plain", config=plain_hf("b/b")),
        generation("off", info={"chat": "off"}),
        generation("longer", longer),
        generation("template", info={"chat_template_args": {"enable_thinking": True}}),
        generation("reasoning", info={"think_end_token": "</think>"}),
        generation("repeats", entry=_config("repeats", 5)),
        generation("examples", entry=_config("num_fewshot", 2)),
        generation("no system text", info={"system": "none"}),
    }
    # Without a template hf and ours are alike too.
    assert len(others) == 7 and ours not in others
    assert generation("own system text", info={"system": "template", "system_text": "Hi"}) == ours
    assert generation("thinking", config=vllm("b/b", enable_thinking=True), top=chat) in others


def test_settings_hold_no_keys(tmp_path: Path) -> None:
    secrets = {"auth_token": "s3cret", "header": {"x": "s3cret"}, "api_key": "s3cret"}
    write_run(tmp_path, [ENGLISH], config=api("a", num_concurrent=2, **secrets))
    settings = _only(_read(tmp_path)).settings
    assert "s3cret" not in str(settings) and "localhost" not in str(settings)
    assert settings["model_args"] == {"model": "a", "num_concurrent": 2}


# Which files, and duplicates.


def test_conditions_in_one_folder_have_the_samples_of_their_date(tmp_path: Path) -> None:
    write_run(tmp_path, [task("harmful", "en", "rrrr")])
    write_run(
        tmp_path, [task("harmful", "en", "cccc")], condition="ablation", info=DIRECTION, day=2
    )
    runs = _read(tmp_path).runs
    assert {Path(run.file).parent for run in runs} == {Path(tmp_path.name, "invented__model-1")}
    rates = {run.condition: run.cells[0].rates["asr"] for run in runs}
    assert rates == {"ablation": 1.0, "baseline": 0.0}


def test_files_folders_and_both_name_a_run_once(tmp_path: Path) -> None:
    path = write_run(tmp_path, [ENGLISH])
    (tmp_path / "link").symlink_to(path.parent)
    every = sorted(path.parent.iterdir())
    reading = _read(tmp_path, path, path.parent, tmp_path / "link", *every)
    assert len(reading.runs) == 1 and reading.notes == ()
    assert _only(_read(path)).cells[0].responses is not None


def test_output_path_may_have_named_a_file(tmp_path: Path) -> None:
    path = write_run(tmp_path, [ENGLISH])
    path.rename(path.with_name(path.name.replace("results_", "nightly_")))
    assert _only(_read(tmp_path)).cells[0].responses is not None


@pytest.mark.parametrize(
    ("older", "newer", "kept", "said"),
    [
        ("rrrr", "cccc", "cccc", "newer"),
        ("rrrr", "ccccc", "ccccc", "newer"),
        ("rrrr", "ccc", "rrrr", "older but has more prompts"),
    ],
)
def test_of_duplicates_the_newest_stays_unless_it_has_fewer_prompts(
    tmp_path: Path, older: str, newer: str, kept: str, said: str
) -> None:
    first = write_run(tmp_path / "b", [task("harmful", "en", older)])
    second = write_run(tmp_path / "a", [task("harmful", "en", newer)], day=2)
    reading = _read(tmp_path)
    run = _only(reading)
    loser, winner = (first, second) if kept == newer else (second, first)
    assert run.file == called(winner, tmp_path)
    assert run.cells[0].n == len(kept)
    (note,) = reading.notes
    assert said in note
    assert note.index(called(loser, tmp_path)) < note.index(called(winner, tmp_path))


def test_of_many_duplicates_each_is_told_with_the_one_that_stays(tmp_path: Path) -> None:
    sizes = ["rr", "rrrr", "rrrrrr", "rrr"]
    paths = [
        write_run(tmp_path, [task("harmful", "en", labels)], day=day)
        for day, labels in enumerate(sizes, 1)
    ]
    reading = _read(tmp_path)
    assert _only(reading).file == called(paths[2], tmp_path)
    assert len(reading.notes) == 3
    for path, reason in [(paths[0], "newer"), (paths[1], "newer"), (paths[3], "older")]:
        (note,) = (note for note in reading.notes if f"{called(path, tmp_path)} left out" in note)
        assert f"{called(paths[2], tmp_path)} is {reason}" in note


def test_duplicates_are_told_by_task(tmp_path: Path) -> None:
    write_run(tmp_path, [ENGLISH, GERMAN])
    write_run(tmp_path, [task("harmful", "en", "rrrrr"), task("harmful", "de", "rr")], day=2)
    write_run(tmp_path, [task("harmful", "en", "rrrrr", judge="substring")], day=3)
    reading = _read(tmp_path)
    kept = {
        (cell.language, cell.judge): (run.run[-20:-16], cell.rates["asr"])
        for run in reading.runs
        for cell in run.cells
    }
    assert {key: asr for key, (_, asr) in kept.items()} == {
        ("en", "native"): 0.0,
        ("de", "native"): 0.8,
        ("en", "substring"): 0.0,
    }
    assert len(reading.notes) == 2


def test_a_copied_folder_counts_once(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a", [ENGLISH])
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    reading = _read(tmp_path)
    assert len(_only(reading).cells) == 1
    assert called(path, tmp_path) in reading.notes[0] and "has the same date" in reading.notes[0]


def test_two_tasks_of_one_run_may_not_be_the_same(tmp_path: Path) -> None:
    path = write_run(tmp_path, [ENGLISH], samples=False)

    def copy(document: dict[str, Any]) -> None:
        for part in ("results", "configs"):
            document[part]["my_copy"] = document[part][ENGLISH.name]

    _edit(path, copy)
    reading = _read(tmp_path)
    assert len(_only(reading).cells) == 1
    assert "another task of the same dataset" in reading.notes[0]


def test_names_with_markup_are_names(tmp_path: Path) -> None:
    name = "<script>alert('1')</script>|`$(x)`"
    config = plain_hf(name)
    write_run(tmp_path, [ENGLISH], config=config, model="x")
    assert _only(_read(tmp_path)).model == name


# Damage. Each takes the results file of a run with one task and its samples.


def _edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def _samples_of(path: Path) -> Path:
    (samples,) = path.parent.glob(
        f"samples_*{path.name.removeprefix('results').removesuffix('.json')}.jsonl"
    )
    return samples


def _edit_samples(
    path: Path, change: Callable[[dict[str, Any]], Any], only: int | None = None
) -> None:
    samples = _samples_of(path)
    lines = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    for number, line in enumerate(lines):
        if only in (None, number):
            change(line)
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _bytes(content: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-400])


def _top(name: str, value: Any) -> Callable[[Path], Any]:
    return lambda path: _edit(path, lambda document: document.update({name: value}))


def _gone(*names: str) -> Callable[[Path], Any]:
    def remove(document: dict[str, Any]) -> None:
        for name in names[:-1]:
            document = document[name]
        del document[names[-1]]

    return lambda path: _edit(path, remove)


def _entry(*names: str, value: Any) -> Callable[[Path], Any]:
    def change(document: dict[str, Any]) -> None:
        for name in names[:-1]:
            document = document[name]
        document[names[-1]] = value

    return lambda path: _edit(path, change)


def _rate(value: Any, metric: str = "asr") -> Callable[[Path], Any]:
    return _entry("results", ENGLISH.name, f"{metric},none", value=value)


def _config(name: str, value: Any) -> Callable[[Path], Any]:
    return _entry("configs", ENGLISH.name, name, value=value)


def _metadata(name: str, value: Any) -> Callable[[Path], Any]:
    return _entry("configs", ENGLISH.name, "metadata", name, value=value)


def _prompts(name: str, value: Any) -> Callable[[Path], Any]:
    return _entry("configs", ENGLISH.name, "dataset_kwargs", name, value=value)


def _row(name: str, value: Any, only: int | None = 2) -> Callable[[Path], Any]:
    return lambda path: _edit_samples(path, lambda line: line["doc"].update({name: value}), only)


def _lines(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], Any]:
    def edit(path: Path) -> None:
        samples = _samples_of(path)
        samples.write_bytes(b"".join(change(samples.read_bytes().splitlines(keepends=True))))

    return edit


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _metrics(rates: dict[str, float]) -> Callable[[Path], Any]:
    def edit(path: Path) -> None:
        _edit(path, lambda document: document["results"].update({ENGLISH.name: rates}))

    return edit


DEEP = b"[" * 100_000

DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    # The file.
    "cut off": (_cut, "is not JSON, or was cut off"),
    "empty": (_bytes(b""), "is not JSON"),
    "binary": (_bytes(bytes(range(256)) * 40), "is not JSON"),
    "another encoding": (_bytes('{"é": 1}'.encode("utf-16")[3:]), "is not JSON"),
    "a page": (_bytes(b"<html><body>404</body></html>"), "is not JSON"),
    "deep": (_bytes(DEEP), "is not JSON"),
    "a very long number": (_bytes(b'{"date": ' + b"9" * 5000 + b"}"), "is not JSON"),
    "a list": (_bytes(b"[1, 2]"), "is [1, 2], not an object"),
    "a text": (_bytes(b'"results"'), "is 'results', not an object"),
    "null": (_bytes(b"null"), "is None, not an object"),
    "another object": (_bytes(b"{}"), "has no config"),
    "records of ours": (_bytes(b'{"schema": 2, "records": []}'), "has no config"),
    "a folder": (_folder, "cannot be read (Is a directory)"),
    # Its parts.
    "no results": (_gone("results"), "has no results"),
    "no configs": (_gone("configs"), "has no configs"),
    "results a list": (_top("results", []), "results is [], not an object"),
    "configs null": (_top("configs", None), "configs is None, not an object"),
    "config a text": (_top("config", "x"), "config is 'x', not an object"),
    "no date": (_gone("date"), "date is None, not a number"),
    "date a text": (_top("date", "today"), "date is 'today'"),
    "date NaN": (_top("date", float("nan")), "date is nan"),
    "model a number": (_entry("config", "model_name", value=7), "model_name is 7, not a name"),
    "model of two lines": (_entry("config", "model_name", value="a\nb"), "'a\\nb', not a name"),
    "model half a letter": (_entry("config", "model_name", value="\ud800"), "not a name"),
    "no model": (_gone("config", "model_name"), "model_name is None"),
    "condition a list": (_entry("config", "condition", value=["x"]), "condition is ['x']"),
    "arguments a list": (_entry("config", "model_args", value=[1]), "model_args is [1]"),
    "revision of two lines": (_entry("config", "revision", value="a\x1b[2J"), "revision is"),
    # Its task.
    "no config of the task": (_gone("configs", ENGLISH.name), f"has no {ENGLISH.name}"),
    "no result of the task": (_gone("results", ENGLISH.name), f"has no {ENGLISH.name}"),
    "config of the task null": (_entry("configs", ENGLISH.name, value=None), "is None"),
    "no prompts": (_gone("configs", ENGLISH.name, "dataset_kwargs"), "has no dataset_kwargs"),
    "no family": (_prompts("family", None), "family is None"),
    "language a number": (_prompts("lang", 3), "lang is 3"),
    "no metadata": (_gone("configs", ENGLISH.name, "metadata"), "has no metadata"),
    "no judge": (_gone("configs", ENGLISH.name, "metadata", "judge"), "judge is None"),
    "judge empty": (_metadata("judge", ""), "judge is ''"),
    "another version": (
        _metadata("version", 2.0),
        "version is 2.0, and this leaderboard reads 1.0",
    ),
    "no version": (_gone("configs", ENGLISH.name, "metadata", "version"), "version is None"),
    "no generation": (_config("generation_kwargs", None), "generation_kwargs is None"),
    # Its rates.
    "rate NaN": (_rate(float("nan")), "asr is nan, not a number from 0 to 1"),
    "rate infinite": (_rate(float("inf")), "asr is inf"),
    "rate negative": (_rate(-0.2), "asr is -0.2"),
    "rate above 1": (_rate(1.0001), "asr is 1.0001"),
    "rate huge": (_rate(10**400), "asr is 1000"),
    "rate a text": (_rate("0.2"), "asr is '0.2'"),
    "rate N/A": (_rate("N/A", "undecided_rate"), "undecided_rate is 'N/A'"),
    "rate true": (_rate(True), "asr is True"),
    "rate null": (_rate(None), "asr is None"),
    "unjudged": (
        _metrics({"bypass,none": 999}),
        "--predict_only; label them with `polyrefuse judge run`",
    ),
    "rates of another package": (_metrics({"acc,none": 0.5}), "none of this package's rates"),
    "rates of both kinds": (_rate(0.2, "false_refusal_rate"), "of both harmful and harmless"),
    "no prompts asked": (_entry("results", ENGLISH.name, "sample_len", value=0), "(n = 0)"),
    "n negative": (_entry("results", ENGLISH.name, "sample_len", value=-5), "sample_len is -5"),
    "n a fraction": (_entry("results", ENGLISH.name, "sample_len", value=5.0), "sample_len is 5.0"),
    "n huge": (_entry("results", ENGLISH.name, "sample_len", value=10**30), "sample_len is 1000"),
    "no n": (_gone("results", ENGLISH.name, "sample_len"), "sample_len is None"),
    # Its samples.
    "rate not the samples'": (_rate(0.4), "asr is 0.4, but the labels in"),
    "rate a little off": (_rate(0.200002), "give 0.2;"),
    "another rate not theirs": (_rate(0.5, "degenerate_rate"), "degenerate_rate is 0.5, but"),
    "a label changed": (_row("label", "compliance", 0), "asr is 0.2, but the labels in"),
    "a line missing": (_lines(lambda lines: lines[:-1]), "has n = 5, but"),
    "a line twice": (_lines(lambda lines: lines + lines[:1]), "occurs twice"),
    "samples empty": (_lines(lambda lines: []), "has 0 prompts"),
    "a line cut": (_lines(lambda lines: [*lines[:2], lines[2][:50]]), "line 3 is not JSON"),
    "a line of bytes": (
        _lines(lambda lines: [*lines[:1], b"\xff\xfe\x00\n"]),
        "line 2 is not JSON",
    ),
    "a line deep": (_lines(lambda lines: [DEEP]), "line 1 is not JSON"),
    "a line of a list": (_lines(lambda lines: [b"[]\n", *lines]), "line 1 is [], not an object"),
    "no row": (lambda path: _edit_samples(path, lambda line: line.pop("doc")), "line 1 has no doc"),
    "row a text": (
        lambda path: _edit_samples(path, lambda line: line.update(doc="x")),
        "doc is 'x'",
    ),
    "no label": (_row("label", None), "line 3: label is None, not one of refusal, compliance"),
    "label unknown": (_row("label", "harmful"), "line 3: label is 'harmful'"),
    "label a list": (_row("label", ["refusal"]), "line 3: label is ['refusal']"),
    "id a number": (_row("id", 5), "line 3: id is 5"),
    "another language": (_row("language", "de"), "language is 'de', but 'en' in the results"),
    "another judge": (_row("judge", "substring"), "judge is 'substring', but 'native'"),
    "harmless among harmful": (_row("harmful", False), "harmful is False, but True"),
    "kept a text": (_row("kept", "x"), "kept is 'x', not a list of labels"),
    "kept empty": (_row("kept", []), "kept is [], not a list"),
    "kept of numbers": (_row("kept", [1]), "kept is [1], not a list"),
    "one prompt sampled": (
        _row("kept", [{"label": "compliance", "response_language": "en"}]),
        "has other kinds of labels than the lines before",
    ),
    "one answer without its language": (
        lambda path: _edit_samples(path, lambda line: line["doc"].pop("response_language"), 2),
        "has other kinds of labels than the lines before",
    ),
    "no results of its date": (lambda path: path.unlink(), "has no results file of the same date"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_one_sentence_and_the_rest_is_read(tmp_path: Path, name: str) -> None:
    damage, said = DAMAGE[name]
    write_run(tmp_path / "good", [ENGLISH, GERMAN])
    path = write_run(tmp_path / "bad", [ENGLISH], model="bad", day=2)
    damage(path)
    reading = read([tmp_path])
    assert [run.model for run in reading.runs] == ["invented/model-1"]
    assert len(reading.runs[0].cells) == 2
    (problem,) = reading.problems
    _is_a_clear_sentence(problem, path, said)
    with pytest.raises(NoResults) as nothing:
        read([tmp_path / "bad"])
    assert str(nothing.value) == problem.replace(f"{tmp_path.name}/", "")


def _is_a_clear_sentence(problem: str, path: Path, said: str) -> None:
    assert said in problem
    # Where the folder that was named is, is nobody's business.
    assert f"{path.parent.parent.name}/{path.parent.name}/" in problem
    assert str(path.parent) not in problem
    assert problem.endswith(".") and "; " in problem
    assert problem.isprintable()
    # Beside paths, of which there may be two, a line or two.
    assert len(problem) < 450


def test_a_task_that_is_damaged_leaves_the_others_of_its_run(tmp_path: Path) -> None:
    path = write_run(tmp_path, [ENGLISH, GERMAN])
    _rate(float("nan"))(path)
    reading = read([tmp_path])
    assert [cell.language for cell in reading.runs[0].cells] == ["de"]
    assert len(reading.problems) == 1


def test_tasks_with_the_same_fault_are_told_once(tmp_path: Path) -> None:
    tasks = [task("harmful", one, "rc") for one in ("en", "de", "fr", "it")]
    path = write_run(tmp_path, tasks)
    for one in tasks[:3]:
        _entry("configs", one.name, "metadata", "version", value=2.0)(path)
    _entry("results", tasks[3].name, "asr,none", value=2)(path)
    with pytest.raises(NoResults) as error:
        read([tmp_path])
    message = str(error.value)
    assert message.count("version is 2.0") == 1
    assert "2 more of its tasks have the same fault." in message
    assert "asr is 2, not" in message


def test_where_nothing_can_be_used_a_few_reasons_are_enough(tmp_path: Path) -> None:
    for day in range(1, 10):
        write_run(tmp_path, [ENGLISH], day=day).write_text("{")
    with pytest.raises(NoResults) as error:
        read([tmp_path])
    message = str(error.value)
    assert message.count("is not JSON") == 5
    assert message.endswith("And 4 more files or tasks cannot be used.")


def test_a_mismatch_names_both_files_and_both_numbers(tmp_path: Path) -> None:
    path = write_run(tmp_path, [ENGLISH])
    _rate(0.6)(path)
    with pytest.raises(NoResults) as error:
        read([tmp_path])
    message = str(error.value)
    for file in (path, _samples_of(path)):
        assert called(file, tmp_path) in message
    assert "0.6" in message and "0.2" in message


def test_rounding_is_no_mismatch(tmp_path: Path) -> None:
    path = write_run(tmp_path, [task("harmful", "en", "crr")])
    _entry("results", "polyrefuse_harmful_en", "asr,none", value=0.3333333)(path)
    assert _only(_read(tmp_path)).cells[0].rates["asr"] == 1 / 3


def test_folders_without_results_and_paths_that_do_not_exist(tmp_path: Path) -> None:
    write_run(tmp_path / "good", [ENGLISH])
    (tmp_path / "empty").mkdir()
    missing = [tmp_path / "nowhere", tmp_path / ("x" * 300), tmp_path / "good" / "\0"]
    reading = read([tmp_path / "empty", *missing, tmp_path / "good"])
    assert len(reading.runs) == 1
    assert len(reading.problems) == 4
    assert "holds no results_*.json" in reading.problems[0]
    assert all("does not exist" in problem for problem in reading.problems[1:])
    with pytest.raises(NoResults, match="holds no results"):
        read([tmp_path / "empty"])
    with pytest.raises(NoResults, match="name folders"):
        read([])


def test_a_folder_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path / "good", [ENGLISH])
    locked = str(write_run(tmp_path / "locked", [ENGLISH], day=2).parent)
    scandir = os.scandir

    # Tests may run as root, who can read everything.
    def refuse(path: str) -> Any:
        if os.fspath(path) == locked:
            raise PermissionError(13, "Permission denied", locked)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    reading = read([tmp_path])
    assert len(reading.runs) == 1
    (problem,) = reading.problems
    assert problem.startswith(
        f"{called(Path(locked), tmp_path)} cannot be read (Permission denied); "
    )


def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    path = write_run(tmp_path, [ENGLISH])
    path.parent.rename(tmp_path / "line\nbreak\udcff")
    (run,) = read([tmp_path]).runs
    assert run.run.isprintable()
    run.run.encode()


def test_reading_imports_nothing_heavy() -> None:
    import subprocess
    import sys

    script = (
        "import sys, polyrefuse_leaderboard.reading.results, polyrefuse_leaderboard.model_rows;"
        "import polyrefuse_leaderboard.records;"
        "print(*{'torch', 'lm_eval', 'datasets', 'transformers', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
