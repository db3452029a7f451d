"""What a study's file may say, and what is said of one that is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from polyrefuse_leaderboard import table
from polyrefuse_studies import example, plan, schema
from polyrefuse_studies.files import Files
from polyrefuse_studies.schema import BadStudy


class NoIdentities:
    """Of models that are nowhere."""

    def of_model(self, arguments: Mapping[str, Any]) -> dict[str, str]:
        return {}

    def of_judge(self, named: str, revision: str | None) -> dict[str, str]:
        return {}


LEAST = {
    "study": "small",
    "models": {"m": "polyrefuse-organism"},
    "datasets": ["toyrefuse"],
    "conditions": ["baseline"],
}


def write(folder: Path, content: object) -> Path:
    path = folder / "study.yaml"
    path.write_text(
        content if isinstance(content, str) else yaml.safe_dump(content, allow_unicode=True),
        encoding="utf-8",
    )
    return path


def test_the_safety_card_explains_every_condition() -> None:
    assert schema.CONDITIONS.keys() <= table.CONDITIONS.keys()


def test_the_example_is_a_study(tmp_path: Path) -> None:
    study = schema.read(write(tmp_path, example.EXAMPLE))
    assert study.models["organism"].pretrained == "polyrefuse-organism"
    assert study.conditions["random-ablation"].arguments == {"control": "random"}
    # What is commented out is right, too.
    whole = re.sub(r"(?m)^( *)# (\w[\w-]*:.*)$", r"\1\2", example.EXAMPLE)
    study = schema.read(write(tmp_path, whole))
    assert study.conditions["half"].direction == "source"
    assert study.conditions["half"].arguments == {"coefficient": 0.5}
    assert study.judges[0].judge == "wildguard"
    assert study.capability is not None and study.capability.tasks == ("mmlu", "gsm8k")
    assert study.directions.transfer == ("en", "de", "yo")


def test_norwegian_is_a_language_and_no_boolean(tmp_path: Path) -> None:
    with pytest.raises(BadStudy, match="there is no language 'no'"):
        schema.read(write(tmp_path, yaml.safe_dump(LEAST) + "languages: [no, en]\n"))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"modles": {}}, "there is no key 'modles': did you mean 'models'?"),
        ({"directions": {"sorce": "en"}}, "no key 'sorce' in directions: did you mean 'source'?"),
        ({"mcd": {"langs": ["en"]}}, "there is no key 'langs' in mcd"),
        ({"judges": [{"judg": "x"}]}, "judge"),
        ({"datasets": ["toyrefuze"]}, "no dataset 'toyrefuze': did you mean 'toyrefuse'?"),
        ({"languages": ["en", "dee"]}, "there is no language 'dee'"),
        ({"conditions": ["ablatoin"]}, "no condition 'ablatoin': did you mean 'ablation'?"),
        ({"conditions": {"mine": {"direction": "source"}}}, "a condition of your own needs like"),
        ({"conditions": {"mine": {"model": "ablate"}}}, "conditions.mine.model is 'ablate'"),
        ({"conditions": ["system-prompt"]}, "needs system_file: FILE"),
        ({"conditions": {"a": {"like": "b"}, "b": {"like": "a"}}}, "a -> b -> a are like each"),
        ({"conditions": {"a": {"like": "a"}}}, "a -> a are like each other"),
        ({"conditions": {"a": {"like": "ablatoin"}}}, "no condition 'ablatoin': did you mean"),
        ({"conditions": []}, "a study needs a condition"),
        ({"judges": ["wildgard"]}, "no judge 'wildgard': did you mean 'wildguard'?"),
        ({"languages": "en, yo"}, "languages is 'en, yo': write it as a list, [en, yo]."),
        ({"directions": {"targets": "de,ja"}}, "directions.targets is 'de,ja': write it as a list"),
        ({"languages": "YO"}, "there is no language 'YO': did you mean 'yo'?"),
        ({"limit": 0}, "limit is 0: give 1 or more"),
        ({"limit": "many"}, "limit is 'many'"),
        ({"models": {}}, "a study needs a model"),
        ({"models": {"a/b": "x"}}, "the model 'a/b' needs a name of letters"),
        ({"models": {"m": {"dtype": "float32"}}}, "models.m.pretrained is missing"),
        ({"models": ["x"]}, "models is ['x']"),
        ({"engine": "vlm"}, "engine is 'vlm': give one of 'hf' or 'vllm'"),
        ({"limit": True}, "limit is true: give a whole number"),
        ({"limit": "5"}, "limit is '5': give a whole number"),
        ({"limit": 2**40}, "limit is 1099511627776: give 2147483647 or less"),
        ({"seed": -1}, "seed is -1: give 0 or more"),
        (
            {"batch_size": True},
            "batch_size is true: give a whole number of 1 or more, auto, or auto:N",
        ),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": -3}, "batch_size is -3"),
        ({"batch_size": "foo"}, "batch_size is 'foo'"),
        ({"batch_size": "auto:x"}, "batch_size is 'auto:x'"),
        ({"batch_size": None}, "batch_size is null"),
        ({"languages": []}, "languages is []: it is empty; name something, or leave it out"),
        ({"languages": [1]}, "languages.0 is 1: give text"),
        ({"datasets": []}, "datasets is []"),
        ({"capability": {"tasks": []}}, "capability.tasks is []"),
        ({"capability": {"task": ["x"]}}, "no key 'task' in capability: did you mean 'tasks'?"),
        ({"mcd": {"languages": []}}, "mcd.languages is []"),
        ({"study": ""}, "study is ''"),
        ({"study": " "}, "study is ' ': give a name that can be printed"),
        ({"study": "x" * 101}, "give at most 100 characters"),
        ({"study": 3}, "study is 3: give text, in quotes"),
        ({"conditions": [1]}, "a list of conditions has 1: a list may hold only names"),
        (
            {"conditions": ["baseline", {"a": {"like": "ablation"}}]},
            "a list of conditions has {'a'",
        ),
        ({"conditions": ["baseline", "baseline"]}, "the condition 'baseline' is listed twice"),
        ({"conditions": {"a": 3}}, "conditions.a is 3: give settings such as"),
        ({"conditions": 3}, "conditions is 3"),
        ({"conditions": {"a": {"like": ["b"]}}}, "conditions.a.like is ['b']: give one of a, base"),
        (
            {"conditions": {"a": {"like": "system-prompt"}}},
            "the condition a needs system_file: FILE",
        ),
        (
            {"conditions": {"a": {"like": "ablation", "layers": None}}},
            "layers is null: give a value",
        ),
        ({"conditions": {"a": {"like": "baseline", "x=y": 1}}}, "'x=y' is not the name of an arg"),
        ({"conditions": {"x" * 101: {"like": "baseline"}}}, "of at most 100 characters"),
        ({"conditions": {"baseline": {"like": "half"}, "half": {"like": "baseline"}}}, "like each"),
        ({"judges": None}, "judges is null: give names such as wildguard"),
        ({"judges": 3}, "judges is 3"),
        ({"judges": [3]}, "judges.0 is 3: give keys and their values"),
        ({"judges": [{"jugde": "x"}]}, "no key 'jugde' in judges.0: did you mean 'judge'?"),
        (
            {"models": {"m": {"pretraind": "x"}}},
            "models.m: there is no key 'pretraind': did you mean",
        ),
        (
            {"models": {"m": {"pretrained": "x", "a,b": 1}}},
            "models.m: 'a,b' is not the name of an arg",
        ),
        ({"models": {"m": {"pretrained": "x", "dtype": None}}}, "models.m: dtype is null"),
        ({"models": {"m": {"pretrained": "x", "gpus": -1}}}, "models.m.gpus is -1: give 0 or more"),
        ({"models": {"m": {"pretrained": "x", "cpus": 0}}}, "models.m.cpus is 0: give 1 or more"),
        ({"models": {"m": {"pretrained": "x", "cpus": True}}}, "models.m.cpus is true"),
        (
            {"models": {"m": {"pretrained": "x", "memory": "lots"}}},
            "models.m.memory is 'lots': give",
        ),
        (
            {"models": {"m": {"pretrained": "x", "memory": 0}}},
            "models.m.memory is 0: give 1 or more",
        ),
        ({"models": {"m": {"pretrained": 3}}}, "models.m.pretrained is 3: give text"),
        ({"models": {"m": None}}, "models.m is null: give keys and their values"),
        ({"models": {"m": "{own}"}}, "'{own}' contains {own}, which a study uses for the folder"),
        ({"judges": [{"judge": "openai:{toy/a}"}]}, "contains {toy/a}"),
        ({"directions": {"source": ["en"]}}, "directions.source is ['en']: give text"),
        ({"directions": "en"}, "directions is 'en': give keys and their values"),
        ({"generation": {"x y": 1}}, "'x y' is not the name of an argument"),
        ({"generation": {"top_p": None}}, "generation.top_p is null"),
        (
            {"datasets": ["harmful", "xstest_safe"], "languages": ["de"]},
            "the dataset 'xstest_safe' is in none of the study's languages: it has en",
        ),
        ({"limit": ["x" * 50] * 3000}, "limit is ['xxx"),
        ({"study": None}, "study is null: give text"),
    ],
)
def test_what_is_wrong_is_said_with_what_was_meant(
    tmp_path: Path, changed: dict[str, object], said: str
) -> None:
    with pytest.raises(BadStudy) as raised:
        schema.read(write(tmp_path, LEAST | changed))
    sentence = str(raised.value)
    assert said in sentence
    assert "\n" not in sentence and sentence.endswith((".", "?")) and len(sentence) < 700


PYTHON = re.compile(
    r"instance of|[Ii]nput should|datetime|None|True|False|NoneType|dict\b|tuple|valid (string|int)"
)


@pytest.mark.parametrize("value", [None, True, False, 3, -1, 0.5, "x", [], {}, [None], {"x": [1]}])
@pytest.mark.parametrize("key", sorted(schema.Study.model_fields))
def test_no_word_of_python_s_is_said_of_any_value(tmp_path: Path, key: str, value: object) -> None:
    for content in (value, {key: value}, [value], {"m": value}, {"pretrained": value}):
        try:
            schema.read(write(tmp_path, LEAST | {key: content}))
        except BadStudy as error:
            assert not PYTHON.search(str(error).partition(".yaml")[2]), error


def test_conditions_that_are_like_others(tmp_path: Path) -> None:
    conditions = {
        "baseline": {"like": "baseline", "system": "none"},
        "words": {"like": "system-prompt", "system_file": "x.txt"},
        "more-words": {"like": "words", "system": "template"},
        "half": {"like": "ablation", "coefficient": 0.5},
        "quarter": {"like": "half", "coefficient": 0.25},
        "plain": {"like": "baseline"},
    }
    study = schema.read(write(tmp_path, LEAST | {"conditions": conditions}))
    settings = {name: one.settings for name, one in study.conditions.items()}
    assert settings == {
        "baseline": {"system": "none"},
        "words": {"system_file": "x.txt"},
        "more-words": {"system_file": "x.txt", "system": "template"},
        "half": {"direction": "source", "coefficient": 0.5},
        "quarter": {"direction": "source", "coefficient": 0.25},
        # What a study's own file says of a name goes before what is built in.
        "plain": {"system": "none"},
    }


def test_a_name_that_a_list_has_twice_counts_once(tmp_path: Path) -> None:
    directions = {"transfer": ["yo", "en", "yo"], "targets": ["ja", "ja"], "geometry": ["en", "en"]}
    mcd = {"languages": ["th", "en", "th"]}
    study = schema.read(write(tmp_path, LEAST | {"directions": directions, "mcd": mcd}))
    assert study.directions.transfer == ("yo", "en")
    assert (study.directions.targets, study.directions.geometry) == (("ja",), ("en",))
    assert study.mcd.languages == ("th", "en")


@pytest.mark.parametrize("value", [1, 64, "auto", "auto:4"])
def test_batch_sizes(tmp_path: Path, value: object) -> None:
    assert schema.read(write(tmp_path, LEAST | {"batch_size": value})).batch_size == value


@pytest.mark.parametrize(
    ("said", "memory"),
    [("32GB", 32 * 10**9), ("1.5 GiB", 3 * 2**29), (123456, 123456)],
)
def test_what_a_process_needs_goes_to_its_jobs_and_not_to_lm_eval(
    tmp_path: Path, said: object, memory: int
) -> None:
    model = {"pretrained": "x", "gpus": 2, "cpus": 3, "memory": said, "dtype": "float32"}
    study = schema.read(write(tmp_path, LEAST | {"models": {"m": model}}))
    (job,) = plan.jobs(study, Files(tmp_path), NoIdentities())
    assert (job.gpus, job.cpus, job.memory) == (2, 3, memory)
    assert study.models["m"].arguments == {"dtype": "float32"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no keys"),
        ("- a\n", "has no keys"),
        ("a: [", "is not usable YAML"),
        ("study: a\nstudy: b\n", "'study' occurs twice \\(line 2"),
        ("models:\n  m: x\n  m: y\n", "'m' occurs twice \\(line 3"),
        ("a: &a [*a]\n", "study"),
        ("a: !!python/object:os.system x\n", "is not usable YAML"),
    ],
)
def test_a_file_that_is_no_study(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadStudy, match=said):
        schema.read(write(tmp_path, text))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadStudy, match="cannot be read \\(No such file"):
        schema.read(tmp_path / "none.yaml")
    path = tmp_path / "study.yaml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadStudy, match="cannot be read"):
        schema.read(path)
