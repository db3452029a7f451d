"""Subspaces of refusal: closed forms in float64, planted models, and what asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from polyrefuse_models.directions import artifact
from polyrefuse_models.directions.artifact import BadDirection, Direction
from polyrefuse_models.directions.control import control_of, random_direction, random_subspace
from polyrefuse_models.directions.rank import Cell, carried, rank
from polyrefuse_models.directions.subspace import RANK, Asked, NoSubspace, differences, span
from polyrefuse_models.hooks import Hooks
from polyrefuse_models.interventions import (
    Ablation,
    SubspaceAblation,
    ablate_span,
    installed,
    orthonormal,
)
from polyrefuse_models.vllm_engine.plan import Plan, plan_of
from polyrefuse_models.wrappers.hf import AblatedHF
from polyrefuse_shared.errors import UserError
from polyrefuse_tasks.data import Row
from polyrefuse_tasks.data.toyrefuse import words
from tests.models import make_llama, tiny
from tests.polyrefuse_models.test_interventions import block_inputs

IDS = torch.tensor([[0, 20, 99, 180], [0, 41, 77, 8]])


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


class TestSpan:
    def test_the_first_is_the_direction_and_the_others_are_singular_vectors(self) -> None:
        """Against numpy's singular vectors of what the evidence has beside the direction."""
        r, evidence = 7 * drawn(12), drawn(40, 12, seed=1) * torch.arange(1, 13)
        found = span(r, evidence, 4)
        unit = (r / r.norm()).numpy()
        beside = evidence.numpy() @ (np.eye(12) - np.outer(unit, unit))
        expected = np.linalg.svd(beside)[2][:3]
        vectors = found.vectors.double().numpy()
        np.testing.assert_allclose(vectors[0], unit, atol=1e-6)
        np.testing.assert_allclose(np.abs(np.sum(vectors[1:] * expected, 1)), 1, atol=1e-6)
        np.testing.assert_allclose(vectors @ vectors.T, np.eye(4), atol=1e-6)
        assert all(row[np.abs(row).argmax()] > 0 for row in vectors[1:])
        shares = ((evidence.numpy() @ vectors.T) ** 2).sum(0) / (evidence.numpy() ** 2).sum()
        np.testing.assert_allclose(found.explained, shares, rtol=1e-5)
        assert found.n == 40

    def test_each_rank_is_in_the_next_one_and_the_first_is_the_direction_alone(self) -> None:
        r, evidence = drawn(12), drawn(30, 12, seed=1)
        five = span(r, evidence)
        assert len(five.vectors) == RANK
        for k in range(1, RANK):
            torch.testing.assert_close(span(r, evidence, k).vectors, five.vectors[:k])

    def test_two_planted_directions_are_found(self) -> None:
        """Prompts refused along one or the other: their mean is between, and the span is theirs."""
        planted = orthonormal(drawn(2, 20))
        refused = 5 * planted.repeat(16, 1) + 0.05 * drawn(32, 20, seed=1)
        answered = 0.05 * drawn(32, 20, seed=2)
        r = refused.mean(0) - answered.mean(0)
        found = span(r, differences(refused, answered), 2)
        apart = scipy.linalg.subspace_angles(found.vectors.T.numpy(), planted.T.numpy())
        assert np.rad2deg(apart).max() < 2
        assert sum(found.explained) > 0.99
        assert 0.45 < found.explained[0] < 0.55

    def test_parallel_evidence_has_no_more_than_the_direction(self) -> None:
        r = drawn(8)
        evidence = torch.outer(torch.arange(1.0, 5), r)
        assert len(span(r, evidence).vectors) == 1
        with pytest.raises(NoSubspace, match="--rank 2 is more than the 1 dimensions"):
            span(r, evidence, 2)

    @pytest.mark.parametrize(
        ("asked", "said"),
        [
            ({"of": "models"}, "--subspace-of models is not known; use one of prompts, languages"),
            ({"of": "languages"}, "needs the directions of several languages"),
            (
                {"of": "languages", "rank": 3, "others": (object(),)},
                "--rank 3 is more than the directions of 2 languages can span",
            ),
        ],
    )
    def test_what_cannot_be_asked_for(self, asked: dict[str, Any], said: str) -> None:
        with pytest.raises(NoSubspace, match=said):
            Asked(**asked)


class TestAblation:
    def test_it_is_the_projection_off_the_span(self) -> None:
        """Against scipy's own basis of the orthogonal complement."""
        x, basis = drawn(3, 5, 16), orthonormal(drawn(4, 16, seed=1))
        beside = scipy.linalg.null_space(basis.numpy())
        expected = x.numpy() @ beside @ beside.T
        np.testing.assert_allclose(ablate_span(x, basis).numpy(), expected, atol=1e-13)
        half = (x.numpy() + expected) / 2
        np.testing.assert_allclose(ablate_span(x, basis, 0.5).numpy(), half, atol=1e-13)

    def test_all_go_in_two_calls_of_torch(self) -> None:
        from torch.profiler import ProfilerActivity, profile

        x, basis = drawn(3, 5, 16), orthonormal(drawn(4, 16, seed=1))
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            ablate_span(x, basis)
        counted = {event.key: event.count for event in seen.key_averages()}
        assert (counted["aten::mm"], counted["aten::addmm"]) == (1, 1)
        assert not {"aten::sub", "aten::mul"} & counted.keys()

    @pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_neox"])
    def test_every_block_s_input_is_clean(self, name: str) -> None:
        model = tiny(name).double()
        basis = orthonormal(drawn(3, model.config.hidden_size))
        inner = model.gpt_neox if name == "gpt_neox" else model.model
        norm = inner.final_layer_norm if name == "gpt_neox" else inner.norm
        seen: list[torch.Tensor] = []
        with installed(model, SubspaceAblation(basis)), Hooks() as hooks, torch.no_grad():
            for module in (*inner.layers, norm):
                hooks.on_input(module, lambda x: seen.append(x.clone()))
            model(input_ids=IDS % model.config.vocab_size)
        assert len(seen) == model.config.num_hidden_layers + 1
        assert max((x @ basis.T).abs().max() for x in seen) < 1e-12

    @pytest.mark.parametrize("count", [2, 3])
    def test_weights_and_hooks_are_one_after_the_other(self, count: int) -> None:
        """Orthogonal directions may go one by one: the order and the method make no difference."""
        model, basis = make_llama(seed=1).double(), orthonormal(drawn(count, 32))
        before = logits(model)
        with installed(model, SubspaceAblation(basis)):
            by_hooks = logits(model)
        assert torch.equal(logits(model), before)
        one_by_one = make_llama(seed=1).double()
        for vector in basis:
            Ablation(vector, method="weights").install(one_by_one)
        SubspaceAblation(basis, method="weights").install(model)
        for found in (logits(model), logits(one_by_one)):
            torch.testing.assert_close(found, by_hooks, atol=1e-5, rtol=0)
        assert (before - by_hooks).abs().max() > 0.1
        for x in block_inputs(model, IDS):
            assert (x @ basis.T).abs().max() < 1e-12

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_keeps_its_type(self, dtype: torch.dtype) -> None:
        model = make_llama(seed=1).to(dtype)
        basis = orthonormal(drawn(2, 32))
        with installed(model, SubspaceAblation(basis)):
            states = block_inputs(model, IDS)
        assert all(x.dtype is dtype for x in states)
        assert max((x.double() @ basis.T).abs().max() for x in states[1:]) < 0.1

    def test_a_rank_of_one_is_plain_ablation(self) -> None:
        model, vector = make_llama(seed=1).double(), drawn(32)
        with installed(model, Ablation(vector)):
            plain = logits(model)
        with installed(model, SubspaceAblation(vector[None] / vector.norm())):
            torch.testing.assert_close(logits(model), plain, atol=1e-6, rtol=0)

    def test_vllm_has_a_plan_for_it(self, tmp_path: Path) -> None:
        model = tiny("llama")
        basis = orthonormal(drawn(2, model.config.hidden_size)).float()
        hooks = plan_of([SubspaceAblation(basis)], model)
        assert hooks.hooks == plan_of([Ablation(basis[0])], model).hooks
        hooks.save(tmp_path)
        read = Plan.load(tmp_path)
        torch.testing.assert_close(read.unit, basis.double(), atol=1e-6, rtol=0)
        weights = plan_of([SubspaceAblation(basis, method="weights")], model)
        assert weights.writes == plan_of([Ablation(basis[0], method="weights")], model).writes


class TestRandom:
    def test_it_is_the_random_direction_and_more(self) -> None:
        like, found = drawn(16).float(), random_subspace(16, 4, seed=3)
        single = random_direction(like, 3)
        torch.testing.assert_close(found[0], single / single.norm())
        torch.testing.assert_close(random_subspace(16, 2, seed=3), found[:2])
        torch.testing.assert_close(found @ found.T, torch.eye(4), atol=1e-6, rtol=0)
        assert not torch.allclose(found, random_subspace(16, 4, seed=4))

    def test_a_control_has_a_random_subspace(self) -> None:
        r = drawn(16).float()
        subspace = span(r, drawn(30, 16, seed=1)).vectors
        control = control_of(Direction(r, r[None, None], subspace=subspace), 5)
        assert control.subspace is not None
        assert torch.equal(control.subspace, random_subspace(16, RANK, 5))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact as `extract` writes it, of the tiny chat model."""
    folder = tmp_path_factory.mktemp("found") / "direction"
    vector = drawn(4, 32).float()
    made = {"rank": 3, "of": "prompts", "langs": ["de"], "n": 9, "explained": [0.5, 0.2, 0.1]}
    artifact.save(
        Direction(
            vector[2],
            vector[None],
            [],
            {"layer": 2, "position": -1, "subspace": made},
            subspace=span(vector[2], drawn(9, 32, seed=1), 3).vectors,
        ),
        folder,
    )
    return folder


class TestArtifact:
    def test_it_round_trips(self, found: Path) -> None:
        tensors = load_file(found / "direction.safetensors")
        direction = artifact.load(found)
        assert tensors["subspace"].shape == (3, 32)
        assert torch.equal(direction.require_subspace(2, "here"), tensors["subspace"][:2])
        with pytest.raises(BadDirection, match="rank=4 needs 4 vectors, and here holds 3; extract"):
            direction.require_subspace(4, "here")

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda r: r[0], r"its subspace has shape \(32,\), not \(rank, 32\)"),
            (lambda r: 2 * r, "the vectors of its subspace are not orthonormal"),
            (lambda r: r * float("nan"), "the vectors of its subspace are not orthonormal"),
            (lambda r: r.flip(0), "the first vector of its subspace is not its direction"),
        ],
    )
    def test_one_that_is_none_is_refused(
        self, found: Path, tmp_path: Path, change: Any, said: str
    ) -> None:
        one = artifact.load(found)
        assert one.subspace is not None
        changed = Direction(
            one.direction, one.candidates, [], one.metadata, subspace=change(one.subspace)
        )
        artifact.save(changed, tmp_path / "bad")
        with pytest.raises(BadDirection, match=said):
            artifact.load(tmp_path / "bad")


class TestArguments:
    def test_what_results_say(self, chat_model: Path, found: Path) -> None:
        given = {"pretrained": str(chat_model), "direction": str(found), "device": "cpu"}
        plain = AblatedHF(**given)
        one, two = (AblatedHF(**given, rank=rank) for rank in (1, "2"))
        # Results and caches of plain ablation stay what they are.
        assert (one.identity(), one.condition) == (plain.identity(), "ablation")
        assert two.condition == "subspace-ablation"
        more = {
            name: value
            for name, value in two.identity().items()
            if name not in plain.identity() or plain.identity()[name] != value
        }
        subspace = load_file(found / "direction.safetensors")["subspace"]
        assert more == {
            "condition": "subspace-ablation",
            "rank": 2,
            "subspace_of": "prompts",
            "subspace_langs": ["de"],
            "subspace_sha256": artifact.checksum(subspace[:2]),
        }
        control = AblatedHF(**given, rank=2, control="random", control_seed=1)
        assert control.condition == "random-subspace-ablation"
        for x in block_inputs(control.model, IDS):
            assert (x @ random_subspace(32, 2, 1).T).abs().max() < 1e-5

    @pytest.mark.parametrize("method", ["hooks", "weights"])
    def test_the_model_does_what_the_artifact_says(
        self, chat_model: Path, found: Path, method: str
    ) -> None:
        lm = AblatedHF(
            pretrained=str(chat_model),
            direction=str(found),
            device="cpu",
            rank=3,
            method=method,
        )
        subspace = load_file(found / "direction.safetensors")["subspace"]
        for x in block_inputs(lm.model, IDS):
            assert (x @ subspace.T).abs().max() < 1e-5

    @pytest.mark.parametrize(
        ("asked", "said"),
        [
            ({"rank": 0}, "rank=0 is not a rank; give the number of directions to remove"),
            ({"rank": "two"}, "rank=two is not a rank"),
            ({"rank": 4}, "rank=4 needs 4 vectors, and direction=.* holds 3; extract"),
            ({"rank": 2, "ablation": "affine"}, "rank=2 removes several directions"),
            ({"rank": 9, "direction": "auto"}, "rank=9 is more than the 5 vectors that direction="),
        ],
    )
    def test_mistakes_are_told_before_anything_is_loaded(
        self, found: Path, asked: dict[str, Any], said: str
    ) -> None:
        given = {"pretrained": "no/such/model", "direction": str(found), "dataset": "toyrefuse"}
        with pytest.raises(UserError, match=said):
            AblatedHF(**(given | asked))

    def test_a_file_with_one_vector_has_no_subspace(self, tmp_path: Path) -> None:
        save_file({"direction": drawn(32)}, tmp_path / "one.safetensors")
        with pytest.raises(BadDirection, match="needs 2 vectors, and .*one.safetensors holds 1"):
            AblatedHF(pretrained="no/model", direction=str(tmp_path / "one.safetensors"), rank=2)

    def test_a_prompt_beside_edited_weights_is_free_of_all_of_them(
        self, chat_model: Path, found: Path, tmp_path: Path
    ) -> None:
        import json

        save_file(
            {"prompt_embeddings": drawn(3, 32).float()}, tmp_path / "adapter_model.safetensors"
        )
        (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "PROMPT_TUNING"}))
        lm = AblatedHF(
            pretrained=str(chat_model), direction=str(found), rank=2, method="weights",
            prompt=str(tmp_path), device="cpu",
        )  # fmt: skip
        assert lm.condition == "subspace-ablation+mcd"
        vectors = next(one for one in lm.interventions if hasattr(one, "vectors")).vectors
        subspace = load_file(found / "direction.safetensors")["subspace"]
        assert (vectors @ subspace[:2].T).abs().max() < 1e-5
        assert (vectors @ subspace[2]).abs().max() > 0.01


class Planted:
    """A Llama whose weights are written by hand: it refuses by relu(x.r1) + relu(x.r2).

    Of its tokens 0 is harmless, 1 is refused along r1 and 2 along r2; its logits 0 and 1 are of an
    answer and of a refusal. Attention writes nothing. The MLP reads the stream along r1 and r2,
    times the constant c that every token has, and writes along e.
    """

    D, TOKENS = 96, 64

    def __init__(self) -> None:
        config = LlamaConfig(
            vocab_size=self.TOKENS,
            hidden_size=self.D,
            intermediate_size=2,
            num_hidden_layers=1,
            num_attention_heads=2,
            hidden_act="relu",
            tie_word_embeddings=False,
        )
        self.model: Any = LlamaForCausalLM(config).eval()
        # Not the seeds of random subspaces, which would then hold the planted directions.
        r1, r2, c, e = orthonormal(drawn(4, self.D, seed=1000)).float()
        self.planted = torch.stack([r1, r2])
        block = self.model.model.layers[0]
        with torch.no_grad():
            self.model.model.embed_tokens.weight.copy_(c.expand(self.TOKENS, -1))
            self.model.model.embed_tokens.weight[1:3] += 2 * self.planted
            block.self_attn.o_proj.weight.zero_()
            block.mlp.gate_proj.weight.copy_(self.planted)
            block.mlp.up_proj.weight.copy_(torch.stack([c, c]))
            block.mlp.down_proj.weight.copy_(torch.stack([e, e]).T)
            self.model.lm_head.weight.zero_()
            self.model.lm_head.weight[:2] = torch.stack([c, e])

    def answers(self, rows: Sequence[Row], max_gen_toks: int) -> list[str]:
        """A refusing or an answering sentence, by the logits after each prompt's token."""
        tokens = torch.tensor([[1 + index % 2] for index in range(len(rows))])
        with torch.no_grad():
            refuses = self.model(input_ids=tokens).logits[:, -1, :2].argmax(-1)
        return [
            (words(row.language).refusals if no else words(row.language).answers)[0]
            for row, no in zip(rows, refuses.tolist(), strict=True)
        ]

    def direction(self) -> Direction:
        """As extraction finds it: the difference of means, and what is beside it."""
        states = self.model.model.embed_tokens.weight.detach()
        refused, answered = states[1:3].repeat(20, 1), states[:1].repeat(20, 1)
        r = refused.mean(0) - answered.mean(0)
        found = span(r, differences(refused, answered), 2)
        return Direction(r, r[None, None], [], {"layer": 0}, subspace=found.vectors)


class TestRank:
    @pytest.fixture
    def document(self) -> dict[str, Any]:
        model = Planted()
        chat: Any = SimpleNamespace(model=model.model, system={})
        return rank(
            chat, model.answers, model.direction(), [1, 2], ["en", "yo"], origin="here",
            controls=2, dataset="toyrefuse", limit=12,
        )  # fmt: skip

    def test_the_planted_model_has_two_directions(self, document: dict[str, Any]) -> None:
        """The mean of both leaves half of each: relu(x.r1) is halved, and still refuses."""
        rates = {
            (cell["rank"], cell["control_seed"], cell["language"]): cell["asr"]
            for cell in document["cells"]
        }
        for language in ("en", "yo"):
            assert rates[0, None, language] == rates[1, None, language] == 0
            assert rates[2, None, language] == 1
            assert {rates[k, seed, language] for k in (1, 2) for seed in (0, 1)} == {0}
        assert document["carried"] == {"en": 2, "yo": 2}
        assert document["shared"] is True
        assert len(document["cells"]) == 2 * (1 + 2 * 3)
        assert all(cell["n"] == 12 for cell in document["cells"])

    def test_one_direction_alone_leaves_the_other(self) -> None:
        model = Planted()
        rows = [SimpleNamespace(language="en")] * 4
        for gone, refused in (((0,), (1, 3)), ((1,), (0, 2)), ((0, 1), ())):
            with installed(model.model, SubspaceAblation(model.planted[list(gone)])):
                texts = model.answers(rows, 1)  # type: ignore[arg-type]
            assert [i for i, text in enumerate(texts) if text == words("en").refusals[0]] == [
                *refused
            ]

    @pytest.mark.parametrize(
        ("subspace", "random", "untouched", "expected"),
        [
            ([0, 40, 40], [0, 0, 0], 0, 2),
            ([40, 40, 40], [0, 0, 0], 0, 1),
            ([37, 40, 40], [0, 0, 0], 0, 1),  # no more than chance apart
            ([22, 40, 40], [0, 0, 0], 0, 2),  # more than half, and far from all
            ([0, 0, 12], [0, 0, 0], 0, None),  # above chance, and fewer than half
            ([0, 40, 40], [0, 38, 38], 0, None),  # and so do random directions
            ([40, 40, 40], [0, 0, 0], 40, None),  # nothing to remove
        ],
    )
    def test_how_many_carry_refusal(
        self, subspace: list[int], random: list[int], untouched: int, expected: int | None
    ) -> None:
        def cell(k: int, seed: int | None, hits: int) -> Cell:
            return Cell(k, seed, "en", hits, 40 - hits, 40, 0, 0)

        cells = [cell(0, None, untouched)]
        for k, (hits, by_chance) in enumerate(zip(subspace, random, strict=True), 1):
            cells += [cell(k, None, hits), cell(k, 0, by_chance)]
        assert carried(cells) == expected
