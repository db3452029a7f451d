"""Judges that cannot be loaded or run: what the hub may answer, played by a server of this test,
files that are damaged, and options that fit no model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest
from safetensors.torch import load_file, save_file

from polyrefuse_tasks.judges import Judgement
from polyrefuse_tasks.judges.registry import UnknownJudge, revision_of
from tests.commands import assert_one_sentence, run_in_process
from tests.conftest import ROOT
from tests.leaderboard.result_files import task, write_run
from tests.models import save_chat_model

LAYERS = 2
WEIGHTS = "model.safetensors"


class Hub(BaseHTTPRequestHandler):
    """Answers for each model as the hub does: gated, or not there."""

    def do_HEAD(self) -> None:
        status, code, message = (
            (403, "GatedRepo", "Access to this model is restricted.")
            if "Guard" in self.path
            else (401, "RepoNotFound", "Repository not found")
        )
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_run(tmp_path / "results", [task("harmful", "en", "rc")])
    return tmp_path / "results"


def test_what_the_hub_answers(hub: str, results: Path, tmp_path: Path) -> None:
    """In a process of its own, because the hub's address is read when it is imported."""
    before = sorted(results.rglob("*"))
    asked = {
        ("--judge", "llamaguard2"): ["Meta-Llama-Guard-2-8B", "gated", "hf auth login"],
        ("--judge", "polyguard", "--judge-model", "nobody/nothing"): [
            "nobody/nothing",
            "hf auth login",
        ],
    }
    commands = [["judge", "run", str(results), *judge] for judge in asked]
    code = (
        "import json, sys\n"
        "from tests.commands import run_in_process\n"
        "done = [run_in_process(*command) for command in json.loads(sys.argv[1])]\n"
        "print(json.dumps(done))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)],
        env=os.environ
        | {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hub")},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for ended, told in zip(json.loads(done.stdout), asked.values(), strict=True):
        assert_one_sentence(ended, *told)
    assert sorted(results.rglob("*")) == before


@pytest.mark.parametrize("named", ["nowhere/", "empty", "file"])
def test_a_folder_without_a_model(named: str, results: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    arguments = ("--judge", "qwen3guard", "--judge-model", tmp_path / named)
    result = run_in_process("judge", "run", results, *arguments)
    assert_one_sentence(result, str(tmp_path / named), "not a folder with a model")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "whole"
    save_chat_model(folder, layers=LAYERS)
    return folder


def judge_with(folder: Path, results: Path, *options: str) -> tuple[int, str, str]:
    arguments = ("--judge", "polyguard", "--judge-model", folder, *options)
    return run_in_process("judge", "run", results, *arguments)


def assert_refused(folder: Path, results: Path, *told: str, options: Sequence[str] = ()) -> None:
    """One sentence that names these, does not speak of the hub, and no file of labels."""
    result = judge_with(folder, results, *options)
    assert_one_sentence(result, *told)
    assert "hf auth login" not in result[2] and "package" not in result[2]
    assert not list(results.rglob("judged_*"))


def holds(name: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return change


def configured(**settings: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))

    return change


def cut(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def pickled_junk(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"junk")


def without_a_layer(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    kept = {name: each for name, each in weights.items() if ".layers.1." not in name}
    assert 0 < len(kept) < len(weights)
    save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            without_a_layer,
            "lack tensors that their configuration asks for: 9, such as model.layers.1.",
        ),
        (configured(num_hidden_layers=LAYERS + 1), "model.layers.2."),
        (configured(model_type="bert"), "bert.embeddings."),
        (
            configured(num_hidden_layers=LAYERS - 1),
            "more layers than their configuration: 9, such as",
        ),
        (configured(vocab_size=300), "lm_head.weight ([264, 32] and not [300, 32])"),
        (configured(hidden_size=16, head_dim=8), "model.embed_tokens.weight ([264, 32] and not"),
        *((holds("config.json", content), "") for content in (b"[]", b"5", b"null", b"{", b"\xff")),
        (holds("config.json", b'{"model_type": []}'), ""),
        (configured(hidden_size="x"), "hidden_size"),
        (configured(max_position_embeddings="x"), "max_position_embeddings"),
        (configured(num_attention_heads=0), ""),
        (cut, "SafetensorError"),
        (holds(WEIGHTS, b""), "SafetensorError"),
        (pickled_junk, ""),
        (holds("tokenizer.json", b"{}"), "KeyError"),
        (holds("tokenizer_config.json", b"[]"), ""),
        (holds("generation_config.json", b"[]"), ""),
        (holds("generation_config.json", b'{"eos_token_id": "x"}'), "eos_token_id 'x'"),
        (holds("generation_config.json", b'{"eos_token_id": [1, "x"]}'), "eos_token_id [1, 'x']"),
    ],
)
def test_damaged_folders(
    damage: Callable[[Path], None], told: str, whole: Path, results: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(whole, folder)
    damage(folder)
    assert_refused(folder, results, str(folder), told)


@pytest.mark.parametrize("device", ["cuda:99", "xpu", "foo", "meta"])
def test_devices_that_are_not_there(device: str, whole: Path, results: Path) -> None:
    assert_refused(whole, results, f"--device {device} ", options=("--device", device))


@pytest.mark.parametrize("dtype", ["Tensor", "nn", "float8_e4m3fn", "int8", "foo", ""])
def test_types_that_no_model_computes_in(dtype: str, whole: Path, results: Path) -> None:
    assert_refused(whole, results, f"--dtype {dtype!r} ", "bfloat16", options=("--dtype", dtype))


@pytest.mark.parametrize("dtype", ["auto", "half"])
def test_half_of_a_surrogate_pair_is_judged(dtype: str, whole: Path, tmp_path: Path) -> None:
    answers = ["Here it is: HIGH and so on.", "Not LOW.", "A plain answer."]
    write_run(tmp_path, [task("harmful", "en", "rcc", answers=answers)])
    (samples,) = tmp_path.rglob("samples_*")
    written = samples.read_text().replace("HIGH", "\\ud800").replace("LOW", "\\udfff")
    samples.write_text(written)
    code, _, err = judge_with(whole, tmp_path, "--dtype", dtype, "--device", "cpu")
    assert (code, err) == (0, "")
    (labels,) = tmp_path.rglob("judged_*")
    verdicts = [json.loads(line) for line in labels.read_text().splitlines()]
    assert len(verdicts) == len(answers)
    assert {one["evidence"].partition(":")[0] for one in verdicts} == {"unparsed verdict"}


def test_tokens_that_the_model_does_not_have(whole: Path, results: Path, tmp_path: Path) -> None:
    """They are an error of the first forward pass."""
    folder = tmp_path / "fewer-tokens"
    shutil.copytree(whole, folder)
    weights = load_file(folder / WEIGHTS)
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        weights[name] = weights[name][:20].clone()
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    configured(vocab_size=20)(folder)
    assert_refused(folder, results, f"{folder} cannot run (", options=("--device", "cpu"))


class Failing:
    """A judge whose revision cannot be told."""

    name, english_only = "failing", False
    measures: Literal["harm"] = "harm"

    @property
    def revision(self) -> str:
        raise AttributeError("what is within")

    def judge(self, *batch: object) -> list[Judgement]:
        return []


def test_a_revision_that_fails_is_no_unknown_judge() -> None:
    with pytest.raises(AttributeError, match="what is within"):
        revision_of(Failing())


def test_a_judge_may_have_no_revision() -> None:
    class Plain(Failing):
        revision: Any = None

    with pytest.raises(UnknownJudge):
        revision_of(Plain())
