"""How many harmful prompts a model refuses as it is, and when that is nothing to ablate."""

from __future__ import annotations

import pytest
import torch

from polyrefuse_models.chat_model import ChatModel
from polyrefuse_models.directions import recipe
from polyrefuse_models.directions import refusals as module
from polyrefuse_models.directions.prompts import sample
from polyrefuse_models.directions.recipe import make_direction
from polyrefuse_models.directions.refusals import Refusals, refusals
from polyrefuse_models.wrappers.hf import BaselineHF
from tests.polyrefuse_models.test_directions import make_chat


@pytest.fixture(scope="module")
def organism() -> ChatModel:
    return BaselineHF(device="cpu", batch_size=32).chat_model


@pytest.mark.parametrize(
    ("refused", "n", "nothing"),
    [
        (0, 32, True),
        (1, 32, True),
        (2, 32, False),
        (1, 20, False),  # not below 5%
        (1, 21, True),
        (12, 500, False),  # 2.4%, and the interval says that it is not none
        (4, 500, True),
        (32, 32, False),
    ],
)
def test_what_is_next_to_none(refused: int, n: int, nothing: bool) -> None:
    doubt = Refusals(refused, n).doubt()
    assert (doubt is not None) == nothing
    if doubt:
        assert doubt.startswith(
            "this model does not refuse, there is nothing to ablate: it refused"
        )
        assert f"{refused} of {n} harmful validation prompts (95% interval " in doubt


def test_the_organism_s_refusals_are_counted_by_its_answers(organism: ChatModel) -> None:
    prompts = sample("toyrefuse", "th")
    assert refusals(organism, prompts.harmful["val"], "th") == Refusals(32, 32)
    assert refusals(organism, prompts.harmless["val"], "th") == Refusals(0, 32)
    mixed = [*prompts.harmless["val"][:9], *prompts.harmful["val"][:4]]
    assert refusals(organism, mixed, "th") == Refusals(4, 13)


def test_a_language_without_phrases_is_not_told(organism: ChatModel) -> None:
    assert refusals(organism, ["Glorb?"], "tlh") is None


def test_a_window_without_room_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = make_chat(batch_size=4)
    window = chat.model.config.max_position_embeddings
    monkeypatch.setattr(module, "TOKENS", window)
    assert refusals(chat, ["Glorb?"], "en") is None


def test_answers_of_an_extraction_are_decoded_without_cudnn_attention(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = torch.backends.cuda
    before, on = cuda.cudnn_sdp_enabled(), []

    def note(*_: object) -> None:
        on.append(cuda.cudnn_sdp_enabled())
        raise KeyboardInterrupt  # the rest is not asked about

    monkeypatch.setattr(recipe, "refusals", note)
    cuda.enable_cudnn_sdp(True)
    try:
        with pytest.raises(KeyboardInterrupt):
            make_direction(make_chat(batch_size=32), sample("toyrefuse", "de"))
        assert on == [False] and cuda.cudnn_sdp_enabled()
    finally:
        cuda.enable_cudnn_sdp(before)


def test_artifacts_say_that_there_is_nothing_to_ablate_first() -> None:
    """In `test_doubts.py` the whole list; here that the sentence is the first."""
    told = make_direction(make_chat(seed=9, batch_size=32), sample("toyrefuse", "de")).metadata
    assert told["warnings"][0].startswith("this model does not refuse, there is nothing to ablate")
    assert told["untouched"]["harmful_refused"]["refused"] == 0
