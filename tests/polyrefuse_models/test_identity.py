"""A response cache is served to the model that wrote it, and to no other."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.model import CachingLM
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from polyrefuse_models.weights import weights_identity
from polyrefuse_models.wrappers.hf import AblatedHF, BaselineHF
from polyrefuse_models.wrappers.identity import model_arguments
from polyrefuse_models.wrappers.response_cache import WrongCache
from tests.models import TEMPLATE, make_llama, make_tokenizer, save_chat_model
from tests.polyrefuse_models.test_generation import ask

Change = Callable[[Path], dict[str, Any] | None]
"""What happens to a model's folder; returns the arguments that it is loaded with afterwards."""


def accepts(cache: Path, folder: Path, **given: Any) -> BaselineHF:
    lm = BaselineHF(pretrained=str(folder), **{"device": "cpu"} | given)
    CachingLM(lm, str(cache)).generate_until([ask("What is a glimmerfish?")])
    return lm


@pytest.fixture
def folder(chat_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(chat_model, tmp_path / "model"))


def other_weights(folder: Path) -> None:
    """Another training of the architecture, with the times of the first one's files."""
    path = folder / "model.safetensors"
    before = path.stat()
    weights = load_file(path)
    weights["model.norm.weight"][0] += 0.5
    save_file(weights, path, metadata={"format": "pt"})
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def other_template(folder: Path) -> None:
    make_tokenizer(TEMPLATE.replace("<|assistant|>\n", "<|assistant|>")).save_pretrained(folder)


def trimming_template(folder: Path) -> None:
    trimmed = TEMPLATE.replace("message.content", "message.content | trim")
    make_tokenizer(trimmed).save_pretrained(folder)


def system_of_the_template(folder: Path) -> None:
    begun = "{{ bos_token }}<|system|>Be kind.<|end|>"
    make_tokenizer(TEMPLATE.replace("{{ bos_token }}", begun)).save_pretrained(folder)


def tokenizer_of_another(folder: Path) -> dict[str, Any]:
    tokenizer = make_tokenizer()
    # The same tokens for all that has no 🪑 in it.
    tokenizer.add_tokens(["🪑"])
    tokenizer.save_pretrained(folder.parent / "tokenizer")
    return {"tokenizer": str(folder.parent / "tokenizer")}


def edit(name: str, **settings: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        told = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(told | settings))

    return change


def a_lora(folder: Path) -> dict[str, Any]:
    from peft import LoraConfig, get_peft_model

    base = AutoModelForCausalLM.from_pretrained(folder)
    config = LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(folder.parent / "lora")
    return {"peft": str(folder.parent / "lora")}


def trained_lora(folder: Path) -> dict[str, Any]:
    path = folder.parent / "lora" / "adapter_model.safetensors"
    save_file({name: weight * 2 for name, weight in load_file(path).items()}, path)
    return {"peft": str(path.parent)}


def arguments(**given: Any) -> Change:
    return lambda _folder: given


CHANGES: dict[str, tuple[Change, str]] = {
    "weights": (other_weights, r"weights=checksum:[0-9a-f]{12}… .now checksum:[0-9a-f]{12}…"),
    "template": (other_template, "rendered_sha256="),
    "template that trims": (trimming_template, "rendered_sha256="),
    "template with a system text": (system_of_the_template, "rendered_sha256="),
    "tokenizer": (tokenizer_of_another, "tokenizer_sha256="),
    "dtype": (arguments(dtype="bfloat16"), "dtype=float32 .now bfloat16"),
    "config": (edit("config.json", rms_norm_eps=0.1), "model_config="),
    "tokens that end answers": (
        edit("generation_config.json", eos_token_id=[1, 6]),
        r"generation_settings.eos_token_id=1 .now \[1, 6\]",
    ),
    "truncation": (arguments(truncation=True), "truncation=False .now True"),
    "window": (arguments(max_length=512), "max_length=4096 .now 512"),
    "adapter": (a_lora, "peft=None"),
    "tokens in front": (arguments(add_bos_token=True), "model_arguments.add_bos_token=None"),
    "what from_pretrained takes": (
        arguments(rope_parameters={"rope_theta": 9.0, "rope_type": "default"}),
        "model_arguments.rope_parameters.rope_theta=None .now 9.0.*model_config=",
    ),
    "attention": (arguments(attn_implementation="eager"), "attn_implementation=sdpa .now eager"),
    "autocast": (arguments(mixed_precision_dtype="bfloat16"), "mixed_precision_dtype"),
    "template arguments": (arguments(chat_template_args={"a": 1}), "chat_template_args.a=None"),
    "end of reasoning": (arguments(think_end_token=7), "think_end_token=None .now 7"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_model_is_not_served_the_old_answers(folder: Path, change: str) -> None:
    alter, told = CHANGES[change]
    cache = folder.parent / "answers.db"
    before = accepts(cache, folder).identity()
    given = alter(folder) or {}
    with pytest.raises(WrongCache, match=told):
        accepts(cache, folder, **given)
    assert BaselineHF(pretrained=str(folder), **{"device": "cpu"} | given).identity() != before


def test_an_adapter_trained_on_is_another(folder: Path) -> None:
    given, cache = a_lora(folder), folder.parent / "answers.db"
    accepts(cache, folder, **given)
    accepts(cache, folder, **given)
    trained_lora(folder)
    with pytest.raises(WrongCache, match="weights="):
        accepts(cache, folder, **given)


SAME: dict[str, Change] = {
    "nothing": arguments(),
    "batch size": arguments(batch_size=4),
    "device": arguments(device=None),
    "dtype by name": arguments(dtype="float32"),
    "window by name": arguments(max_length=4096),
    "logits cache": arguments(logits_cache=False),
    "what is set aside": edit("generation_config.json", repetition_penalty=5.0, top_k=3),
    "a file beside": lambda folder: (folder / "README.md").write_text("Tea.") and None,
    "times": lambda folder: os.utime(folder / "model.safetensors"),
    "tokenizer by name": lambda folder: {"tokenizer": str(folder)},
}


@pytest.mark.parametrize("change", SAME)
def test_the_same_model_is(folder: Path, change: str) -> None:
    cache = folder.parent / "answers.db"
    before = accepts(cache, folder).identity()
    lm = accepts(cache, folder, **(SAME[change](folder) or {}))
    assert lm.identity() == before
    # After it has answered, too: tokenizers keep traces of their last call.
    assert lm.identity() == before


def test_weights_are_told_before_they_are_edited(chat_model: Path, tmp_path: Path) -> None:
    save_file({"direction": torch.ones(32)}, tmp_path / "r.safetensors")
    given = {"direction": str(tmp_path / "r.safetensors"), "device": "cpu"}
    by = {
        method: AblatedHF(pretrained=str(chat_model), method=method, **given).identity()
        for method in ("weights", "hooks")
    }
    assert by["weights"]["weights"] == by["hooks"]["weights"]
    differing = {key for key in by["hooks"] if by["hooks"][key] != by["weights"].get(key)}
    assert differing == {"method"}


def test_arguments_that_are_told() -> None:
    given = {"subfolder": "v2", "gguf_file": "q4.gguf", "load_in_4bit": True, "dtype": "auto"}
    spread = {"device": "cpu", "batch_size": 3, "parallelize": True, "device_map": "auto"}
    secret = {"token": "hidden", "use_auth_token": "hidden"}
    told = model_arguments(given | spread | secret | {"torch_dtype": torch.float16, "x": None})
    assert told.keys() == {"subfolder", "gguf_file", "load_in_4bit", "torch_dtype"}
    assert json.loads(json.dumps(told)) == told


# --- how weights are proved


def test_a_snapshot_of_the_hub_is_its_commit() -> None:
    model = make_llama()
    model.config._commit_hash = "a" * 40
    assert weights_identity(model, of_the_hub=True) == f"commit:{'a' * 40}"
    assert weights_identity(model, of_the_hub=False).startswith("checksum:")


def test_weights_on_the_disk_are_their_files(tmp_path: Path) -> None:
    save_chat_model(tmp_path)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(make_llama().config)
    model.config._name_or_path = str(tmp_path)
    told = weights_identity(model, of_the_hub=False)
    assert told.startswith("files:") and told == weights_identity(model, of_the_hub=False)
    os.utime(tmp_path / "model.safetensors", (1, 1))
    assert told != weights_identity(model, of_the_hub=False)
    model.config._name_or_path = "invented/nowhere"
    nowhere = weights_identity(model, of_the_hub=False)
    assert nowhere != weights_identity(model, of_the_hub=False)  # nothing proves it
