"""Affine and projected ablation: closed forms in float64, and what their arguments ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from polyrefuse_studies.schema import CONDITIONS
from safetensors.torch import load_file, save_file

from polyrefuse_models.directions import artifact
from polyrefuse_models.directions.artifact import BadDirection, Direction
from polyrefuse_models.directions.extract import mean_by_layer, observe
from polyrefuse_models.directions.projected import projected
from polyrefuse_models.hooks import Hooks
from polyrefuse_models.interventions import (
    Ablation,
    AffineAblation,
    ablate,
    installed,
    orthogonal_to,
    set_along,
)
from polyrefuse_models.interventions.affine import NotAffine
from polyrefuse_models.vllm_engine.plan import NotInVllm, plan_of
from polyrefuse_models.wrappers.hf import AblatedHF, BaselineHF
from polyrefuse_models.wrappers.known_arguments import stand_ins, try_arguments
from polyrefuse_shared.errors import UserError
from tests.models import WIDTH, make_llama, tiny
from tests.polyrefuse_models.test_interventions import block_inputs, numpy_llama

IDS = torch.tensor([[0, 20, 99, 180], [0, 41, 77, 8]])


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(direction: torch.Tensor) -> torch.Tensor:
    return direction.double() / direction.double().norm()


class TestAffine:
    def test_the_component_is_set_and_nothing_else_is_changed(self) -> None:
        """Against numpy: P x + v r, with P the projector off r."""
        x, r = drawn(3, 5, 16), unit(drawn(16, seed=1))
        projector = np.eye(16) - np.outer(r.numpy(), r.numpy())
        expected = x.numpy() @ projector + 2.5 * r.numpy()
        found = set_along(x, r, torch.tensor(2.5, dtype=torch.float64))
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-14)

    @pytest.mark.parametrize(
        "model",
        [make_llama(seed=1).double(), tiny("gemma2").double(), tiny("gpt_neox").double()],
        ids=["llama", "gemma2, with norms behind", "gpt_neox, in parallel"],
    )
    def test_at_every_block_s_input_the_component_is_the_mean_s(self, model: Any) -> None:
        n_layers, d = model.config.num_hidden_layers, model.config.hidden_size
        direction, mean = 3 * drawn(d), drawn(n_layers + 1, d, seed=1) * 4
        ids = IDS % model.config.vocab_size
        seen: list[torch.Tensor] = []
        blocks = model.model.layers if hasattr(model, "model") else model.gpt_neox.layers
        norm = model.model.norm if hasattr(model, "model") else model.gpt_neox.final_layer_norm

        def states() -> list[torch.Tensor]:
            seen.clear()
            with Hooks() as hooks, torch.no_grad():
                for module in (*blocks, norm):
                    hooks.on_input(module, lambda x: seen.append(x.clone()))
                model(input_ids=ids)
            return list(seen)

        before = states()
        with installed(model, AffineAblation(direction, mean)):
            after = states()
        r = unit(direction)
        assert len(after) == n_layers + 1
        for layer, x in enumerate(after):
            expected = (mean[layer] @ r).expand(x.shape[:-1])
            torch.testing.assert_close(x @ r, expected, atol=1e-12, rtol=0)
        # What does not run along r stays as it was, which at the first block is the embedding.
        torch.testing.assert_close(ablate(after[0], r), ablate(before[0], r), atol=1e-12, rtol=0)
        assert all(torch.equal(x, y) for x, y in zip(before, states(), strict=True))

    def test_the_model_is_the_closed_form(self) -> None:
        """The MLP, too, reads a stream with the component that its block's input has."""
        model = make_llama(seed=3).double()
        direction, mean = drawn(32) * 7, drawn(5, 32, seed=1)
        r = unit(direction)
        ids = [0, 20, 99, 180, 33, 6]
        with installed(model, AffineAblation(direction, mean)), torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0]
        expected = numpy_llama(model, ids, r.numpy(), values=(mean @ r).numpy())
        # Llama's norms compute in float32.
        np.testing.assert_allclose(logits.numpy(), expected, atol=1e-5)
        assert np.abs(expected - numpy_llama(model, ids, r.numpy())).max() > 0.1

    def test_a_mean_without_the_component_is_plain_ablation(self) -> None:
        model, direction = make_llama(seed=1).double(), drawn(32)
        mean = ablate(drawn(5, 32, seed=1), unit(direction))
        logits = []
        for intervention in (Ablation(direction), AffineAblation(direction, mean)):
            with installed(model, intervention), torch.no_grad():
                logits.append(model(input_ids=IDS).logits)
        torch.testing.assert_close(*logits, atol=1e-12, rtol=0)

    def test_some_layers_alone(self) -> None:
        model, direction, mean = make_llama(seed=1).double(), drawn(32), drawn(5, 32, seed=1)
        before, r = block_inputs(model, IDS), unit(direction)
        with installed(model, AffineAblation(direction, mean, layers=range(1, 3))):
            after = block_inputs(model, IDS)
        assert torch.equal(before[0], after[0])
        for layer in (1, 2, 3):
            torch.testing.assert_close(
                after[layer] @ r, (mean[layer] @ r).expand(2, 4), atol=1e-12, rtol=0
            )
        assert ((after[4] - mean[4]) @ r).abs().min() > 1e-6

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_16_bits_keep_their_type(self, dtype: torch.dtype) -> None:
        model, direction, mean = make_llama(seed=1).to(dtype), drawn(32), drawn(5, 32, seed=1)
        with installed(model, AffineAblation(direction, mean)):
            states = block_inputs(model, IDS)
        for layer, x in enumerate(states):
            assert x.dtype == dtype
            expected = (mean[layer] @ unit(direction)).expand(2, 4)
            torch.testing.assert_close(x.double() @ unit(direction), expected, atol=0.05, rtol=0.02)

    def test_what_it_cannot_be_done_in(self) -> None:
        with pytest.raises(NotAffine, match="has 2 layers, and the model has 4"):
            AffineAblation(drawn(32), drawn(3, 32)).install(make_llama())
        with pytest.raises(NotAffine, match="takes a second tensor"):
            AffineAblation(drawn(WIDTH), drawn(4, WIDTH)).install(tiny("zamba"))
        with pytest.raises(NotInVllm, match="AffineAblation is not possible inside vLLM; use a Hu"):
            plan_of([AffineAblation(drawn(WIDTH), drawn(4, WIDTH))], tiny("llama"))


class TestProjected:
    def test_it_is_what_lies_beside_the_mean(self) -> None:
        """Against the least-squares residual of r on m, and the mean itself stays as it is."""
        r, m = drawn(16) * 3, drawn(16, seed=1) * 5
        found = orthogonal_to(r, m)
        share = np.linalg.lstsq(m.numpy()[:, None], r.numpy(), rcond=None)[0]
        np.testing.assert_allclose(found.numpy(), r.numpy() - share * m.numpy(), atol=1e-13)
        assert abs(found @ m) < 1e-12
        torch.testing.assert_close(ablate(m, unit(found)), m, atol=1e-12, rtol=0)
        assert (ablate(m, unit(r)) - m).norm() > 0.1

    def test_the_mean_is_that_of_the_direction_s_layer(self) -> None:
        means, r = drawn(4, 8).float(), drawn(8, seed=1).float()
        direction = Direction(r, r.expand(1, 3, 8), [], {"layer": 2}, means)
        expected = r.double() - (r.double() @ unit(means[2])) * unit(means[2])
        torch.testing.assert_close(
            projected(direction, "here").double(), expected, rtol=1e-6, atol=0
        )

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"harmless_mean": None}, "needs the mean of harmless prompts, which here does not"),
            ({"metadata": {}}, "needs the direction's layer, which here does not name"),
            ({"direction": 4 * torch.ones(8)}, "lies along the mean of harmless prompts"),
            ({"harmless_mean": torch.zeros(4, 8)}, "the mean of harmless prompts is 0"),
        ],
    )
    def test_where_nothing_can_be_projected(self, change: dict[str, Any], said: str) -> None:
        given = {
            "direction": torch.arange(8.0),
            "candidates": torch.zeros(1, 3, 8),
            "metadata": {"layer": 2},
            "harmless_mean": torch.ones(4, 8),
        }
        with pytest.raises(BadDirection, match=said):
            projected(Direction(**(given | change)), "here")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, chat_model: Path) -> Path:
    """An artifact as `extract` writes it, of the tiny chat model."""
    folder = tmp_path_factory.mktemp("found") / "direction"
    vector = drawn(4, 32).float()
    artifact.save(
        Direction(
            vector[2], vector[None], [], {"layer": 2, "position": -1}, drawn(5, 32, seed=1).float()
        ),
        folder,
    )
    return folder


class TestArguments:
    def test_conditions_and_identities_are_apart(self, chat_model: Path, found: Path) -> None:
        given = {"pretrained": str(chat_model), "direction": str(found), "device": "cpu"}
        conditions = {}
        for ablation in ("plain", "affine", "projected"):
            for control in (None, "random"):
                lm = AblatedHF(
                    **given, ablation=ablation, **({"control": control} if control else {})
                )
                conditions[ablation, control] = (lm.condition, lm.identity())
        assert [condition for condition, _ in conditions.values()] == [
            *("ablation", "random-ablation", "affine-ablation", "random-affine-ablation"),
            *("projected-ablation", "random-projected-ablation"),
        ]
        _, plain = conditions["plain", None]
        # As before there were others: results and caches of plain ablation stay what they are.
        assert plain == AblatedHF(**given).identity()
        assert not {"ablation", "harmless_mean_sha256"} & plain.keys()
        tensors = load_file(found / "direction.safetensors")
        for ablation, method in (("affine", "hooks"), ("projected", "weights")):
            _, identity = conditions[ablation, None]
            assert identity["ablation"] == ablation
            assert identity["method"] == method
            assert identity["harmless_mean_sha256"] == artifact.checksum(tensors["harmless_mean"])
            assert identity["direction_sha256"] == plain["direction_sha256"]

    def test_the_model_does_what_the_artifact_says(self, chat_model: Path, found: Path) -> None:
        given = {"pretrained": str(chat_model), "direction": str(found), "device": "cpu"}
        tensors = load_file(found / "direction.safetensors")
        r, means = tensors["direction"], tensors["harmless_mean"]
        lm = AblatedHF(**given, ablation="affine")
        for layer, x in enumerate(block_inputs(lm.model, IDS)):
            expected = (means[layer].double() @ unit(r)).expand(2, 4)
            torch.testing.assert_close(x.double() @ unit(r), expected, atol=1e-5, rtol=0)
        logits = []
        for method in ("hooks", "weights"):
            lm = AblatedHF(**given, ablation="projected", method=method)
            left = unit(orthogonal_to(r, means[2]))
            for x in block_inputs(lm.model, IDS):
                assert (x.double() @ left).abs().max() < 1e-5
            with torch.inference_mode():
                logits.append(lm.model(input_ids=IDS).logits)
        torch.testing.assert_close(*logits, atol=1e-4, rtol=1e-4)

    @pytest.mark.parametrize(
        ("asked", "said"),
        [
            ({"ablation": "both"}, "ablation=both is not known; use one of plain, affine, projec"),
            ({"ablation": "affine", "method": "weights"}, "ablation=affine sets a different comp"),
            (
                {"ablation": "affine", "coefficient": 0.5},
                "coefficient=0.5 is the share of the comp",
            ),
        ],
    )
    def test_mistakes_are_told_before_anything_is_loaded(
        self, found: Path, asked: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(UserError, match=said):
            AblatedHF(pretrained="no/such/model", direction=str(found), **asked)

    @pytest.mark.parametrize("ablation", ["affine", "projected"])
    def test_a_direction_without_the_mean_is_extracted_anew(
        self, found: Path, tmp_path: Path, ablation: str
    ) -> None:
        """A file with one vector, and an artifact of an earlier version."""
        direction = artifact.load(found)
        save_file({"direction": direction.direction}, tmp_path / "one.safetensors")
        artifact.save(
            Direction(direction.direction, direction.candidates, [], direction.metadata),
            tmp_path / "older",
        )
        assert artifact.load(tmp_path / "older").harmless_mean is None
        for given in ("one.safetensors", "older"):
            with pytest.raises(BadDirection, match=f"ablation={ablation} needs .*{given} does not"):
                AblatedHF(pretrained="no/model", direction=str(tmp_path / given), ablation=ablation)

    def test_a_prompt_beside_edited_weights_is_free_of_what_they_are(
        self, chat_model: Path, found: Path, tmp_path: Path
    ) -> None:
        import json

        save_file(
            {"prompt_embeddings": drawn(3, 32).float()}, tmp_path / "adapter_model.safetensors"
        )
        (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "PROMPT_TUNING"}))
        lm = AblatedHF(
            pretrained=str(chat_model), direction=str(found), ablation="projected",
            method="weights", prompt=str(tmp_path), device="cpu",
        )  # fmt: skip
        assert lm.condition == "projected-ablation+mcd"
        left = unit(projected(artifact.load(found), ""))
        vectors = next(one for one in lm.interventions if hasattr(one, "vectors")).vectors
        assert (vectors.double() @ left).abs().max() < 1e-5


@pytest.mark.parametrize("ablation", ["affine", "projected"])
@pytest.mark.parametrize("control", ["", "random-"])
def test_a_study_knows_the_condition_by_its_name(ablation: str, control: str) -> None:
    """And reads its arguments before a direction is extracted."""
    settings = dict(CONDITIONS[f"{control}{ablation}-ablation"])
    assert (settings.pop("model"), settings.pop("direction")) == ("ablated", "source")
    assert settings == {"ablation": ablation} | ({"control": "random"} if control else {})
    with stand_ins() as (direction, _):
        given = {"pretrained": "no/such/model", "direction": direction, **settings}
        try_arguments(AblatedHF, given, vllm=False)
        with pytest.raises(UserError, match="ablation=none is not known"):
            try_arguments(AblatedHF, given | {"ablation": "none"}, vllm=False)


class TestHarmlessMean:
    def test_it_is_of_every_block_s_input_and_of_what_the_last_passes_on(
        self, chat_model: Path
    ) -> None:
        """Against one prompt at a time, in numpy's float64."""
        lm = BaselineHF(pretrained=str(chat_model), device="cpu", batch_size=3)
        prompts = ["What is a bench?", "Hi", "Name three rivers of Quend, please."]
        seen = observe(lm.chat_model, prompts, 2)
        found = mean_by_layer(seen.states[:, -1], seen.left[:, -1])
        expected = np.zeros((5, 32))
        for prompt in prompts:
            ids = torch.tensor([lm.tok_encode(lm.render(prompt), add_special_tokens=False)])
            expected += np.stack([x[0, -1].double().numpy() for x in block_inputs(lm.model, ids)])
        np.testing.assert_allclose(found.numpy(), expected / 3, atol=1e-5)
        assert found.dtype == torch.float32

    def test_an_artifact_round_trips_and_another_shape_is_refused(
        self, found: Path, tmp_path: Path
    ) -> None:
        direction = artifact.load(found)
        mean = direction.harmless_mean
        assert mean is not None and torch.equal(mean, drawn(5, 32, seed=1).float())
        direction.check(32, "here")
        bad = Direction(direction.direction, direction.candidates, [], {}, mean[:4])
        artifact.save(bad, tmp_path / "bad")
        with pytest.raises(BadDirection, match=r"harmless_mean has shape \(4, 32\), not \(5, 32\)"):
            artifact.load(tmp_path / "bad")
        nan = Direction(direction.direction, direction.candidates, [], {}, mean * float("nan"))
        with pytest.raises(BadDirection, match="the harmless mean has NaN"):
            nan.check(32, "here")
        for other, said in (
            (mean[:, :16], "the harmless mean has 16 dimensions, and the direction has 32"),
            (mean.to(torch.float8_e4m3fn), "the harmless mean is of type torch.float8_e4m3fn"),
            (mean.int(), "the harmless mean is of type torch.int32"),
            (mean.to(torch.complex64), "the harmless mean is of type torch.complex64"),
        ):
            damaged = Direction(direction.direction, direction.candidates, [], {}, other)
            with pytest.raises(BadDirection, match=said):
                damaged.check(32, "here")
