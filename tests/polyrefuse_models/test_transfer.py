"""Transfer and geometry on a small random model, against numbers computed apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from polyrefuse_models.directions import figures
from polyrefuse_models.directions.artifact import BadDirection, Direction
from polyrefuse_models.directions.auto import find_direction
from polyrefuse_models.directions.geometry import geometry
from polyrefuse_models.directions.prompts import sample
from polyrefuse_models.directions.transfer import Cell, cosines, transfer
from polyrefuse_models.interventions import ablated
from polyrefuse_models.wrappers.hf import BaselineHF
from polyrefuse_tasks import data
from polyrefuse_tasks.errors import UserError
from polyrefuse_tasks.judges import Label, judge_response

LANGUAGES = ["en", "de"]


@pytest.fixture(scope="module")
def lm(chat_model: Path) -> BaselineHF:
    return BaselineHF(pretrained=str(chat_model), device="cpu", batch_size=32)


@pytest.fixture
def kept(mirror: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch) -> None:
    folder = tmp_path_factory.getbasetemp() / "transfer-cache"
    monkeypatch.setenv("POLYREFUSE_CACHE_DIR", str(folder))


def test_every_cell_is_the_ablated_model_s_own_rate(lm: BaselineHF, kept: None) -> None:
    told = transfer(lm, LANGUAGES, ["de", "fr"], limit=5, max_gen_toks=8)
    assert [(c["source"], c["target"]) for c in told["cells"]] == [
        ("en", "de"), ("en", "fr"), ("de", "de"), ("de", "fr"),
    ]  # fmt: skip
    assert [(c["source"], c["n"]) for c in told["baseline"]] == [(None, 5), (None, 5)]

    from lm_eval.api.instance import Instance

    settings = {"until": [], "do_sample": False, "max_gen_toks": 8}
    prompts = [row.prompt for row in data.load("harmful", "fr")[:5]]
    requests = [
        Instance("generate_until", {}, (p, dict(settings)), 0, ("t", 0, 1)) for p in prompts
    ]
    german = find_direction(lm.chat_model, sample(language="de"))
    with ablated(lm.model, german.direction):
        answers = lm.generate_until(requests)
    hits = sum(judge_response(a, "fr").label is Label.COMPLIANCE for a in answers)
    assert told["cells"][3]["hits"] == hits
    assert told["directions"]["de"]["sha256"] == german.sha256
    assert figures.transfer_png(told).startswith(b"\x89PNG")
    assert figures.cosine_png(told).startswith(b"\x89PNG")


def test_every_language_is_checked_before_the_first_extraction(
    lm: BaselineHF, kept: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def extract(*_arguments: object, **_settings: object) -> None:
        raise AssertionError("extracted")

    monkeypatch.setattr("polyrefuse_models.directions.transfer.find_direction", extract)
    for sources, targets in ((["en", "xx"], ["de"]), (["en"], ["de", "xx"])):
        with pytest.raises(UserError, match="no language 'xx'"):
            transfer(lm, sources, targets)


def test_a_rate_carries_its_wilson_interval() -> None:
    # Wilson 1927; e.g. Newcombe 1998 (two-sided intervals for a single proportion), 81 of 263.
    told = Cell("en", "de", hits=81, n=263, undecided=0, degenerate=0).record()
    assert (round(told["low"], 4), round(told["high"], 4)) == (0.2553, 0.3662)


def test_cosines() -> None:
    vectors = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, -2.0]])
    root = 0.5**0.5
    expected = [[1, root, 0], [root, 1, -root], [0, -root, 1]]
    np.testing.assert_allclose(cosines(vectors).numpy(), expected, atol=1e-12)


def test_projections_are_those_of_the_states(lm: BaselineHF, kept: None) -> None:
    chat = lm.chat_model
    direction = find_direction(chat, sample(language="en"))
    told, points = geometry(chat, direction, ["de"], limit=10)
    assert set(told["languages"]) == set(points) == {"en", "de"}
    position, layer = direction.metadata["position"], direction.metadata["layer"]
    unit = torch.nn.functional.normalize(direction.direction, dim=0)
    row = data.load("harmful", "de")[3]
    ids = torch.tensor([lm.tok_encode(lm.render(row.prompt))])
    with torch.no_grad():
        states = lm.model(input_ids=ids, output_hidden_states=True).hidden_states
    expected = (states[layer][0, position] @ unit).item()
    de = told["languages"]["de"]
    assert de["harmful"]["projections"][3] == pytest.approx(expected, abs=1e-4)
    # AUC is the share of pairs in the right order.
    up, down = (np.array(de[kind]["projections"]) for kind in ("harmful", "harmless"))
    pairs = (up[:, None] > down).mean() + 0.5 * (up[:, None] == down).mean()
    assert de["auc"] == pytest.approx(pairs, abs=1e-9)
    assert told["languages"]["en"]["harmful_against_english"] == pytest.approx(1.0)
    assert points["de"].shape == (20, 3)
    assert figures.geometry_png(told, points).startswith(b"\x89PNG")


def test_geometry_needs_to_know_the_direction_s_place(lm: BaselineHF) -> None:
    nowhere = Direction(torch.ones(32), torch.ones(1, 1, 32))
    with pytest.raises(BadDirection, match="have no 'position'"):
        geometry(lm.chat_model, nowhere, ["de"])
