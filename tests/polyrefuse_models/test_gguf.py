"""Checkpoints in a GGUF file: the same numbers, every wrapper, every command, and mistakes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import gguf
import pytest
import torch
from lm_eval.api.model import CachingLM

from polyrefuse_models.directions import artifact, prompts
from polyrefuse_models.directions.recipe import recipe_checksum
from polyrefuse_models.gguf_checkpoint import BadGguf
from polyrefuse_models.interventions.orthogonalise import NotExact, obstacle, orthogonalise
from polyrefuse_models.wrappers.hf import AblatedHF, BaselineHF, McdHF, RefusalAddedHF
from polyrefuse_models.wrappers.identity import weights_of
from polyrefuse_models.wrappers.response_cache import WrongCache
from polyrefuse_shared.errors import UserError
from tests.commands import assert_one_sentence, run_in_process
from tests.evaluations import evaluate
from tests.gguf_files import gguf_llama, gguf_tokenizer, save_gguf_chat_model
from tests.polyrefuse_models.test_generation import ask

Q8 = gguf.GGMLQuantizationType.Q8_0
Q4 = gguf.GGMLQuantizationType.Q4_1
TO_NOWHERE = ("--dataset", "toyrefuse", "--output", "never")
QUESTIONS = ("Where do glorbons grow?", "ab ba?", "Name 3 rivers in Quend.", "정원?")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three GGUF files of one random model, whole and quantised."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    for name, kind in (("f32.gguf", gguf.GGMLQuantizationType.F32), ("q8.gguf", Q8)):
        save_gguf_chat_model(folder, name, kind=kind)
    save_gguf_chat_model(folder, "q4.gguf", kind=Q4)
    return folder


@pytest.fixture
def few_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "SIZES", {"train": 6, "val": 3})  # for speed


def loaded(folder: Path, name: str = "f32.gguf", **given: object) -> BaselineHF:
    return BaselineHF(pretrained=str(folder), gguf_file=name, device="cpu", **given)


def test_the_numbers_are_those_of_the_checkpoint_that_was_converted(folder: Path) -> None:
    lm, written, tokenizer = loaded(folder), gguf_llama(), gguf_tokenizer()
    for question in QUESTIONS:
        ids = lm.tokenizer(lm.render(question), add_special_tokens=False).input_ids
        assert ids == tokenizer(lm.render(question), add_special_tokens=False).input_ids
        with torch.no_grad():
            found, expected = (m(torch.tensor([ids])).logits for m in (lm.model, written))
        assert torch.equal(found, expected)
    assert lm.tokenizer.chat_template == tokenizer.chat_template
    assert lm.tokenizer.pad_token == "<pad>"
    assert lm.tokenizer.eos_token == "</s>"


@pytest.mark.parametrize("name", ["f32.gguf", "q8.gguf", "q4.gguf"])
def test_hooks_and_edited_weights_give_the_same_answers(folder: Path, name: str) -> None:
    """Though transformers calls the model quantised, its weights are numbers, and are edited."""
    direction = torch.randn(32, generator=torch.Generator().manual_seed(1))
    path = folder.parent / f"direction-of-{name}"
    artifact.save(
        artifact.Direction(direction, direction[None, None], [], {"position": -1, "layer": 0}), path
    )
    answers = {}
    for method in ("auto", "weights", "hooks"):
        lm = AblatedHF(
            pretrained=str(folder),
            gguf_file=name,
            device="cpu",
            direction=str(path),
            method=method,
        )
        expected = "hooks" if method == "hooks" else "weights"
        assert lm.identity()["method"] == expected
        requests = [ask(question, max_gen_toks=12) for question in QUESTIONS]
        answers[method] = lm.generate_until(requests)
    assert answers["auto"] == answers["weights"] == answers["hooks"]
    baseline = loaded(folder, name)
    assert answers["hooks"] != baseline.generate_until(
        [ask(question, max_gen_toks=12) for question in QUESTIONS]
    )


def test_packed_blocks_are_left_to_hooks(folder: Path) -> None:
    """transformers keeps them where it has a kernel; here one is made to look like that."""
    model = loaded(folder).model
    assert obstacle(model) is None
    down = model.model.layers[2].mlp.down_proj
    down.weight = torch.nn.Parameter(torch.zeros(32, 64, dtype=torch.uint8), requires_grad=False)
    assert obstacle(model) == "the model is quantised"
    with pytest.raises(NotExact, match="the model is quantised; use method=hooks"):
        orthogonalise(model, torch.ones(32))


@pytest.mark.parametrize("wrapper", ["baseline-hf", "ablated-hf", "refusal-added-hf", "mcd-hf"])
def test_every_wrapper_by_lm_eval(folder: Path, few_prompts: None, wrapper: str) -> None:
    beside = {
        "baseline-hf": "",
        "ablated-hf": ",dataset=toyrefuse",
        "refusal-added-hf": ",dataset=toyrefuse",
        "mcd-hf": ",prompt=short",
    }[wrapper]
    results = evaluate(
        wrapper,
        ["toyrefuse_harmful_en"],
        model_args=f"pretrained={folder},gguf_file=q8.gguf,device=cpu{beside}",
        limit=2,
        gen_kwargs="max_gen_toks=3",
    )
    config = results["config"]
    assert config["model_arguments"] == {"gguf_file": "q8.gguf"}
    assert config["weights"].startswith("checksum:")
    assert results["n-samples"]["toyrefuse_harmful_en"]["effective"] == 2


def test_commands_name_the_file(folder: Path, tmp_path: Path, few_prompts: None) -> None:
    asked = ("--model", folder, "--gguf-file", "q8.gguf", "--dataset", "toyrefuse")
    runs = {
        "direction": ("direction", "extract"),
        "geometry": ("direction", "geometry", "--langs", "de", "--limit", 3),
        "transfer": ("direction", "transfer", "--source-langs", "en", "--limit", 2),
    }
    beside = {
        "geometry": ("--direction", tmp_path / "direction"),
        "transfer": ("--max-gen-toks", 3),
    }
    for name, command in runs.items():
        output = ("--output", tmp_path / name)
        code, _, err = run_in_process(*command, *asked, *beside.get(name, ()), *output)
        assert code == 0, err
        assert "was extracted from" not in err
    for document in ("direction/metadata", "geometry/geometry", "transfer/transfer"):
        told = json.loads((tmp_path / f"{document}.json").read_text())
        assert (told["model"], told["gguf_file"]) == (str(folder), "q8.gguf")


@pytest.mark.slow
def test_a_soft_prompt_is_trained_for_the_file(folder: Path, tmp_path: Path) -> None:
    code, _, err = run_in_process(
        *("mcd", "train", "--model", folder, "--gguf-file", "q4.gguf", "--dataset", "toyrefuse"),
        *("--langs", "en", "--answers", 2, "--max-gen-toks", 4, "--epochs", 1),
        *("--init", "short", "--output", tmp_path / "prompt"),
    )
    assert code == 0, err
    assert json.loads((tmp_path / "prompt/metadata.json").read_text())["gguf_file"] == "q4.gguf"
    lm = McdHF(
        pretrained=str(folder), gguf_file="q4.gguf", prompt=str(tmp_path / "prompt"), device="cpu"
    )
    assert lm.generate_until([ask(QUESTIONS[0], max_gen_toks=3)])


def test_an_artifact_of_another_file_is_warned_of(
    folder: Path, tmp_path: Path, few_prompts: None, caplog: pytest.LogCaptureFixture
) -> None:
    run_in_process(
        *("direction", "extract", "--model", folder, "--gguf-file", "q8.gguf"),
        *("--dataset", "toyrefuse", "--output", tmp_path / "of-q8"),
    )
    for name, warned in (("q8.gguf", False), ("q4.gguf", True)):
        caplog.clear()
        given = {"pretrained": str(folder), "gguf_file": name, "device": "cpu"}
        RefusalAddedHF(**given, direction=str(tmp_path / "of-q8"))
        said = (
            f"The direction was extracted from {folder} (revision None, q8.gguf), but this model "
            f"is {folder} (revision None, q4.gguf)."
        )
        assert (said in caplog.text) == warned


def test_files_of_one_folder_are_different_models(folder: Path, tmp_path: Path) -> None:
    one, other = loaded(folder, "q8.gguf"), loaded(folder, "q4.gguf")
    assert one.weights != other.weights
    CachingLM(one, str(tmp_path / "answers.db"))
    with pytest.raises(WrongCache):
        CachingLM(other, str(tmp_path / "answers.db"))


def test_a_commit_of_the_hub_may_have_many_files(folder: Path) -> None:
    lm = loaded(folder, "q8.gguf")
    lm.model.config._commit_hash = "c0ffee"
    lm.pretrained = "gardeners/tiny-gguf"  # a name on the hub
    assert weights_of(lm).startswith("checksum:")


def test_a_recipe_knows_neither_folder_nor_name(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(folder / "q8.gguf", tmp_path / "elsewhere" / "renamed.gguf")
    chosen = prompts.sample("toyrefuse", "en")
    sums = [
        recipe_checksum(loaded(where, name).chat_model, chosen, [5])
        for where, name in (
            (folder, "q8.gguf"),
            (tmp_path / "elsewhere", "renamed.gguf"),
            (folder, "q4.gguf"),
        )
    ]
    assert sums[0] == sums[1] != sums[2]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "missing.gguf",
            r"missing\.gguf cannot be read \(No such file or directory\); give one of "
            r"its GGUF files \(f32\.gguf, q4\.gguf, q8\.gguf\) as gguf_file",
        ),
        ("", "gguf_file= is not the name of a file in"),
        ("/etc/passwd", "gguf_file=/etc/passwd is not the name of a file in"),
        ("../tiny-llama/q8.gguf", "is not the name of a file in"),
        ("q\0.gguf", "its name holds a NUL byte"),
        (
            None,
            r"no config\.json; give one of its GGUF files \(f32\.gguf, q4\.gguf, q8\.gguf\)",
        ),
    ],
)
def test_mistakes(folder: Path, name: str | None, said: str) -> None:
    with pytest.raises(BadGguf, match=said) as raised:
        BaselineHF(pretrained=str(folder), gguf_file=name, device="cpu")
    assert "\n" not in str(raised.value)
    command = ("direction", "extract", "--model", folder, *TO_NOWHERE)
    if name is not None and "\0" not in name:
        assert_one_sentence(run_in_process(*command, "--gguf-file", name))
    elif name is None:
        assert_one_sentence(run_in_process(*command), "f32.gguf, q4.gguf, q8.gguf")


def test_what_is_no_gguf_or_half_of_one(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("glorbon")
    content = (folder / "f32.gguf").read_bytes()
    for name, part in (("half.gguf", len(content) // 2), ("head.gguf", 30), ("end.gguf", -3)):
        (tmp_path / name).write_bytes(content[:part])
    command = ("direction", "extract", "--model", tmp_path, *TO_NOWHERE)
    assert_one_sentence(
        run_in_process(*command, "--gguf-file", "text.gguf"), "does not begin with GGUF"
    )
    for name in ("half.gguf", "head.gguf", "end.gguf"):
        assert_one_sentence(run_in_process(*command, "--gguf-file", name), "cannot be loaded")


def test_a_file_needs_a_model() -> None:
    for given in ({}, {"pretrained": gguf_llama(), "tokenizer": gguf_tokenizer()}):
        with pytest.raises(UserError, match="gguf_file=x needs pretrained="):
            BaselineHF(gguf_file="x", device="cpu", **given)


def test_without_the_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyrefuse_models.gguf_checkpoint.find_spec", lambda _name: None)
    with pytest.raises(BadGguf, match=r"run pip install 'lm-eval-polyrefuse\[gguf\]'\."):
        loaded(folder)


def test_a_file_of_the_current_folder_is_not_taken_for_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers looks there first for weights, and in the model's folder for the tokenizer."""
    save_gguf_chat_model(tmp_path, "q8.gguf", seed=7)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadGguf, match="is also a file in the current folder"):
        loaded(folder, "q8.gguf")
    with pytest.raises(BadGguf, match="is also a file in the current folder"):
        BaselineHF(pretrained="gardeners/tiny-gguf", gguf_file="q8.gguf", device="cpu")
    monkeypatch.chdir(folder)
    assert loaded(folder, "q8.gguf").model.config.gguf_file == "q8.gguf"
    assert os.getcwd() == str(folder)
