"""What models are called: no path of anybody's disk on a page, and one name for one model."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from polyrefuse_leaderboard.reading.model_names import BadNames, SameName, hide_paths, read_names
from polyrefuse_leaderboard.reading.model_names import shown as shown_with
from polyrefuse_leaderboard.reading.results import read

from tests.commands import assert_one_sentence, run_in_process
from tests.leaderboard.result_files import (
    DIRECTION,
    PROMPT,
    plain_hf,
    task,
    transfer_report,
    write_run,
)

SECRET = "/home/qzxv/private disk"
"""A place that must not be published; no other text has these letters."""


def shown(given: str) -> str:
    return shown_with(given, {})


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("meta-llama/Llama-3-8B", "meta-llama/Llama-3-8B"),
        ("gpt2", "gpt2"),
        ("polyrefuse-organism", "polyrefuse-organism"),
        ("/models/chat", "chat"),
        ("/models/chat/", "chat"),
        ("/chat", "chat"),
        ("./chat", "chat"),
        ("../up/chat", "chat"),
        ("~/chat", "chat"),
        ("models/of/mine", "mine"),
        ("models/", "models"),
        ("C:\\models\\chat", "chat"),
        ("C:/models/chat", "chat"),
        ("\\\\server\\share\\chat", "chat"),
        ("models\\chat", "chat"),
        ("/models/chat/.", "chat"),
        ("/", "model"),
        ("..", "model"),
        ("/cache/models--org--name/snapshots/0123abc", "0123abc"),
        ("org.name/with.dots", "org.name/with.dots"),
    ],
)
def test_a_path_is_called_by_its_last_part(given: str, name: str) -> None:
    assert shown(given) == name


@pytest.mark.parametrize(
    ("sentence", "hidden"),
    [
        ("It is in /home/me/model, as said.", "It is in model, as said."),
        ("'/a/b c' and /a/b/c.", "'b c' and c."),
        ("See https://example.org/a/b and 3/4 of and/or.", None),
        ("Read D:\\data\\run1 (twice)", "Read run1 (twice)"),
        ("results/a/b.json has no date", None),
        ("~/runs/x; ~/runs/y", "x; y"),
    ],
)
def test_paths_within_a_sentence(sentence: str, hidden: str | None) -> None:
    assert hide_paths(sentence, {"/a/b c": "b c"}) == (hidden or sentence)


def one_run(folder: Path, model: str, **more: Any) -> Path:
    return write_run(folder, [task("harmful", "en", "rrcc")], model=model, **more)


def test_the_name_does_not_move_with_other_rows(tmp_path: Path) -> None:
    one_run(tmp_path / "a", f"{SECRET}/chat")
    (alone,) = read([tmp_path / "a"]).runs
    one_run(tmp_path / "b", f"{SECRET}/other", day=2)
    assert [run.model for run in read([tmp_path]).runs] == ["chat", "other"]
    assert (alone.model, alone.run.split("/")[0]) == ("chat", "chat")


def names_file(folder: Path, names: Any) -> Path:
    file = folder / "names.json"
    file.write_text(json.dumps(names))
    return file


COLLISIONS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, str]]] = {
    "two folders": (
        {"model": "/a/chat"}, {"model": "/b/chat"}, {"/a/chat/": "chat a"},
    ),
    "a folder and a name on the hub": (
        {"model": "/a/chat"}, {"model": "chat"}, {"chat": "chat of the hub"},
    ),
    "two adapters": (
        {"model": "org/m", "config": plain_hf("org/m", peft="/a/adapter")},
        {"model": "org/m", "config": plain_hf("org/m", peft="/b/adapter")},
        {"/a/adapter": "first", "/b/adapter": "second"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", COLLISIONS)
def test_two_of_one_name_are_refused_until_a_file_tells_them_apart(
    tmp_path: Path, kind: str
) -> None:
    first, second, names = COLLISIONS[kind]
    one_run(tmp_path / "results/a", **first)
    one_run(tmp_path / "results/b", **second, day=2)
    results = tmp_path / "results"
    with pytest.raises(SameName, match="would both be called .*--model-names FILE"):
        read([results])
    build = ("leaderboard", "build", results, "--output", tmp_path / "site")
    assert_one_sentence(run_in_process(*build), "would both be called")
    same = names_file(tmp_path, dict.fromkeys(names, "m"))
    if len(names) > 1:
        assert_one_sentence(run_in_process(*build, "--model-names", same), "would both be called")
    file = names_file(tmp_path, names)
    code, out, err = run_in_process(*build, "--model-names", file, "--json")
    assert code == 0, err
    document = json.loads((tmp_path / "site/leaderboard.json").read_text())
    told = {(one["model"], one["revision"]) for one in document["records"]}
    assert len(told) == 2
    assert all(any(name in " ".join(each) for each in told) for name in names.values())
    check = ("leaderboard", "check", results, "--baseline", tmp_path / "baseline.json", "--update")
    assert_one_sentence(run_in_process(*check), "would both be called")


def test_the_names_of_one_folder_are_for_its_results_alone(tmp_path: Path) -> None:
    """One model that was measured twice, with arguments that its name does not say."""
    for name, day in (("a", 1), ("b", 2), ("c", 3)):
        one_run(tmp_path / "results" / name, "org/chat", day=day)
        report = tmp_path / "results" / name / "transfer.json"
        report.write_text(json.dumps(transfer_report() | {"model": "org/chat"}))
    names = {
        "org/chat": "as it is",
        str(tmp_path / "results" / "a"): {"org/chat": "4 bits", "org/other": "another"},
        f"{tmp_path}/results/b/": {"org/chat/": "8 bits"},
    }
    file = names_file(tmp_path, names)
    reading = read([tmp_path / "results"], names=read_names(file))
    assert {run.run.rpartition("/")[0]: run.model for run in reading.runs} == {
        "4 bits": "4 bits", "8 bits": "8 bits", "as it is": "as it is"
    }  # fmt: skip
    build = ("leaderboard", "build", tmp_path / "results", "--output", tmp_path / "site")
    code, _, err = run_in_process(*build, "--model-names", file)
    assert code == 0, err
    page = (tmp_path / "site/index.html").read_text(encoding="utf-8")
    assert "org/chat" not in page
    records = json.loads((tmp_path / "site/leaderboard.json").read_text())["records"]
    assert {record["model"] for record in records} == {"as it is", "4 bits", "8 bits"}


def test_every_folder_may_have_names_of_its_own(tmp_path: Path) -> None:
    """Where no name holds for all folders."""
    for name, day in (("one", 4), ("two", 5)):
        one_run(tmp_path / name, "org/chat", day=day)
    names = {str(tmp_path / name): {"org/chat": f"chat {name}"} for name in ("one", "two")}
    reading = read([tmp_path], names=read_names(names_file(tmp_path, names)))
    assert {run.model for run in reading.runs} == {"chat one", "chat two"}


def test_a_transfer_report_of_another_model_of_that_name(tmp_path: Path) -> None:
    one_run(tmp_path / "a", "/a/chat")
    (tmp_path / "transfer.json").write_text(json.dumps(transfer_report() | {"model": "/b/chat"}))
    build = ("leaderboard", "build", tmp_path, "--output", tmp_path / "site")
    assert_one_sentence(run_in_process(*build), "/a/chat", "/b/chat", "--model-names")
    file = names_file(tmp_path, {"/b/chat": "chat b"})
    assert run_in_process(*build, "--model-names", file)[0] == 0
    assert "chat b" in (tmp_path / "site/index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "is not an object"),
        ('"x"', "is not an object"),
        ('{"a": 1}', "'a' has the name 1"),
        ('{"a": {"b": 1}}', "'b' has the name 1"),
        ('{"a": {"b": {}}}', "'b' has the name {}"),
        ('{"a": ""}', "has the name ''"),
        ('{"a": "x\\ny"}', "has the name"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"a": "' + "n" * 300 + '"}', "over 200 characters"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
    ],
)
def test_a_file_of_names_that_cannot_be_used(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "names.json").write_text(content)
    with pytest.raises(BadNames, match=said):
        read_names(tmp_path / "names.json")


def test_a_pipe_of_names(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "missing", "x" * 5000):
        with pytest.raises(BadNames, match="cannot be read"):
            read_names(tmp_path / name)


def every_place() -> dict[str, Any]:
    """Entries that hold paths of a disk, in a results file's config."""
    return {
        **DIRECTION,
        **PROMPT,
        "direction": f"{SECRET}/direction",
        "prompt": f"{SECRET}/prompt",
        "system_file": f"{SECRET}/system.txt",
        "peft": f"{SECRET}/adapter",
        "tokenizer": f"{SECRET}/tokenizer",
        "use_cache": f"{SECRET}/cache",
        "warnings": [
            f"{SECRET}/chat may reason before it answers",
            "see /home/qzxv/elsewhere/notes.txt",
            r"or C:\Users\qzxv\notes.txt",
        ],
        "direction_warnings": [f"extracted from {SECRET}/chat"],
    }


def test_no_path_is_published(tmp_path: Path) -> None:
    """Whatever holds one; every file that is written is searched for it."""
    results = tmp_path / "qzxv" / "results"
    model = f"{SECRET}/chat"
    for day, condition in enumerate(("baseline", "ablation", "mcd"), 1):
        write_run(
            results, [task("harmful", "en", "rrcc"), task("harmless", "en", "cccr"),
                      task("harmful", "de", "rccc")],
            model=model, condition=condition, info=every_place(), day=day,
        )  # fmt: skip
    one_run(results, f"{SECRET}/chat", config=plain_hf(model, peft=f"{SECRET}/adapter2"), day=5)
    bad = one_run(results / "bad", f"{SECRET}/bad", day=6)
    bad.write_text("{")
    odd = one_run(results / "odd", "odd", day=7)
    document = json.loads(odd.read_text())
    document["config"] |= {"model_name": [model]}
    odd.write_text(json.dumps(document))
    (results / "transfer.json").write_text(json.dumps(transfer_report() | {"model": model}))
    (results / "deep").mkdir()
    (results / "deep/transfer.json").write_text("{")
    code, out, err = run_in_process(
        "leaderboard", "build", results, tmp_path / "qzxv/missing", "--output", tmp_path / "site",
        "--include-samples", "--json",
    )  # fmt: skip
    assert code == 0, err
    printed = json.loads(out)
    assert "qzxv" not in json.dumps({k: v for k, v in printed.items() if k != "output"})
    for file in (tmp_path / "site").rglob("*"):
        if file.is_file():
            text = file.read_bytes().decode(errors="replace")  # a PNG has names in its notes
            assert "qzxv" not in text, f"{file.name}: {text[text.index('qzxv') - 100 :][:200]}"
    assert "chat" in (tmp_path / "site/index.html").read_text(encoding="utf-8")
    assert len(printed["problems"]) >= 3


def test_the_gate_names_no_path(tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    for day, (folder, labels) in enumerate((("was", "r" * 60), ("now", "c" * 60)), 1):
        write_run(
            tmp_path / folder, [task("harmful", "en", labels)], model=f"{SECRET}/chat", day=day
        )
    update = ("leaderboard", "check", tmp_path / "was", "--baseline", baseline, "--update")
    assert run_in_process(*update)[0] == 0
    assert "qzxv" not in baseline.read_text()
    document = json.loads(baseline.read_text())
    # As an earlier version wrote it.
    baseline.write_text(json.dumps(document | {"model": f"{SECRET}/chat"}))
    code, out, err = run_in_process(
        "leaderboard", "check", tmp_path / "now", "--baseline", baseline, "--json",
        "--junit", tmp_path / "junit.xml", "--github-summary", tmp_path / "summary.md",
    )  # fmt: skip
    assert code == 1
    written = ((tmp_path / name).read_text() for name in ("junit.xml", "summary.md"))
    for text in (out, err, *written):
        assert "qzxv" not in text


def test_names_that_nobody_handed_us() -> None:
    """A name is never a path itself, and the same path has the same name."""
    rng = random.Random(6)
    for _ in range(2000):
        given = "".join(rng.choices("ab/\\.~: C-", k=rng.randint(1, 12)))
        name = shown(given)
        assert name == shown(given)
        if given.startswith(("/", "~/", "\\", "./")):
            assert "/" not in name and "\\" not in name
