"""Ablation against float64 closed forms."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from lm_eval.models.hf_steered import SteeredModel, steer

from polyrefuse_models.interventions import (
    Ablation,
    Addition,
    ablate,
    ablate_rows,
    ablated,
    add_rows,
    installed,
)
from tests.models import make_llama


def block_inputs(model: torch.nn.Module, ids: torch.Tensor) -> list[torch.Tensor]:
    """The residual stream at every block's input, and at the final norm's."""
    seen: list[torch.Tensor] = []
    modules = [*model.model.layers, model.model.norm]
    handles = [
        module.register_forward_pre_hook(
            lambda _m, args, kwargs: seen.append(args[0] if args else kwargs["hidden_states"]),
            with_kwargs=True,
        )
        for module in modules
    ]
    with torch.no_grad():
        model(input_ids=ids)
    for handle in handles:
        handle.remove()
    return seen


def test_ablate_is_the_projection_onto_the_orthogonal_complement() -> None:
    x = torch.randn(3, 5, 16, dtype=torch.float64)
    r = torch.randn(16, dtype=torch.float64)
    r /= r.norm()
    projector = np.eye(16) - np.outer(r.numpy(), r.numpy())
    np.testing.assert_allclose(ablate(x, r).numpy(), x.numpy() @ projector, atol=1e-14)


def test_bfloat16_states_keep_their_type_and_lose_the_component() -> None:
    # Seeded, because rounding leaves a share of the component that differs from draw to draw.
    random = torch.Generator().manual_seed(0)
    x = torch.randn(4, 4096, dtype=torch.bfloat16, generator=random)
    r = torch.nn.functional.normalize(torch.randn(4096, generator=random), dim=0)
    left = ablate(x, r)
    assert left.dtype is torch.bfloat16
    assert (left.float() @ r).abs().max() < 0.01 * (x.float() @ r).abs().max() + 0.01


def numpy_llama(
    model: torch.nn.Module,
    ids: list[int],
    r: np.ndarray,
    coefficient: float = 1.0,
    layers: range | None = None,
    values: np.ndarray | None = None,
) -> np.ndarray:
    """The ablated Llama written out in float64: logits [token, vocabulary].

    What the first of `layers` reads and every write of theirs to the residual stream is multiplied
    by (I - c r r^T); nothing of transformers runs. With `values`, one for every block's input and
    one for the final norm's, the component along r, which is then 0, is raised to them.
    """
    w = {name: p.detach().double().numpy() for name, p in model.named_parameters()}
    config = model.config
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    size = config.hidden_size // heads
    n = len(ids)
    layers = layers or range(config.num_hidden_layers)
    identity = np.eye(config.hidden_size)
    ablating = identity - coefficient * np.outer(r, r)

    def norm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + config.rms_norm_eps) * weight

    theta = config.rope_parameters["rope_theta"]
    angle = np.outer(np.arange(n), theta ** (-np.arange(0, size, 2) / size))
    cos, sin = (np.concatenate([f(angle)] * 2, -1)[:, None] for f in (np.cos, np.sin))

    def rotate(x: np.ndarray) -> np.ndarray:
        half = size // 2
        return x * cos + np.concatenate([-x[..., half:], x[..., :half]], -1) * sin

    x = w["model.embed_tokens.weight"][ids]
    for layer in range(config.num_hidden_layers):
        project = ablating if layer in layers else identity
        x = x @ ablating if layer == layers.start else x
        raised = values[layer] * r if values is not None else 0
        x = x + raised
        at = f"model.layers.{layer}."
        h = norm(x, w[at + "input_layernorm.weight"])
        q, k, v = (
            (h @ w[at + f"self_attn.{name}_proj.weight"].T).reshape(n, count, size)
            for name, count in (("q", heads), ("k", groups), ("v", groups))
        )
        q, k = rotate(q), rotate(k)
        k, v = (np.repeat(t, heads // groups, axis=1) for t in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(size)
        scores[:, np.triu(np.ones((n, n), bool), 1)] = -np.inf
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", weights, v).reshape(n, -1)
        x = x + mixed @ w[at + "self_attn.o_proj.weight"].T @ project
        h = norm(x, w[at + "post_attention_layernorm.weight"])
        gate, up = (h @ w[at + f"mlp.{name}_proj.weight"].T for name in ("gate", "up"))
        silu = gate / (1 + np.exp(-gate))
        x = x + (silu * up) @ w[at + "mlp.down_proj.weight"].T @ project - raised
    x = x + values[-1] * r if values is not None else x
    return norm(x, w["model.norm.weight"]) @ w["lm_head.weight"].T


def test_the_ablated_model_is_the_closed_form() -> None:
    model = make_llama(seed=3, layers=2).double()
    direction = torch.randn(model.config.hidden_size, dtype=torch.float64) * 7
    ids = [0, 20, 99, 180, 33, 6]
    # The hooks hold r in float32, so the closed form is given the same r.
    unit = (direction / direction.norm()).float().double()
    expected = numpy_llama(model, ids, unit.numpy())
    with torch.no_grad(), ablated(model, direction):
        logits = model(input_ids=torch.tensor([ids])).logits[0]
    np.testing.assert_allclose(logits.numpy(), expected, atol=1e-6)
    with torch.no_grad():
        untouched = model(input_ids=torch.tensor([ids])).logits[0]
    assert (untouched - logits).abs().max() > 0.1
    np.testing.assert_allclose(
        untouched.numpy(), numpy_llama(model, ids, np.zeros(len(unit))), atol=1e-6
    )


@pytest.mark.parametrize("coefficient", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("layers", [None, range(1, 3), range(3, 4)])
def test_a_share_of_it_or_some_layers_are_the_closed_form(
    coefficient: float, layers: range | None
) -> None:
    """A share is taken of each write once, however many blocks follow."""
    model = make_llama(seed=3).double()
    direction = torch.randn(32, generator=torch.Generator().manual_seed(1))
    ids = [0, 20, 99, 180, 33, 6]
    unit = (direction.double() / direction.double().norm()).float().double().numpy()
    ablation = Ablation(direction, coefficient=coefficient, layers=layers)
    with installed(model, ablation), torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0]
    expected = numpy_llama(model, ids, unit, coefficient, layers)
    # r in float32 has a length of 1 up to 6e-8, and its square is projected out more than once.
    np.testing.assert_allclose(logits.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("massive_by", [1, 100])
def test_in_bfloat16_no_more_is_left_than_lm_evals_steered_leaves(
    seed: int, massive_by: float
) -> None:
    """Of a state along r, in 24 blocks, where few dimensions are a hundred times as large as
    others, as in published models, and where none are; `steered` clamps 2 L + 1 points to 0."""
    torch.manual_seed(seed)
    model, massive = make_llama(seed=1 + seed, layers=24, width=256), [3, 17, 101, 200]
    for block in model.model.layers:
        for projection in (block.self_attn.o_proj, block.mlp.down_proj):
            projection.weight.data[massive] *= massive_by
    model.to(torch.bfloat16)
    direction = torch.randn(256)
    direction[massive] *= 5
    unit = (direction / direction.norm()).double()
    ids = torch.randint(3, 264, (4, 16))

    def shares() -> torch.Tensor:
        states = [x.double() for x in block_inputs(model, ids)]
        return torch.stack([(x @ unit).abs() / x.norm(dim=-1) for x in states])

    with installed(model, Ablation(direction)):
        ours = shares()
    vector = direction.to(torch.bfloat16)
    clamp = partial(
        SteeredModel.clamp, direction=vector / vector.norm(), value=0.0, head_index=None
    )
    points = ["embed_tokens"]
    points += [f"layers.{i}.{part}" for i in range(24) for part in ("self_attn", "mlp")]
    with steer(model, dict.fromkeys(points, clamp)):
        theirs = shares()
    assert ours.max() < theirs.max()
    assert ours.mean() < theirs.mean()
    assert ours.max() < 0.005
    # Just off 1, every write is projected instead: what the sums leave is then seen.
    with installed(model, Ablation(direction, coefficient=1.0 + 1e-9)):
        assert shares().mean() > 1.2 * ours.mean()


def test_float16_states_whose_dot_product_overflows_are_ablated() -> None:
    """The sum of a thousand products of 200 and 2 is more than float16 can hold."""
    model = make_llama(width=1024, layers=1).to(torch.float16)
    ablation = Ablation(torch.ones(1024))
    x = torch.full((1, 2, 1024), 6e4, dtype=torch.float16)
    assert ablation._change(x).abs().max() < 100
    with installed(model, ablation):
        assert model(input_ids=torch.tensor([[5, 6]])).logits.isfinite().all()


def test_a_state_of_no_batch_dimension_or_of_one_row_a_vector_is_ablated() -> None:
    """As some mixtures of experts return it, [row * token, d], and as several rows a direction."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(6, 5, 16, dtype=torch.float64, generator=random)
    r = torch.nn.functional.normalize(
        torch.randn(3, 16, dtype=torch.float64, generator=random), dim=-1
    )
    expected = torch.stack(
        [x[row] - 0.7 * torch.outer(x[row] @ r[row // 2], r[row // 2]) for row in range(6)]
    )
    torch.testing.assert_close(ablate_rows(x, r, 0.7), expected)
    torch.testing.assert_close(ablate_rows(x.flatten(0, 1), r, 0.7), expected.flatten(0, 1))
    torch.testing.assert_close(ablate(x[0], r[0], 0.7), expected[0])
    torch.testing.assert_close(
        add_rows(x, r), torch.stack([x[row] + r[row // 2] for row in range(6)])
    )


def test_what_answers_were_generated_with_can_be_trained_through() -> None:
    """Vectors that a hook copied in inference mode may be saved for a gradient afterwards."""
    model = make_llama(seed=1).to(torch.bfloat16).requires_grad_(False)
    ids = torch.tensor([[0, 20, 99, 180]])
    with (
        installed(model, Ablation(torch.randn(32))),
        installed(model, Addition(torch.randn(32), 1)),
    ):
        with torch.inference_mode():
            model(input_ids=ids)
        x = model.get_input_embeddings()(ids).requires_grad_()
        before = x.detach().clone()
        model(inputs_embeds=x).logits.float().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() > 0
    assert torch.equal(x, before)  # no hook writes into what it is given


def test_every_block_input_is_clean_and_removal_restores_the_model() -> None:
    model = make_llama(seed=1)
    ids = torch.tensor([[0, 20, 99, 180], [0, 41, 77, 8]])
    before = model(input_ids=ids).logits
    r = torch.nn.functional.normalize(torch.randn(model.config.hidden_size), dim=0)
    ablation = Ablation(3 * r)
    ablation.install(model)
    assert all((x @ r).abs().max() < 1e-5 for x in block_inputs(model, ids))
    ablation.remove()
    assert torch.equal(model(input_ids=ids).logits, before)
    assert max((x @ r).abs().max() for x in block_inputs(model, ids)) > 1e-2


def test_rows_of_a_batch_may_have_directions_of_their_own() -> None:
    model = make_llama(seed=1)
    ids = torch.tensor([[0, 20, 99, 180], [0, 41, 77, 8]])
    directions = torch.randn(2, model.config.hidden_size)
    with ablated(model, directions):
        together = model(input_ids=ids).logits
    for row in range(2):
        with ablated(model, directions[row]):
            alone = model(input_ids=ids[row : row + 1]).logits[0]
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=1e-5)


def test_the_zero_vector_is_nan_and_spoils_no_other_row() -> None:
    """At layer 0 a template's tokens are the same for every prompt, so candidates there are 0."""
    model = make_llama(seed=1)
    ids = torch.tensor([[0, 20, 99, 180], [0, 41, 77, 8]])
    directions = torch.stack([torch.zeros(32), torch.randn(32)])
    with ablated(model, directions):
        logits = model(input_ids=ids).logits
    assert logits[0].isnan().all() and logits[1].isfinite().all()
