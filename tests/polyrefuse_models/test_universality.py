"""How universal directions are, against numpy's and scipy's own, and from a transfer's run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch

from polyrefuse_models.directions.artifact import Direction
from polyrefuse_models.directions.auto import find_direction
from polyrefuse_models.directions.prompts import sample
from polyrefuse_models.directions.subspace import RANK, span, states_at
from polyrefuse_models.directions.transfer_pictures import universality_figure
from polyrefuse_models.directions.universality import (
    angles,
    by_layer,
    explained_by_one,
    kept_subspaces,
    principal_angles,
)
from polyrefuse_models.interventions import orthonormal
from polyrefuse_models.wrappers.hf import BaselineHF
from polyrefuse_shared import pictures
from tests.polyrefuse_models.test_transfer import kept, lm, transfer_of  # noqa: F401  # fixtures


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("apart", [1.0, 1e-2, 1e-5, 0.0])
@pytest.mark.parametrize("rank", [1, 3])
def test_principal_angles_are_scipy_s(apart: float, rank: int) -> None:
    """Small ones too, whose cosines are 1 to the last digit."""
    one = drawn(rank, 12)
    other = one + apart * drawn(rank, 12, seed=1)
    expected = np.rad2deg(scipy.linalg.subspace_angles(one.numpy().T, other.numpy().T))[::-1]
    np.testing.assert_allclose(principal_angles(one, other).numpy(), expected, atol=1e-9)


def test_principal_angles_of_known_subspaces() -> None:
    axes = torch.eye(6, dtype=torch.float64)
    tilted = torch.stack([axes[0], axes[1] + axes[2]])
    np.testing.assert_allclose(principal_angles(axes[:2], tilted).numpy(), [0, 45], atol=1e-9)
    np.testing.assert_allclose(principal_angles(axes[:2], axes[2:4]).numpy(), [90, 90], atol=1e-9)


def test_one_vector_explains_what_numpy_says() -> None:
    vectors = drawn(5, 9) * torch.arange(1, 6)[:, None]
    unit = vectors.numpy() / np.linalg.norm(vectors.numpy(), axis=1, keepdims=True)
    squares = np.linalg.svd(unit, compute_uv=False) ** 2
    assert explained_by_one(vectors) == pytest.approx(squares[0] / squares.sum(), rel=1e-12)


def test_one_vector_explains_all_of_parallel_ones_and_a_share_of_orthogonal_ones() -> None:
    r = drawn(9)
    assert explained_by_one(torch.stack([r, 3 * r, -r])) == pytest.approx(1)
    assert explained_by_one(orthonormal(drawn(4, 9))) == pytest.approx(1 / 4)


def test_each_layer_is_measured_but_one_without_a_direction() -> None:
    candidates = drawn(3, 2, 4, 8)  # language, position, layer
    candidates[1, :, 0] = 0
    candidates[2, 1, 3, 5] = float("nan")
    directions = [Direction(each[0, 1], each) for each in candidates]
    found = by_layer(directions, -1)
    assert [one is None for one in found["cosine_by_layer"]] == [True, False, False, True]
    assert [one is None for one in found["explained_by_one_by_layer"]] == [True, False, False, True]
    at = candidates[:, -1, 2].numpy()
    at = at / np.linalg.norm(at, axis=1, keepdims=True)
    np.testing.assert_allclose(found["cosine_by_layer"][2], at @ at.T, atol=1e-12)


class TestTransfer:
    @pytest.fixture
    def document(self, lm: BaselineHF, kept: None) -> dict[str, Any]:  # noqa: F811
        return transfer_of(lm, ["en", "de", "fr"], ["de"], limit=2, max_gen_toks=2)

    def test_a_run_says_how_universal_it_is(
        self,
        lm: BaselineHF,  # noqa: F811
        document: dict[str, Any],
    ) -> None:
        assert document["schema"] == 2
        directions = {
            source: find_direction(lm.chat_model, sample(language=source))
            for source in document["sources"]
        }
        at = document["cosine_at"]
        place = at["position"], at["layer"]
        assert len(document["cosine_by_layer"]) == 4
        assert document["cosine_by_layer"][at["layer"]] == document["cosine"]
        there = torch.stack([each.candidates[place] for each in directions.values()])
        assert document["explained_by_one"] == explained_by_one(there)
        assert document["explained_by_one_by_layer"][at["layer"]] == document["explained_by_one"]
        # All at one place, whatever place each language's own direction was chosen at.
        found = document["principal_angles"]
        assert (found["position"], found["layer"]) == place
        assert (found["rank"], found["of"], found["reason"]) == (RANK, "prompts", None)
        bases = []
        for source, direction in directions.items():
            refused, answered = states_at(lm.chat_model, sample(language=source), place, True, [])
            evidence = refused.double() - answered.double().mean(0)
            bases.append(span(direction.candidates[place], evidence).vectors.double().numpy().T)
        for a, row in enumerate(found["degrees"]):
            for b, degrees in enumerate(row):
                expected = np.rad2deg(scipy.linalg.subspace_angles(bases[a], bases[b]))[::-1]
                np.testing.assert_allclose(degrees, expected, atol=0.05)

    def test_the_picture(self, document: dict[str, Any]) -> None:
        assert pictures.png(universality_figure(document)).startswith(b"\x89PNG")
        one = document | {
            "sources": ["en"],
            "cosine_by_layer": [None, [[1.0]]],
            "explained_by_one": 1.0,
            "explained_by_one_by_layer": [None, 1.0],
        }
        assert pictures.png(universality_figure(one)).startswith(b"\x89PNG")


class TestKept:
    def written(self, place: tuple[int, int] = (-1, 2), **changed: Any) -> Direction:
        r = drawn(8).float()
        made = {"of": "prompts", "langs": ["de"]}
        given: dict[str, Any] = {
            "metadata": {"position": place[0], "layer": place[1], "subspace": made},
            "subspace": span(r, drawn(9, 8, seed=1)).vectors,
        }
        return Direction(r, r[None, None], **(given | changed))

    def test_subspaces_of_one_place_are_compared(self) -> None:
        found = kept_subspaces({"de": self.written()}, (-1, 2))
        assert not isinstance(found, str)
        document = angles(found, (-1, 2))
        assert document["degrees"] == [[pytest.approx([0.0] * RANK, abs=1e-4)]]

    @pytest.mark.parametrize(
        ("place", "changed", "said"),
        [
            ((-1, 2), {"subspace": None}, "was written without a subspace; extract it again."),
            ((-2, 2), {}, "has its subspace at another place than position -1, layer 2."),
            (
                (-1, 2),
                {"metadata": {"subspace": {"of": "languages", "langs": ["de", "en"]}}},
                "has a subspace that does not come from the differences of its own prompts alone.",
            ),
        ],
    )
    def test_where_there_are_none_the_reason_is_told(
        self, place: tuple[int, int], changed: dict[str, Any], said: str
    ) -> None:
        found = kept_subspaces({"de": self.written(place, **changed)}, (-1, 2))
        document = angles(found, (-1, 2))
        assert document["degrees"] is document["rank"] is None
        assert document["reason"] == f"The direction of de {said}"
