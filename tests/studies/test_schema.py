"""What a study's file may say, and what is said of one that is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
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
        ({"datasets": ["toyrefuze"]}, "no data set 'toyrefuze': did you mean 'toyrefuse'?"),
        ({"languages": ["en", "dee"]}, "there is no language 'dee'"),
        ({"conditions": ["ablatoin"]}, "no condition 'ablatoin': did you mean 'ablation'?"),
        ({"conditions": {"mine": {"direction": "source"}}}, "one of your own needs like"),
        ({"conditions": {"mine": {"model": "ablate"}}}, "conditions.mine.model is 'ablate'"),
        ({"conditions": ["system-prompt"]}, "needs system_file: FILE"),
        ({"conditions": {"a": {"like": "b"}, "b": {"like": "a"}}}, "a -> b -> a are like each"),
        ({"conditions": {"a": {"like": "a"}}}, "a -> a are like each other"),
        ({"conditions": {"a": {"like": "ablatoin"}}}, "no condition 'ablatoin': did you mean"),
        ({"conditions": []}, "a study needs a condition"),
        ({"judges": ["wildgard"]}, "no judge 'wildgard': did you mean 'wildguard'?"),
        ({"limit": 0}, "limit is 0: give 1 or more"),
        ({"limit": "many"}, "limit is 'many'"),
        ({"models": {}}, "a study needs a model"),
        ({"models": {"a/b": "x"}}, "the model 'a/b' needs a name of letters"),
        ({"models": {"m": {"dtype": "float32"}}}, "models.m.pretrained is missing"),
        ({"models": ["x"]}, "models is ['x']"),
        ({"engine": "vlm"}, "engine is 'vlm'"),
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
    assert "\n" not in sentence and sentence.endswith(".")


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
        ("a: [", "is no YAML"),
        ("study: a\nstudy: b\n", "'study' is there twice \\(line 2"),
        ("models:\n  m: x\n  m: y\n", "'m' is there twice \\(line 3"),
        ("a: &a [*a]\n", "study"),
        ("a: !!python/object:os.system x\n", "is no YAML"),
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
