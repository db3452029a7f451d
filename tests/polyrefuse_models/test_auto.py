"""`direction=auto`: what is kept, for what it is used again, and what makes it extracted anew."""

from __future__ import annotations

import json
import logging
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from polyrefuse_models.chat_model import ChatModel
from polyrefuse_models.directions import artifact, auto, prompts
from polyrefuse_models.directions.auto import FOLDER, find_direction
from polyrefuse_models.directions.prompts import sample
from polyrefuse_models.directions.recipe import recipe_checksum
from polyrefuse_models.directions.select import RULES
from polyrefuse_models.weights import weights_checksum
from polyrefuse_shared.errors import UserError
from polyrefuse_tasks import data
from tests.models import make_llama
from tests.polyrefuse_models.test_directions import make_chat

TOKENS = [40, 50, 60]


@pytest.fixture
def kept(tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that this test's directions are kept in."""
    monkeypatch.setenv("POLYREFUSE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(prompts, "SIZES", {"train": 6, "val": 3})  # for speed
    return tmp_path / FOLDER


def unable(model: torch.nn.Module) -> torch.nn.Module:
    """The same model, which raises when it is run."""

    def forward(*_args: Any, **_kwargs: Any) -> None:
        raise AssertionError("the model was run")

    model.forward = forward
    return model


def find(chat: ChatModel) -> artifact.Direction:
    return find_direction(chat, sample(), tokens=TOKENS)


def test_a_direction_is_found_again_without_running_the_model(kept: Path) -> None:
    direction = find(make_chat(batch_size=32))
    (folder,) = kept.iterdir()
    chat = make_chat(batch_size=8)
    again = find(replace(chat, model=unable(chat.model)))
    assert again.sha256 == direction.sha256
    assert again.metadata == direction.metadata
    assert str(again.scores) == str(direction.scores)  # there are NaN among them
    assert list(kept.iterdir()) == [folder]


def trained_a_little(chat: ChatModel) -> ChatModel:
    """One weight of many is another; name, shapes and sizes are the same."""
    with torch.no_grad():
        chat.model.model.layers[2].mlp.up_proj.weight[3, 4] += 1e-6
    return chat


def another_template(chat: ChatModel) -> ChatModel:
    return replace(chat, render=lambda prompt: "Be brief. " + chat.render(prompt))


def another_depth_of_rope(chat: ChatModel) -> ChatModel:
    chat.model.config.rope_parameters["rope_theta"] = 5000.0
    return chat


@pytest.mark.parametrize("change", [trained_a_little, another_template, another_depth_of_rope])
def test_another_model_is_another_recipe(
    mirror: Path, change: Callable[[ChatModel], ChatModel]
) -> None:
    before = recipe_checksum(make_chat(), sample(), TOKENS)
    assert before == recipe_checksum(make_chat(batch_size=7), sample(), TOKENS)
    assert before != recipe_checksum(change(make_chat()), sample(), TOKENS)


def test_another_setting_is_another_recipe(mirror: Path) -> None:
    chat, usual = make_chat(), sample()
    keys = {
        recipe_checksum(chat, usual, TOKENS),
        recipe_checksum(chat, usual, None),
        recipe_checksum(chat, sample(seed=1), TOKENS),
        recipe_checksum(chat, sample(language="de"), TOKENS),
        recipe_checksum(chat, replace(usual, sha256={"another": "file"}), TOKENS),
        recipe_checksum(replace(chat, model=make_llama().to(torch.bfloat16)), usual, TOKENS),
        recipe_checksum(chat, usual, TOKENS, RULES["2406.11717"]),
    }
    assert len(keys) == 7


def test_weights_without_bytes_of_their_own_have_no_recipe(kept: Path) -> None:
    chat = make_chat()
    chat.model.register_buffer("sparse", torch.eye(3).to_sparse())
    with pytest.raises((RuntimeError, TypeError, NotImplementedError)):
        weights_checksum(chat.model)
    assert recipe_checksum(chat, sample(), TOKENS) is None
    direction = find_direction(chat, sample(), tokens=TOKENS)
    assert direction.metadata["recipe_sha256"] is None
    assert not (kept / FOLDER).exists()


def test_the_checksum_is_of_every_byte_of_any_type() -> None:
    model = make_llama()
    sums = {weights_checksum(model)}
    model.register_buffer("scale", torch.tensor(2.0))
    sums.add(weights_checksum(model))
    model.register_buffer("codes", torch.arange(6, dtype=torch.int8).view(2, 3).T)
    sums.add(weights_checksum(model))
    model.register_buffer("codes", torch.arange(6, dtype=torch.int8).view(2, 3))
    sums.add(weights_checksum(model))
    assert len(sums) == 4


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("direction.safetensors", b"\x80\x04."),
        ("direction.safetensors", None),
        ("scores.json", b'[{"position": -1'),
        ("metadata.json", b"[]"),
    ],
)
def test_a_damaged_one_is_extracted_anew(
    kept: Path, caplog: pytest.LogCaptureFixture, name: str, content: bytes | None
) -> None:
    direction = find(make_chat(batch_size=32))
    (folder,) = kept.iterdir()
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    assert find(make_chat(batch_size=32)).sha256 == direction.sha256
    assert "extracting the direction again" in caplog.text
    assert artifact.load(folder).sha256 == direction.sha256


def test_one_that_another_process_has_kept_meanwhile_stays(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may be reading it."""
    make = auto.make_direction
    theirs = []

    def after_another(*given: Any, **named: Any) -> artifact.Direction:
        monkeypatch.setattr(auto, "make_direction", make)
        find(make_chat(batch_size=32))
        (file,) = kept.glob("*/metadata.json")
        theirs.append(file.open())
        return make(*given, **named)

    monkeypatch.setattr(auto, "make_direction", after_another)
    find(make_chat(batch_size=32))
    (file,) = theirs
    with file:
        assert os.fstat(file.fileno()).st_nlink == 1


def test_one_that_cannot_be_ablated_is_extracted_anew(kept: Path) -> None:
    direction = find(make_chat(batch_size=32))
    (folder,) = kept.iterdir()
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    artifact.save(replace(direction, direction=torch.full((32,), torch.nan)), folder)
    assert find(make_chat(batch_size=32)).sha256 == direction.sha256
    assert artifact.load(folder).sha256 == direction.sha256


def test_what_killed_processes_left_is_in_nobody_s_way_and_goes(kept: Path) -> None:
    kept.mkdir()
    for name in (f".{'a' * 64}.{os.getpid()}.partial", f".polyrefuse-{os.getpid()}-1.partial"):
        (kept / name).mkdir()
        (kept / name / "metadata.json").write_text("{")
    find(make_chat(batch_size=32))
    assert not list(kept.glob(".polyrefuse-*"))
    assert len(list(kept.glob("[!.]*"))) == 1


def test_what_cannot_be_kept_is_used_all_the_same(
    kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept.write_text("a file where the folder should be")
    assert find(make_chat(batch_size=32)).direction.shape == (32,)
    assert "could not be kept" in caplog.text


def test_warnings_are_repeated(kept: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for _ in range(2):
        caplog.clear()
        # Three tokens in 264 of a random model are rarely more likely than all others together.
        assert find(make_chat(batch_size=32)).metadata["warnings"]
        assert "All of them were used" in caplog.text


def test_an_unknown_data_set() -> None:
    with pytest.raises(UserError, match="dataset=plyrefuse is not known; use one of polyrefuse"):
        sample("plyrefuse")


def test_toyrefuse_has_its_own_prompts() -> None:
    toy = sample("toyrefuse", "de")
    for kind, dataset in (
        (toy.harmful, "toyrefuse_harmful"),
        (toy.harmless, "toyrefuse_harmless"),
    ):
        for split, size in (("train", 128), ("val", 32)):  # 2406.11717, sec. 2.2
            assert len(kind[split]) == size
            assert set(kind[split]) <= {row.prompt for row in data.load(dataset, "de", split)}
    assert not set(toy.harmful["train"]) & set(toy.harmful["val"])


def test_a_seed_chooses_the_same_rows_in_every_language(mirror: Path) -> None:
    """By the files themselves: train rows pair by position."""
    english, german = (
        json.loads((mirror / f"polyrefuse/harmful_train_{name}.json").read_text())
        for name in ("en", "translated_de")
    )
    rows = random.Random(7).sample(range(len(english)), 128)
    assert sample(language="en", seed=7).harmful["train"] == [
        english[row]["instruction"] for row in rows
    ]
    assert sample(language="de", seed=7).harmful["train"] == [
        german[row]["instruction"] for row in rows
    ]
