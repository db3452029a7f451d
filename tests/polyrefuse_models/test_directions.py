"""Extraction, refusal scores, the search and the artifact, against references computed apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from polyrefuse_models.chat_model import ChatModel
from polyrefuse_models.directions import artifact
from polyrefuse_models.directions.artifact import BadDirection, Direction
from polyrefuse_models.directions.extract import difference_of_means, observe
from polyrefuse_models.directions.prompts import sample
from polyrefuse_models.directions.recipe import make_direction
from polyrefuse_models.directions.refusal import refusal_scores, refusal_tokens
from polyrefuse_models.directions.select import Candidate
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.writing import CannotWrite, require_new
from tests.models import make_llama, make_tokenizer, memory_for

PROMPTS = ["Tell me about glimmerfish.", "Why?", "How tall is the tower of Quend in winter?"]


def make_chat(seed: int = 0, batch_size: int = 2) -> ChatModel:
    tokenizer = make_tokenizer()

    def render(prompt: str) -> str:
        turn = [{"role": "user", "content": prompt}]
        return tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)

    def encode(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        batch = tokenizer(
            texts, padding=True, padding_side="left", return_tensors="pt", add_special_tokens=False
        )
        return batch.input_ids, batch.attention_mask

    return ChatModel(make_llama(seed), tokenizer, render, encode, batch_size)


def test_the_suffix_is_what_the_template_puts_after_the_user() -> None:
    chat = make_chat()
    assert chat.tokenizer.convert_ids_to_tokens(chat.suffix) == ["<|end|>", "<|assistant|>", "Ċ"]
    plain = replace(chat, render=str)
    assert plain.suffix == []


def test_observed_states_are_those_of_each_prompt_alone() -> None:
    chat = make_chat()
    seen = observe(chat, PROMPTS, n_positions=3)
    assert seen.states.shape == (3, 3, 4, 32)
    for i, prompt in enumerate(PROMPTS):
        ids = chat.tokenizer(
            chat.render(prompt), add_special_tokens=False, return_tensors="pt"
        ).input_ids
        with torch.no_grad():
            alone = chat.model(input_ids=ids, output_hidden_states=True)
        for layer in range(4):
            expected = alone.hidden_states[layer][0, -3:]
            torch.testing.assert_close(seen.states[i, :, layer], expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(seen.logits[i], alone.logits[0, -1], atol=1e-5, rtol=1e-4)


def test_difference_of_means_is_that_of_float64() -> None:
    generator = np.random.default_rng(0)
    harmful = generator.normal(1e3, 1, (50, 2, 3, 8)).astype(np.float32)
    harmless = generator.normal(1e3, 1, (40, 2, 3, 8)).astype(np.float32)
    expected = harmful.mean(0, dtype=np.float64) - harmless.mean(0, dtype=np.float64)
    difference = difference_of_means(torch.from_numpy(harmful), torch.from_numpy(harmless))
    np.testing.assert_allclose(difference.numpy(), expected, atol=1e-6)


def test_refusal_score_is_the_log_odds() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.2, 0.2, 0.1], [0.05, 0.05, 0.6, 0.3]]))
    scores = refusal_scores(logits, tokens=[0, 1])
    np.testing.assert_allclose(scores.numpy(), [np.log(0.7 / 0.3), np.log(0.1 / 0.9)], atol=1e-6)


def test_refusal_tokens_rise_most_up_to_the_mass() -> None:
    harmful = torch.log(torch.tensor([[0.60, 0.22, 0.10, 0.08], [0.50, 0.28, 0.12, 0.10]]))
    harmless = torch.log(torch.tensor([[0.05, 0.15, 0.10, 0.70]]))
    # Rises: .50, .10, .01 of .61 in all.
    assert refusal_tokens(harmful, harmless, mass=0.8) == [0]
    assert refusal_tokens(harmful, harmless, mass=0.9) == [0, 1]
    assert refusal_tokens(harmful, harmless, mass=1.0) == [0, 1, 2]


def a_direction(**metadata: object) -> Direction:
    return Direction(
        direction=torch.arange(1.0, 9.0),
        candidates=torch.randn(2, 3, 8),
        scores=[Candidate(-1, 0, refusal_score=-1.5), Candidate(-1, 1)],
        metadata=metadata,
    )


def test_the_artifact_round_trips(tmp_path: Path) -> None:
    direction = a_direction(model="invented", position=-1, layer=0)
    artifact.save(direction, tmp_path / "new")
    read = artifact.load(tmp_path / "new")
    assert torch.equal(read.direction, direction.direction)
    assert torch.equal(read.candidates, direction.candidates)
    assert (read.scores, read.metadata, read.sha256) == (
        direction.scores,
        direction.metadata,
        direction.sha256,
    )
    first = json.loads((tmp_path / "new" / "scores.json").read_text())[0]
    assert first == {
        "position": -1,
        "layer": 0,
        "refusal_score": -1.5,
        "steering_score": None,
        "kl_div_score": None,
    }


def test_an_artifact_is_never_half_written_nor_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TypeError):
        artifact.save(a_direction(broken=object()), tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    artifact.save(a_direction(), tmp_path / "new")
    with pytest.raises(CannotWrite, match="exists already"):
        artifact.save(a_direction(), tmp_path / "new")


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for taken in ("file", "dangling"):
        with pytest.raises(CannotWrite, match=f"{taken} exists already; name a new folder"):
            require_new(tmp_path / taken)
    for nowhere in (tmp_path / "file/new", Path("/proc/new"), tmp_path / ("x" * 300)):
        with pytest.raises(CannotWrite, match="cannot be written .*; name another"):
            require_new(nowhere)
    require_new(tmp_path / "deep/new")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["dangling", "deep", "file"]


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        (torch.ones(7), "shape .7,., and the model's residual stream has 8"),
        (torch.tensor([1.0] * 7 + [torch.nan]), "NaN"),
        (torch.zeros(8), "zero vector"),
    ],
)
def test_a_direction_that_cannot_be_ablated_is_refused(vector: torch.Tensor, said: str) -> None:
    with pytest.raises(BadDirection, match=said):
        replace(a_direction(), direction=vector).check(8, "direction=here")


def test_a_folder_that_is_no_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDirection, match="absent is not a folder; give .*metadata.json.\\.$"):
        artifact.load(tmp_path / "absent")
    with pytest.raises(BadDirection, match="it has no direction.safetensors"):
        artifact.load(tmp_path)
    artifact.save(a_direction(), tmp_path / "new")
    (tmp_path / "new/direction.safetensors").write_bytes(b"\x80\x04.")
    with pytest.raises(BadDirection, match="damaged"):
        artifact.load(tmp_path / "new")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ({"layer": 3}, "its layer is 3, not an integer from 0 to 2"),
        ({"layer": -1}, "its layer is -1"),
        ({"layer": "two"}, "its layer is 'two'"),
        ({"layer": 1.0}, "its layer is 1.0"),
        ({"layer": True}, "its layer is True"),
        ({"layer": None}, "its layer is None"),
        ({"position": None}, "its position is None"),
        ({"position": 0}, "its position is 0, not an integer from -2 to -1"),
        ({"position": -500}, "its position is -500"),
    ],
)
def test_a_place_that_no_candidate_has_is_refused(
    tmp_path: Path, place: dict[str, object], said: str
) -> None:
    artifact.save(a_direction(**place), tmp_path / "new")
    with pytest.raises(BadDirection, match=said):
        artifact.load(tmp_path / "new")


@pytest.mark.parametrize("name", [artifact.TENSORS, artifact.METADATA, artifact.SCORES])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    artifact.save(a_direction(), tmp_path / "new")
    (tmp_path / "new" / name).unlink()
    (tmp_path / "new" / name).mkdir()
    with pytest.raises(BadDirection, match="or is damaged"):
        artifact.load(tmp_path / "new")


def test_a_document_nested_beyond_reading_is_refused(tmp_path: Path) -> None:
    artifact.save(a_direction(), tmp_path / "new")
    (tmp_path / "new" / artifact.METADATA).write_text("[" * 200_000)
    with pytest.raises(BadDirection, match="or is damaged"):
        artifact.load(tmp_path / "new")


def test_extraction_is_of_the_training_split_and_records_how(mirror: Path) -> None:
    direction = make_direction(make_chat(batch_size=32), sample("polyrefuse", "de"))
    again = make_direction(make_chat(batch_size=32), sample("polyrefuse", "de"))
    other = make_direction(make_chat(batch_size=32), sample("polyrefuse", "de", seed=1))
    assert direction.sha256 == again.sha256 != other.sha256
    assert direction.candidates.shape == (3, 4, 32)
    metadata = direction.metadata
    assert torch.equal(
        direction.direction, direction.candidates[metadata["position"], metadata["layer"]]
    )
    assert set(metadata["sha256"]) == {
        f"polyrefuse/{kind}_{split}_{language}.json"
        for kind, split, language in (
            ("harmful", "train", "translated_de"),
            ("harmless", "train", "translated_de"),
            ("harmful", "val", "translated_de"),
            ("harmless", "val", "translated_de"),
            ("harmful", "train", "en"),
            ("harmless", "train", "200_sampled_en"),
            ("harmful", "val", "en"),
            ("harmless", "val", "200_sampled_en"),
        )
    }
    assert metadata["source_lang"] == "de"
    assert metadata["refusal_tokens"]
    assert metadata["suffix_tokens"] == ["<|end|>", "<|assistant|>", "Ċ"]


def test_where_memory_is_too_small_extraction_halves_its_rows_once_and_says_so(
    mirror: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prompts = sample("polyrefuse", "de")
    chat = make_chat(batch_size=32)
    with memory_for(16, chat.model):
        direction = make_direction(chat, prompts)
    assert [r.getMessage() for r in caplog.records if "memory" in r.getMessage()] == [
        "The GPU ran out of memory with 32 rows in a forward pass; trying again with 16."
    ]
    plain = make_direction(make_chat(batch_size=16), prompts)
    assert direction.sha256 == plain.sha256
    assert direction.metadata == plain.metadata
    with (
        memory_for(15, chat.model),
        pytest.raises(UserError, match="with 16; use a smaller batch size .8 or more., a smaller"),
    ):
        make_direction(chat, prompts)
    least = replace(chat, batch_size=8)
    with memory_for(3, chat.model), pytest.raises(UserError, match="also with 4; use a smaller d"):
        make_direction(least, prompts)


def test_given_refusal_tokens_and_too_few_refusals_are_told(mirror: Path) -> None:
    direction = make_direction(make_chat(batch_size=32), sample(), tokens=[40])
    # One token in 264 of a random model is rarely more likely than all others together.
    assert any("refusal score above 0" in warning for warning in direction.metadata["warnings"])
    assert any("All of them were used" in warning for warning in direction.metadata["warnings"])
    assert direction.metadata["refusal_tokens_mass"] is None
