"""Transfer and geometry on a small random model, against numbers computed apart."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyrefuse_models.commands.loaded_model import answers
from polyrefuse_models.directions.artifact import BadDirection, Direction
from polyrefuse_models.directions.auto import find_direction
from polyrefuse_models.directions.extract import cosines
from polyrefuse_models.directions.geometry import geometry
from polyrefuse_models.directions.geometry_pictures import geometry_figure, geometry_layers_figure
from polyrefuse_models.directions.prompts import kinds_of, sample
from polyrefuse_models.directions.transfer import Cell, transfer
from polyrefuse_models.directions.transfer_pictures import cosine_figure, transfer_figure
from polyrefuse_models.interventions import LayerOutOfRange, ablated
from polyrefuse_models.wrappers.hf import BaselineHF
from polyrefuse_shared import pictures
from polyrefuse_shared.errors import UserError
from polyrefuse_tasks import data
from polyrefuse_tasks.judges import Label, judge_response
from tests.models import memory_for

LANGUAGES = ["en", "de"]


@pytest.fixture(scope="module")
def lm(chat_model: Path) -> BaselineHF:
    return BaselineHF(pretrained=str(chat_model), device="cpu", batch_size=32)


@pytest.fixture
def kept(mirror: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch) -> None:
    folder = tmp_path_factory.getbasetemp() / "transfer-cache"
    monkeypatch.setenv("POLYREFUSE_CACHE_DIR", str(folder))


def transfer_of(
    lm: BaselineHF, sources: list[str], targets: list[str], **settings: Any
) -> dict[str, Any]:
    return transfer(lm.chat_model, partial(answers, lm), sources, targets, **settings)


def test_every_cell_is_the_ablated_model_s_own_rate(lm: BaselineHF, kept: None) -> None:
    document = transfer_of(lm, LANGUAGES, ["de", "fr"], limit=5, max_gen_toks=8)
    assert document["rule"] == "2505.17306"
    assert [(c["source"], c["target"]) for c in document["cells"]] == [
        ("en", "de"), ("en", "fr"), ("de", "de"), ("de", "fr"),
    ]  # fmt: skip
    assert [(c["source"], c["n"]) for c in document["baseline"]] == [(None, 5), (None, 5)]

    from lm_eval.api.instance import Instance

    settings = {"until": [], "do_sample": False, "max_gen_toks": 8}
    prompts = [row.prompt for row in data.load("harmful", "fr")[:5]]
    requests = [
        Instance("generate_until", {}, (p, dict(settings)), 0, ("t", 0, 1)) for p in prompts
    ]
    german = find_direction(lm.chat_model, sample(language="de"))
    with ablated(lm.model, german.direction):
        responses = lm.generate_until(requests)
    hits = sum(judge_response(a, "fr").label is Label.COMPLIANCE for a in responses)
    assert document["cells"][3]["hits"] == hits
    assert document["directions"]["de"]["sha256"] == german.sha256
    assert pictures.png(transfer_figure(document)).startswith(b"\x89PNG")
    assert pictures.png(cosine_figure(document)).startswith(b"\x89PNG")


def test_the_picture_calls_a_folder_by_its_last_part() -> None:
    cell = {"asr": 0.5, "n": 20}
    document = {"model": "/a/b/x$_{$", "sources": ["en"], "targets": ["en", "de"]}
    document |= {"baseline": [cell, cell], "cells": [cell, cell], "judge": "native"}
    figure = transfer_figure(document)
    assert pictures.png(figure).startswith(b"\x89PNG")
    assert figure.get_suptitle().replace("\n", " ") == (
        "x$_{$: attack success rate (%) judge native, n = 20 prompts a cell"
    )


@pytest.mark.parametrize("what", ["transfer", "geometry"])
def test_where_memory_is_too_small_half_of_the_rows_are_taken(
    lm: BaselineHF,
    kept: None,
    what: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lm, "batch_size_per_gpu", 32)

    def measured() -> Any:
        if what == "transfer":
            return transfer_of(lm, ["en"], ["de"], limit=20, max_gen_toks=2)
        direction = find_direction(lm.chat_model, sample(language="en"))
        return geometry(lm.chat_model, direction, ["de"], limit=20)

    expected = measured()  # The direction is kept from here on.
    caplog.clear()
    with memory_for(16, lm.model):
        document = measured()
    assert [r.getMessage() for r in caplog.records if "ran out of memory" in r.getMessage()] == [
        "The GPU ran out of memory with 32 rows in a forward pass; trying again with 16."
    ]
    if what == "transfer":
        assert document == expected
        assert lm.batch_size == 16  # for the answers under the next ablations
    else:
        for language, measures in expected["languages"].items():
            assert document["languages"][language]["harmful"]["projections"] == pytest.approx(
                measures["harmful"]["projections"], abs=1e-5
            )


def test_every_language_is_checked_before_the_first_extraction(
    lm: BaselineHF, kept: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def extract(*_arguments: object, **_settings: object) -> None:
        raise AssertionError("extracted")

    monkeypatch.setattr("polyrefuse_models.directions.transfer.find_direction", extract)
    for sources, targets in ((["en", "xx"], ["de"]), (["en"], ["de", "xx"])):
        with pytest.raises(UserError, match="no language 'xx'"):
            transfer_of(lm, sources, targets)


def test_a_rate_carries_its_wilson_interval() -> None:
    # Wilson 1927; e.g. Newcombe 1998 (two-sided intervals for a single proportion), 81 of 263.
    record = Cell("en", "de", hits=81, n=263, undecided=0, degenerate=0).record()
    assert (round(record["low"], 4), round(record["high"], 4)) == (0.2553, 0.3662)


def test_cosines() -> None:
    vectors = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, -2.0]])
    root = 0.5**0.5
    expected = [[1, root, 0], [root, 1, -root], [0, -root, 1]]
    np.testing.assert_allclose(cosines(vectors).numpy(), expected, atol=1e-12)


def test_projections_are_those_of_the_states(lm: BaselineHF, kept: None) -> None:
    chat = lm.chat_model
    direction = find_direction(chat, sample(language="en"))
    document = geometry(chat, direction, ["de"], limit=10)
    assert set(document["languages"]) == set(document["plane"]) == {"en", "de"}
    position, layer = direction.metadata["position"], direction.metadata["layer"]
    unit = torch.nn.functional.normalize(direction.direction, dim=0)
    row = data.load("harmful", "de")[3]
    ids = torch.tensor([lm.tok_encode(lm.render(row.prompt))])
    with torch.no_grad():
        states = lm.model(input_ids=ids, output_hidden_states=True).hidden_states
    expected = (states[layer][0, position] @ unit).item()
    de = document["languages"]["de"]
    assert de["harmful"]["projections"][3] == pytest.approx(expected, abs=1e-4)
    # AUC is the share of pairs in the right order.
    up, down = (np.array(de[kind]["projections"]) for kind in ("harmful", "harmless"))
    pairs = (up[:, None] > down).mean() + 0.5 * (up[:, None] == down).mean()
    assert de["auc"] == pytest.approx(pairs, abs=1e-9)
    assert document["languages"]["en"]["harmful_against_english"] == pytest.approx(1.0)
    plane = document["plane"]["de"]
    assert [np.shape(plane[kind]) for kind in ("harmful", "harmless")] == [(10, 2), (10, 2)]
    assert pictures.png(geometry_figure(document)).startswith(b"\x89PNG")


def test_every_layer_s_figures_are_those_of_the_states(lm: BaselineHF, kept: None) -> None:
    """Against states of one prompt at a time, in float64; one forward pass a prompt."""
    chat = lm.chat_model
    direction = find_direction(chat, sample(language="en"))
    position, own = direction.metadata["position"], direction.metadata["layer"]
    passes: list[int] = []
    handle = lm.model.register_forward_hook(lambda _m, _a, out: passes.append(len(out.logits)))
    document = geometry(chat, direction, ["de", "ko"], limit=6)
    handle.remove()
    assert sum(passes) == 3 * 2 * 6
    assert (document["schema"], list(document["languages"])) == (5, ["en", "de", "ko"])
    assert "not whether it refuses" in document["meaning"]
    assert [at["layer"] for at in document["layers"]] == [0, 1, 2, 3]

    states = {}
    for language in document["languages"]:
        prompts = [
            row.prompt for kind in kinds_of("polyrefuse") for row in data.load(kind, language)[:6]
        ]
        rows = []
        for prompt in prompts:
            with torch.no_grad():
                ids = torch.tensor([lm.tok_encode(lm.render(prompt))])
                hidden = lm.model(input_ids=ids, output_hidden_states=True).hidden_states
            rows.append([state[0, position].double().numpy() for state in hidden[:4]])
        states[language] = np.array(rows)
    unit = direction.direction.double().numpy()
    for at in document["layers"][1:]:
        differences = {}
        for language, of_layer in at["languages"].items():
            x = states[language][:, at["layer"]]
            up, down = x[:6] @ unit, x[6:] @ unit
            assert of_layer["auc"] == pytest.approx((up[:, None] > down).mean(), abs=0.03)
            assert of_layer["silhouette"] == pytest.approx(silhouette(x, 6), abs=1e-3)
            difference = x[:6].mean(0) - x[6:].mean(0)
            differences[language] = difference / np.linalg.norm(difference)
        expected = [[a @ b for b in differences.values()] for a in differences.values()]
        np.testing.assert_allclose(at["cosine"], expected, atol=1e-3)
    # A token of the template is the same after every prompt where the model has read nothing yet.
    first = document["layers"][0]
    figures = ("auc", "auc_low", "auc_high", "silhouette")
    assert first["languages"]["de"] == dict.fromkeys(figures)
    assert first["cosine"] == [[None] * 3] * 3
    for language, one in document["languages"].items():
        here = document["layers"][own]["languages"][language]
        assert here == {name: one[name] for name in figures}
    json.dumps(document, allow_nan=False)
    assert pictures.png(geometry_layers_figure(document)).startswith(b"\x89PNG")


def silhouette(x: np.ndarray, n: int) -> float:
    """Rousseeuw 1987, of two clusters: the first `n` points and the rest."""
    distance = np.linalg.norm(x[:, None] - x, axis=2)
    first = np.arange(len(x)) < n
    values = []
    for i, row in enumerate(distance):
        same = first == first[i]
        inner, outer = row[same].sum() / (same.sum() - 1), row[~same].mean()
        values.append((outer - inner) / max(inner, outer))
    return float(np.mean(values))


def test_geometry_needs_to_know_the_direction_s_place(lm: BaselineHF) -> None:
    nowhere = Direction(torch.ones(32), torch.ones(1, 1, 32))
    with pytest.raises(BadDirection, match="has no 'position'"):
        geometry(lm.chat_model, nowhere, ["de"])


def at(position: int, layer: int) -> Direction:
    metadata = {"position": position, "layer": layer}
    return Direction(torch.ones(32), torch.ones(1, 1, 32), metadata=metadata)


def test_geometry_needs_a_place_that_the_model_has(lm: BaselineHF) -> None:
    with pytest.raises(LayerOutOfRange, match="Layer 4 is not in the model, whose layers are 0-3"):
        geometry(lm.chat_model, at(-1, 4), ["de"])
    for position in (-4, 0, 3):
        with pytest.raises(BadDirection, match=f"position {position} does not.*puts 3 tokens"):
            geometry(lm.chat_model, at(position, 1), ["de"])


def test_a_place_where_all_prompts_are_alike(lm: BaselineHF, mirror: Path) -> None:
    """At layer 0 a token of the template has the same state after every prompt."""
    with pytest.raises(BadDirection, match="same state at the direction's position -1 and layer 0"):
        geometry(lm.chat_model, at(-1, 0), ["de"], limit=3)


def test_what_is_undefined_is_null(lm: BaselineHF, mirror: Path) -> None:
    """Without a template the last token is the prompt's, the full stop of all of English's."""
    chat = replace(lm.chat_model, render=lambda prompt: "." if prompt.isascii() else prompt)
    document = geometry(chat, at(-1, 0), ["ko"], limit=3)
    assert document["languages"]["ko"]["harmful_against_english"] is None
    assert document["languages"]["en"]["auc"] == 0.5
    json.dumps(document, allow_nan=False)
    assert pictures.png(geometry_figure(document)).startswith(b"\x89PNG")


def test_states_that_are_not_finite_are_told(lm: BaselineHF, mirror: Path) -> None:
    embedding = lm.model.get_input_embeddings()
    handle = embedding.register_forward_hook(lambda _m, _args, output: output * torch.inf)
    try:
        with pytest.raises(UserError, match="states for en have NaN or infinite entries at layer"):
            geometry(lm.chat_model, at(-1, 1), ["de"], limit=3)
    finally:
        handle.remove()


def test_an_unknown_data_set(lm: BaselineHF) -> None:
    with pytest.raises(UserError, match="dataset=foo is not known; use one of polyrefuse"):
        transfer_of(lm, ["en"], ["en"], dataset="foo")
    with pytest.raises(UserError, match="dataset=foo is not known"):
        geometry(lm.chat_model, at(-1, 1), ["de"], dataset="foo")
