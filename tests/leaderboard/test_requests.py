"""Requests that were made with other settings than the results claim, as --cache_requests does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from polyrefuse_leaderboard.reading.requests import difference, effective, lacks_prompt
from polyrefuse_leaderboard.reading.results import read

from tests.leaderboard.result_files import task, write_run

PROTOCOL = {"until": [], "do_sample": False, "max_gen_toks": 512}


def sample(settings: Any, text: Any = "Where is the garden bench?") -> dict[str, Any]:
    return {"arguments": {"gen_args_0": {"arg_0": text, "arg_1": settings}}}


@pytest.mark.parametrize(
    ("requested", "claimed", "said"),
    [
        (PROTOCOL, {"max_gen_toks": 64}, "max_gen_toks is 512 in the request and 64 in"),
        (PROTOCOL, {"until": ["\n\n"]}, "until is [] in the request and ['\\n\\n'] in"),
        (
            PROTOCOL,
            {"do_sample": True, "temperature": 0.7},
            "do_sample is False in the request and True in",
        ),
        (PROTOCOL, {"repetition_penalty": 1.1}, "repetition_penalty is not set in the request and"),
        (
            PROTOCOL | {"do_sample": True, "temperature": 1.0},
            {"do_sample": True, "temperature": 0.6},
            "temperature is 1.0 in the request and 0.6 in",
        ),
        (PROTOCOL | {"num_beams": 3}, {}, "num_beams is 3 in the request and not set in"),
    ],
)
def test_other_settings_are_told_with_both_values(
    requested: dict[str, Any], claimed: dict[str, Any], said: str
) -> None:
    found = difference(sample(requested), effective(PROTOCOL | claimed))
    assert found is not None and found.startswith(said)


@pytest.mark.parametrize(
    ("requested", "claimed"),
    [
        (PROTOCOL, {}),
        # One setting under its other names; the first of lm-eval's that is given holds.
        ({"do_sample": False, "max_new_tokens": 512}, {}),
        (PROTOCOL, {"max_new_tokens": 64}),
        # What stops is a set, one of them may be given bare, and none is none.
        ({"until": "END", "do_sample": False, "max_gen_toks": 512}, {"until": ["END"]}),
        (PROTOCOL | {"until": ["a", "b"]}, {"until": ["b", "a"]}),
        (PROTOCOL | {"until": None}, {}),
        # Greedy answers know no temperature, and without one lm-eval is greedy.
        (PROTOCOL, {"temperature": 0.0}),
        (PROTOCOL, {"temperature": 0.7, "top_p": 0.9, "top_k": 50}),
        ({"until": [], "max_gen_toks": 512, "temperature": 0}, {}),
        # Numbers however they are written; nothing is nothing.
        (PROTOCOL | {"max_gen_toks": 512.0}, {}),
        (PROTOCOL | {"max_gen_toks": "512"}, {}),
        (PROTOCOL | {"num_beams": None}, {}),
    ],
)
def test_the_same_settings_otherwise_written(
    requested: dict[str, Any], claimed: dict[str, Any]
) -> None:
    assert difference(sample(requested), effective(PROTOCOL | claimed)) is None


@pytest.mark.parametrize("arguments", [None, [], {}, {"gen_args_0": []}, {"gen_args_0": {}}])
def test_nothing_is_said_where_nothing_is_recorded(arguments: Any) -> None:
    logged = {"arguments": arguments}
    assert difference(logged, effective(PROTOCOL)) is None
    assert not lacks_prompt(logged, "Where is the garden bench?")


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        ("<user>Where is\n the garden bench?</user><assistant>", False),
        ("<user></user><assistant>", True),
        ('[{"role": "user", "content": "Where is the garden bench?"}]', False),
        (['[{"role": "user", "content": "Where is the garden bench?"}]'], False),
        ([{"role": "user", "content": ""}], True),
    ],
)
def test_whether_the_model_was_given_the_prompt(text: Any, lacks: bool) -> None:
    assert lacks_prompt(sample({}, text), "  Where is the garden\nbench?") == lacks


def test_a_prompt_in_escaped_json_is_there() -> None:
    prompt = 'Où est "le banc" ?\nรบกวนด้วย'
    for ascii_only in (True, False):
        text = json.dumps([{"role": "user", "content": prompt}], ensure_ascii=ascii_only)
        assert not lacks_prompt(sample({}, text), prompt)
        assert not lacks_prompt(sample({}, [text]), prompt)


def test_such_a_task_is_not_used_and_the_others_are(tmp_path: Path) -> None:
    german = task("harmful", "de", "rrcr", generation={"max_gen_toks": 64}, requested=PROTOCOL)
    path = write_run(tmp_path, [task("harmful", "en", "rrcr"), german])
    reading = read([tmp_path])
    assert [cell.language for run in reading.runs for cell in run.cells] == ["en"]
    (problem,) = reading.problems
    samples = path.name.replace("results_", f"samples_{german.name}_").replace(".json", ".jsonl")
    assert f"{samples}, line 1: max_gen_toks is 512 in the request and 64 in the results" in problem
    assert problem.endswith("run lm_eval again with --cache_requests refresh, or without it.")
