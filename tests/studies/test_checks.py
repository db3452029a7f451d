"""What a study asks of other modules is tried before anything is run, by the code that takes it."""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from polyrefuse_studies import checks, options, schema
from polyrefuse_studies.arguments import as_arguments
from polyrefuse_studies.files import Files
from polyrefuse_studies.schema import BadStudy

from polyrefuse_shared.errors import UserError

LEAST: dict[str, Any] = {
    "study": "small",
    "models": {"m": "polyrefuse-organism"},
    "datasets": "toyrefuse",
    "conditions": ["baseline"],
}


def check(folder: Path, **changed: Any) -> None:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(LEAST | changed))
    checks.check(schema.read(path), Files(folder))


def condition(**settings: Any) -> dict[str, Any]:
    return {"conditions": {"mine": settings}}


def model(**arguments: Any) -> dict[str, Any]:
    return {"models": {"m": {"pretrained": "polyrefuse-organism"} | arguments}}


def training(**more: Any) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return {"conditions": ["mcd"], "mcd": {"options": named}}


def judge(name: str, **more: Any) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return {"judges": [{"judge": name, "options": named}]}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        # Arguments of lm-eval's models.
        (model(dtyp="float32"), "models.m: baseline-hf has no argument 'dtyp': did you mean"),
        (model(batch_size=8), "models.m has batch_size, which is a key of the whole study"),
        (model(kwargs=8), "models.m: baseline-hf has no argument 'kwargs'"),
        (model(gpuz=1), "models.m: baseline-hf has no argument 'gpuz': did you mean 'gpus'?"),
        (model(device_mab="auto"), "no argument 'device_mab': did you mean 'device_map'?"),
        (condition(like="ablation", coeficient=1), "conditions.mine: ablated-hf has no argument "
         "'coeficient': did you mean 'coefficient'?"),
        (condition(like="addition", layrs="3"), "no argument 'layrs': did you mean 'layer'?"),
        (condition(like="baseline", layers="3"), "conditions.mine: baseline-hf has no argument"),
        (condition(like="baseline", direction="source"), "baseline-hf has no argument 'direction'"),
        (condition(like="baseline", qqq=1), "baseline-hf has no argument 'qqq'."),
        # Their values.
        (condition(like="ablation", method="weigths"), "models.m under the condition 'mine': "
         "method=weigths is not known; use one of auto, hooks, weights"),
        (condition(like="ablation", layers=[1, 2]), "layers=[1, 2] is not a range of layers"),
        (condition(like="addition", coefficient="much"), "coefficient=much is not a finite number"),
        (condition(like="ablation", control="rand"), "control=rand"),
        (condition(like="ablation", direction="auto", direction_seed=-1), "direction_seed=-1"),
        (condition(like="ablation", direction="sorce"), "conditions.mine.direction is 'sorce', but "
         "there is no such file or folder, and it is none of source, auto"),
        (condition(like="mcd", prompt="mistrl"), "it is none of trained, default, short, mistral"),
        (condition(like="baseline", system="no"), "system=no is not known"),
        (condition(like="baseline", chat="maybe"), "chat=maybe"),
        (condition(like="baseline", batching="often"), "batching=often is not known"),
        (condition(model="mcd"), "need a safety prompt"),
        (model(dtype="flaot16"), "models.m under the condition 'baseline': dtype=flaot16 is not a "
         "type of torch; use auto, float32 or bfloat16"),
        (model(system_file="none.txt"), "models.m.system_file is 'none.txt', but there is no such"),
        (model(parallelize=True) | {"engine": "vllm"}, "is an argument of the Hugging Face models"),
        # Options of `polyrefuse mcd train`.
        (training(epoch=3), "mcd.options: there is no option 'epoch': did you mean 'epochs'?"),
        (training(output="x"), "mcd.options has output, which the study itself sets"),
        (training(langs="en"), "mcd.options has langs"),
        (training(model="x"), "mcd.options has model"),
        (training(seed=1), "mcd.options has seed"),
        (training(dtype="float32"), "mcd.options has dtype"),
        (training(json=False), "mcd.options has json"),
        (training(epochs=0), "mcd.options.epochs is 0: `polyrefuse mcd train` accepts no such"),
        (training(epochs="many"), "mcd.options.epochs is 'many'"),
        (training(epochs=True), "mcd.options.epochs is true"),
        (training(epochs=[1]), "mcd.options.epochs is [1]: give one value"),
        (training(epochs=None), "mcd.options.epochs is null: give one value"),
        (training(mixed="no"), "mcd.options.mixed is 'no': give true or false"),
        (training(preset="papre"), "mcd.options.preset: there is no 'papre': did you mean 'paper'"),
        (training(init="mistrl"), "mcd.options.init: there is no 'mistrl': did you mean 'mistral'"),
        (training(without="norm,refusl"), "there is no 'refusl': did you mean 'refusal'?"),
        (training(dataset="costum"), "there is no 'costum': did you mean 'custom'?"),
        # Options of `polyrefuse judge run`.
        (judge("wildguard", judge_modl="x"), "judges.wildguard.options: there is no option "
         "'judge-modl': did you mean 'judge-model'?"),
        (judge("wildguard", judge="x"), "judges.wildguard.options has judge"),
        (judge("wildguard", engine="vlm"), "judges.wildguard.options.engine is 'vlm'"),
        (judge("wildguard", base_url="http://x"), "--base-url applies to --judge openai:MODEL"),
        (judge("substring", device="cpu"), "judge substring has no model"),
        (judge("openai:"), "--judge openai: asks a model behind an endpoint"),
        (judge("openai:gpt"), "--judge openai:gpt asks a model behind an endpoint"),
        (judge("openai:gpt", base_url="nowhere"), "nowhere"),
        (judge("polyguard", translate="org/x"), "the judge reads every language"),
        (judge("wildguard", dtype="flaot16"), "judges.wildguard.options.dtype: flaot16 is not a"),
        (judge("substring", datasets="toyrefuse_harmfull"), "judges.substring.options.datasets: "
         "there is no 'toyrefuse_harmfull': did you mean 'toyrefuse_harmful'?"),
        (judge("substring", languages="de, xx"), "options.languages: there is no 'xx': there are"),
        (judge("substring", languages="de") | {"languages": ["en", "yo"]}, "there is no 'de'"),
        # Names of other modules.
        ({"directions": {"dataset": "toyrefuze"}}, "directions.dataset: there is no 'toyrefuze'"),
        ({"directions": {"rule": "2505.1730"}}, "directions.rule: there is no '2505.1730'"),
        ({"generation": {"temprature": 0.5}}, "'temprature': did you mean 'temperature'"),
        ({"generation": {"max_gen_toks": "many"}}, "generation.max_gen_toks is 'many': give a"),
        ({"generation": {"max_gen_toks": 0}}, "generation.max_gen_toks is 0: give a whole number"),
        (condition(like="baseline", max_gen_toks=1.5), "conditions.mine.max_gen_toks is 1.5"),
    ],
    ids=lambda one: one[:40] if isinstance(one, str) else None,
)  # fmt: skip
def test_what_a_job_would_refuse_is_told_before(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError) as raised:
        check(tmp_path, **changed)
    sentence = str(raised.value)
    assert said in sentence
    assert "\n" not in sentence and len(sentence) < 600


@pytest.mark.parametrize(
    "changed",
    [
        model(dtype="float32", attn_implementation="eager", device_map="cpu", max_length=512),
        model(chat_template_args={"thinking": False}, use_cache=True),
        condition(like="ablation", coefficient=0.5, layers="3-5", method="hooks", rule=2406.11717),
        condition(like="random-addition", layer=2, control_seed=3),
        condition(like="ablation", direction="auto", source_lang="de", refusal_tokens="I|As"),
        condition(like="mcd", prompt="mistral"),
        condition(like="ablation+mcd", coefficient=1),
        training(epochs=2, mixed=False, learning_rate=0.001, preset="paper", without="norm"),
        judge("wildguard", engine="transformers", batch_size=3, judge_model="org/guard"),
        judge("openai:gpt", base_url="http://localhost:8000/v1", concurrency=2),
        {"directions": {"rule": 2406.11717, "dataset": "toyrefuse"}},
        {"generation": {"temperature": 0.7, "do_sample": True, "until": ["\n\n"]}},
        {"engine": "vllm"} | model(tensor_parallel_size=2, max_model_len=512),
    ],
)
def test_what_a_job_takes_is_taken(tmp_path: Path, changed: dict[str, Any]) -> None:
    check(tmp_path, **changed)


def test_a_task_that_lm_eval_does_not_have(tmp_path: Path) -> None:
    check(tmp_path, capability={"tasks": ["arc_easy", "mmlu_*", "toyrefuse"]})
    with pytest.raises(BadStudy, match="lm_eval has no task 'arc_eazy': did you mean 'arc_easy'"):
        check(tmp_path, capability={"tasks": ["arc_easy", "arc_eazy"]})
    with pytest.raises(UserError, match="capability.tasks is 'mine.yaml', but there is no such"):
        check(tmp_path, capability={"tasks": ["mine.yaml"]})


def test_options_are_read_off_the_commands_themselves() -> None:
    """Whatever a command takes, a study knows, and nothing else."""
    for group, name in (("mcd", "train"), ("judge", "run"), ("direction", "extract")):
        function = getattr(importlib.import_module(options.APPS[group]), name)
        parameters = set(inspect.signature(function).parameters) - {"results"}
        there = options.of_command(group, name)
        assert {one.name for one in there.values()} == parameters
        assert set(there) >= {"json" if one == "as_json" else one.replace("_", "-")
                              for one in parameters if one != "as_json"}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "plain"),
    [
        ({"pretrained": "org/m", "dtype": "float32", "a": True, "b": 3, "c": 0.5}, True),
        ({"a": 1e-5, "b": "3-8", "c": "~/x y", "d": "</think>"}, True),
        ({"a": -1}, False),
        ({"a": "1,2"}, False),
        ({"a": "x=y"}, False),
        ({"a": "123", "b": "1e5"}, False),
        ({"a": "true"}, False),
        ({"a": "None"}, False),
        ({"a": "[x"}, False),
        ({"a": "\u00b2"}, False),
        ({"a": " x"}, False),
        ({"a": "it's"}, False),
        ({"a": [1, "b"], "c": {"d": None}}, False),
        ({"until": ["\n\n"], "t": 0.0}, False),
    ],
)
def test_lm_eval_reads_the_arguments_that_the_file_has(
    arguments: dict[str, Any], plain: bool
) -> None:
    from lm_eval._cli.harness import HarnessCLI

    said = as_arguments(arguments)
    parsed = HarnessCLI()._parser.parse_args(
        ["run", "--model", "x", "--tasks", "y", "--model_args", said, "--gen_kwargs", said]
    )
    for read in (parsed.model_args, parsed.gen_kwargs):
        assert json.dumps(read, sort_keys=True) == json.dumps(arguments, sort_keys=True)
    assert said.startswith("{") != plain
