"""`polyrefuse mcd train`: the artifact it writes, and one sentence for each mistake."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import polyrefuse
from polyrefuse_models import chat_model as chat_model_module
from polyrefuse_models.chat_model import ChatModel
from polyrefuse_models.mcd import anchors, artifact, train
from polyrefuse_models.mcd.anchors import Anchors
from polyrefuse_models.mcd.checkpoint import Checkpoint
from polyrefuse_shared.drafts import locked
from polyrefuse_shared.errors import UserError
from tests.models import save_chat_model

NO_PLACE = "{% for message in messages %}{{ message.role }}{% endfor %}"


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `polyrefuse mcd train`."""
    monkeypatch.setattr(sys, "argv", ["polyrefuse", "mcd", "train", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        polyrefuse.main()
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


@pytest.fixture
def few_anchors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four rows of each kind, for time's sake."""
    whole = anchors.load_anchors

    def load(dataset: str, languages: list[str]) -> Anchors:
        every = whole(dataset, languages)
        harmful, harmless = (
            {lang: rows[:4] for lang, rows in kind.items()}
            for kind in (every.harmful, every.harmless)
        )
        ids = every.ids[:4] + every.ids[len(every.ids) // 2 :][:4]
        return replace(every, harmful=harmful, harmless=harmless, ids=ids)

    monkeypatch.setattr(anchors, "load_anchors", load)


QUICK = ("--answers", 2, "--max-gen-toks", 4, "--epochs", 1, "--init", "short")


@pytest.mark.parametrize(("asked", "rows"), [((), 64), (("1",), 8), (("20",), 20)])
def test_the_rows_of_a_pass_do_not_follow_the_device(
    asked: tuple[str, ...],
    rows: int,
    chat_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(chat: ChatModel, *_more: object) -> None:
        raise UserError(f"{chat.batch_size} rows")

    monkeypatch.setattr(chat_model_module, "default_rows", lambda _device: 999)
    monkeypatch.setattr(train, "train", stop)
    given = ["--model", chat_model, "--dataset", "toyrefuse", "--langs", "en"]
    more = [word for number in asked for word in ("--batch-size", number)]
    code, _, err = run(monkeypatch, capsys, *given, *more, "--output", tmp_path / "prompt")
    assert code == 2
    assert f"polyrefuse: {rows} rows\n" in err and "999 rows" not in err


def test_an_artifact_by_one_command(
    few_anchors: None,
    chat_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "new" / "prompt"
    given = ["--model", chat_model, "--dataset", "toyrefuse", "--langs", "en,de", *QUICK]
    code, out, _ = run(monkeypatch, capsys, *given, "--output", output, "--json")
    assert code == 0
    result = json.loads(out)
    prompt = artifact.load(output)
    assert result["sha256"] == prompt.sha256
    assert result["tokens"] == len(prompt.vectors)
    assert {path.name for path in output.iterdir()} == {
        "soft_prompt.safetensors",
        "metadata.json",
        *(f"{name}.{end}" for name in ("training", "states") for end in ("json", "png", "svg")),
    }
    assert [path.name for path in output.parent.iterdir()] == ["prompt"]  # no checkpoint is left
    metadata = prompt.metadata
    assert metadata["languages"] == ["en", "de"]
    assert metadata["settings"]["learning_rate"] == 3e-4
    assert metadata["anchors"]["overlap"] == {"toyrefuse_harmful": [], "toyrefuse_harmless": []}
    assert set(metadata["anchors"]["sha256"]) == {
        f"toyrefuse_{kind}/train/{lang}"
        for kind in ("harmful", "harmless")
        for lang in ("en", "de")
    }
    code, out, err = run(monkeypatch, capsys, *given, "--output", output)
    assert (code, out) == (2, "")
    assert "exists already" in err

    paper = tmp_path / "paper"
    more = ["--preset", "paper", "--without", "norm,multilingual", "--mixed", "--system", "none"]
    assert run(monkeypatch, capsys, *given, *more, "--output", paper)[0] == 0
    settings = artifact.load(paper).metadata["settings"]
    assert (metadata["system"], metadata["system_text"]) == ("template", None)
    assert artifact.load(paper).metadata["system"] == "none"
    assert settings["weights"] == {
        "refusal": 1.0,
        "harmfulness": 1e-2,
        "norm": 0.0,
        "multilingual": 0.0,
    }
    assert (settings["learning_rate"], settings["pivot"], settings["mixed"]) == (1e-3, True, True)
    assert not torch.equal(artifact.load(paper).vectors, prompt.vectors)


def test_killed_after_the_artifact_the_same_command_ends_as_if_it_had_not_been(
    few_anchors: None,
    chat_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output, left = tmp_path / "prompt", tmp_path / ".prompt.train"
    given = ["--model", chat_model, "--dataset", "toyrefuse", "--langs", "en", *QUICK]
    given += ["--output", output, "--json"]

    def killed(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "remove", killed)
        patched.setattr(sys, "argv", ["polyrefuse", "mcd", "train", *map(str, given)])
        with pytest.raises((RuntimeError, SystemExit)):
            polyrefuse.main()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".prompt.train", "prompt"]
    capsys.readouterr()
    with locked(left, patience=0):
        code, out, err = run(monkeypatch, capsys, *given)
        assert (code, out) == (2, "")
        assert f"Another process is writing to {left}" in err
    # Another prompt in its place is not taken for it.
    kept = Path(shutil.copytree(output, tmp_path / "kept"))
    vectors = artifact.load(output).vectors
    shutil.rmtree(output)
    artifact.save(artifact.Prompt(vectors + 1, {}), output)
    code, _, err = run(monkeypatch, capsys, *given)
    assert (code, "exists already" in err) == (2, True)
    shutil.rmtree(output)
    kept.rename(output)
    with monkeypatch.context() as patched:
        patched.setattr(train, "train", lambda *_: pytest.fail("trained again"))
        code, out, _ = run(patched, capsys, *given)
    assert code == 0
    assert json.loads(out)["sha256"] == artifact.load(output).sha256
    assert [path.name for path in tmp_path.iterdir()] == ["prompt"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--langs", "en", "--preset", "best"), "--preset best is not known; use one of default"),
        (("--langs", "en", "--init", "long"), "--init long is not known; use one of default"),
        (("--langs", "en", "--without", "norm,x"), "--without x is not known; use one of refusal"),
        (("--langs", " , "), "names no language"),
        (("--langs", "en,xx"), "'xx'"),
        (("--langs", "en", "--dataset", "advbench"), "dataset=advbench is not known"),
        (("--langs", "en", "--dtype", "float17"), "--dtype float17"),
        (("--langs", "en", "--model", "/nowhere/glorbon"), "/nowhere/glorbon cannot be loaded"),
        (
            ("--langs", "en", "--without", "refusal,harmfulness,norm,multilingual"),
            "nothing would be trained",
        ),
    ],
)
def test_one_sentence_a_mistake(
    given: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = given if "--dataset" in given else (*given, "--dataset", "toyrefuse")
    code, out, err = run(monkeypatch, capsys, *options, "--output", tmp_path / "prompt")
    assert (code, out) == (2, "")
    (sentence,) = [line for line in err.splitlines() if line.startswith("polyrefuse: ")]
    assert said in sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("template", "said"),
    [(None, "no chat template"), (NO_PLACE, "does not write what the user says")],
)
def test_a_template_without_a_place(
    template: str | None,
    said: str,
    few_anchors: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_chat_model(tmp_path / "model", template)
    given = ["--model", tmp_path / "model", "--dataset", "toyrefuse", "--langs", "en", *QUICK]
    code, out, err = run(monkeypatch, capsys, *given, "--output", tmp_path / "prompt")
    assert (code, out) == (2, "")
    assert said in err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_window_too_short(
    few_anchors: None,
    chat_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["--model", chat_model, "--dataset", "toyrefuse", "--langs", "en", *QUICK]
    code, out, err = run(
        monkeypatch, capsys, *given, "--max-gen-toks", 4090, "--output", tmp_path / "prompt"
    )
    assert (code, out) == (2, "")
    assert "the model's window has 4096" in err.splitlines()[-1]
    assert not list(tmp_path.iterdir())
