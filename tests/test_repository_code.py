"""No command runs code of a model's repository, whatever is answered to transformers' question."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from polyrefuse_models.wrappers.hf import BaselineHF
from tests.commands import assert_one_sentence, run_in_process
from tests.models import save_chat_model

CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

Path({marker!r}).touch()


class Config(LlamaConfig):
    model_type = "invented"


class Model(LlamaForCausalLM):
    config_class = Config


class Tokenizer(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "ran"


@pytest.fixture(params=["config", "tokenizer"])
def repository(request: pytest.FixtureRequest, tmp_path: Path, marker: Path) -> Path:
    """A model whose configuration, or whose tokenizer, is code of its own."""
    folder = tmp_path / "repository"
    save_chat_model(folder)
    (folder / "code.py").write_text(CODE.format(marker=str(marker)))
    changed = {
        "config": (
            "config.json",
            {
                "model_type": "invented",
                "auto_map": {
                    "AutoConfig": "code.Config",
                    "AutoModelForCausalLM": "code.Model",
                    "AutoModelForSeq2SeqLM": "code.Model",
                },
            },
        ),
        "tokenizer": (
            "tokenizer_config.json",
            {
                "tokenizer_class": "Tokenizer",
                "auto_map": {"AutoTokenizer": [None, "code.Tokenizer"]},
            },
        ),
    }
    name, entries = changed[request.param]
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))
    return folder


COMMANDS = {
    "data translate": ("--dataset", "toyrefuse_harmful", "--to", "da"),
    "direction extract": ("--dataset", "toyrefuse", "--output", "new"),
    "direction transfer": ("--source-langs", "en", "--dataset", "toyrefuse", "--output", "new"),
    "mcd train": ("--langs", "en", "--dataset", "toyrefuse", "--output", "new"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_runs_it(
    command: str, repository: Path, marker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 10))
    code, out, err = run_in_process(*command.split(), *COMMANDS[command], "--model", repository)
    assert "[y/N]" not in out + err
    assert not marker.exists()
    assert code == 2, err
    assert "Traceback" not in err


def test_piped_into_the_command(repository: Path, marker: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "polyrefuse", "data", "translate", "--model", repository]
        + list(COMMANDS["data translate"]),
        input="y\n" * 10,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"POLYREFUSE_CACHE_DIR": str(tmp_path / "cache")},
    )
    assert_one_sentence(
        (done.returncode, done.stdout, done.stderr.splitlines(keepends=True)[-1]), str(repository)
    )
    assert not marker.exists()


@pytest.mark.parametrize("repository", ["config"], indirect=True)
def test_lm_eval_runs_it_where_it_is_told_to(
    repository: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 10))
    with pytest.raises(ValueError, match="trust_remote_code"):
        BaselineHF(pretrained=str(repository))
    assert not marker.exists()
    BaselineHF(pretrained=str(repository), trust_remote_code=True)
    assert marker.exists()
