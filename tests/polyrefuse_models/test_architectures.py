"""Every design that people use, as a tiny random model made from its configuration."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from polyrefuse_models.anatomy import UnknownArchitecture, dissect, width
from polyrefuse_models.interventions import Ablation, Addition, LayerOutOfRange, ablated
from polyrefuse_models.orthogonalise import NotExact, obstacle, orthogonalise

WIDTH, LAYERS = 32, 3
COMMON: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 1,
}
SPECIAL: dict[str, dict[str, Any]] = {
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": WIDTH},
    "mixtral": {"num_local_experts": 4},
    # As in the published models, experts as wide as the residual stream.
    "gpt_oss": {"num_local_experts": 4, "intermediate_size": WIDTH},
    "granite": {"residual_multiplier": 0.3, "embedding_multiplier": 5.0},
}
PLAIN = ("llama", "qwen2", "qwen3", "qwen3_moe", "mistral", "mixtral", "phi3", "granite", "gpt_oss")
PARALLEL = ("cohere2", "gpt_neox")
POST_NORM = ("gemma2", "gemma3_text", "olmo2")
IDS = torch.tensor([[1, 5, 9, 33, 2], [4, 4, 60, 7, 8]])


def tiny(model_type: str, **more: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    settings = COMMON | SPECIAL.get(model_type, {}) | more
    config = AutoConfig.for_model(model_type, **settings)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for parameter in model.parameters():  # biases and norms too: they start as 0 and 1
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def a_direction(seed: int = 1) -> torch.Tensor:
    return torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def logits(model: PreTrainedModel) -> torch.Tensor:
    return model(input_ids=IDS, use_cache=False).logits


@torch.no_grad()
def largest_component(model: PreTrainedModel, r: torch.Tensor) -> float:
    """The largest |x.r| over the inputs of every block and of the final norm, r of unit length."""
    unit = r / r.norm()
    seen = []

    def look(_module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        x = args[0] if args else kwargs["hidden_states"]
        seen.append((x @ unit).abs().max().item())

    final = next(
        m for n, m in model.get_decoder().named_children() if n in ("norm", "final_layer_norm")
    )
    watched = [*(block.module for block in dissect(model).blocks), final]
    handles = [m.register_forward_pre_hook(look, with_kwargs=True) for m in watched]
    model(input_ids=IDS, use_cache=False)
    for handle in handles:
        handle.remove()
    assert len(seen) == LAYERS + 1
    return max(seen)


@pytest.mark.parametrize("model_type", [*PLAIN, *PARALLEL, *POST_NORM])
def test_hooks_leave_every_block_input_clean(model_type: str) -> None:
    model, r = tiny(model_type), a_direction()
    before = logits(model)
    assert largest_component(model, r) > 1e-2
    ablation = Ablation(model, r)
    assert largest_component(model, r) < 1e-5
    assert (logits(model) - before).abs().max() > 1e-3
    ablation.remove()
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("model_type", [*PLAIN, *PARALLEL])
def test_weights_do_what_hooks_do(model_type: str) -> None:
    model, r = tiny(model_type), a_direction()
    assert obstacle(model) is None
    with ablated(model, r):
        hooked = logits(model)
    orthogonalise(model, r)
    torch.testing.assert_close(logits(model), hooked, atol=1e-4, rtol=0)
    assert largest_component(model, r) < 1e-5


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "cohere2"])
def test_a_tied_unembedding_is_untied_first(model_type: str) -> None:
    model, r = tiny(model_type, tie_word_embeddings=True), a_direction()
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    head = model.get_output_embeddings().weight.detach().clone()
    with ablated(model, r):
        hooked = logits(model)
    orthogonalise(model, r)
    assert torch.equal(model.get_output_embeddings().weight, head)
    torch.testing.assert_close(logits(model), hooked, atol=1e-4, rtol=0)


@pytest.mark.parametrize("model_type", ["qwen3_moe", "gpt_oss"])
def test_experts_as_wide_as_the_stream_are_told_by_their_input_projection(model_type: str) -> None:
    model = tiny(model_type)
    experts = model.get_decoder().layers[0].mlp.experts
    assert experts.down_proj.shape[1] == experts.down_proj.shape[2] == WIDTH
    test_weights_do_what_hooks_do(model_type)


@pytest.mark.parametrize("model_type", [*PLAIN, *PARALLEL, *POST_NORM])
def test_designs_are_told_apart(model_type: str) -> None:
    anatomy = dissect(tiny(model_type))
    assert len(anatomy.blocks) == LAYERS
    assert {block.parallel for block in anatomy.blocks} == {model_type in PARALLEL}
    assert anatomy.post_norm == (model_type in POST_NORM)
    assert all(block.attention.projection is not None for block in anatomy.blocks)


def test_a_sequential_gpt_neox_is_not_parallel() -> None:
    anatomy = dissect(tiny("gpt_neox", use_parallel_residual=False))
    assert not any(block.parallel for block in anatomy.blocks)


@pytest.mark.parametrize("model_type", POST_NORM)
def test_weights_are_refused_where_a_norm_follows(model_type: str) -> None:
    with pytest.raises(NotExact, match="post-norm.*method=hooks"):
        orthogonalise(tiny(model_type), a_direction())


def test_weights_are_refused_beside_a_shared_expert() -> None:
    model = tiny("qwen2_moe", num_experts=4, moe_intermediate_size=16)
    assert "nor stacked experts alone" in (obstacle(model) or "")
    r = a_direction()
    with ablated(model, r):
        assert largest_component(model, r) < 1e-5


def test_weights_are_refused_for_a_part_of_the_model() -> None:
    model = tiny("llama")
    assert "coefficient=0.5" in (obstacle(model, coefficient=0.5) or "")
    assert "layers" in (obstacle(model, layers=range(1, 2)) or "")
    model.is_quantized = True
    assert "quantised" in (obstacle(model) or "")


def test_the_text_part_of_a_multimodal_model() -> None:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    torch.manual_seed(0)
    text = {k: v for k, v in COMMON.items() if not k.endswith("token_id")}
    vision = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    model = Gemma3ForConditionalGeneration(config).eval()
    assert width(model) == WIDTH
    assert len(dissect(model).blocks) == LAYERS
    r = a_direction()
    with ablated(model, r):
        assert largest_component(model, r) < 1e-5


# --- addition, coefficients, layers


@pytest.mark.parametrize("model_type", [*PLAIN, *PARALLEL, *POST_NORM])
def test_addition_is_at_the_input_of_its_layer(model_type: str) -> None:
    model, direction = tiny(model_type), a_direction()
    taken: list[torch.Tensor] = []
    blocks = dissect(model).blocks

    def look(_module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        taken.append(args[0] if args else kwargs["hidden_states"])

    blocks[0].module.register_forward_pre_hook(look, with_kwargs=True)
    norm = blocks[1].module
    logits(model)
    addition = Addition(model, direction, 1, coefficient=2.0)
    norm.register_forward_pre_hook(look, with_kwargs=True)
    changed = logits(model)
    addition.remove()
    unchanged = logits(model)
    before, before_again, at_layer, _, plain = taken
    torch.testing.assert_close(before, before_again)  # what lies below is not touched
    torch.testing.assert_close(at_layer, plain + 2 * direction)
    assert (changed - unchanged).abs().max() > 1e-3


def test_a_coefficient_removes_its_share_of_the_component() -> None:
    model, r = tiny("llama"), a_direction()
    dissect(model)  # its forward pass, which is made once, is not to be seen below
    unit = r / r.norm()
    seen: list[torch.Tensor] = []
    model.model.layers[0].register_forward_pre_hook(lambda _m, args: seen.append(args[0] @ unit))
    logits(model)
    Ablation(model, r, coefficient=0.25)
    logits(model)
    torch.testing.assert_close(seen[1], 0.75 * seen[0])


def test_chosen_layers_leave_the_others_alone() -> None:
    model, r = tiny("llama"), a_direction()
    dissect(model)
    unit = r / r.norm()
    inputs: list[torch.Tensor] = []
    for layer in model.model.layers:
        layer.self_attn.register_forward_pre_hook(
            lambda _m, _args, kwargs: inputs.append(kwargs["hidden_states"]), with_kwargs=True
        )
    components: list[float] = []
    model.model.layers[2].register_forward_pre_hook(
        lambda _m, args: components.append((args[0] @ unit).abs().max().item())
    )
    logits(model)
    Ablation(model, r, layers=range(1, 2))
    logits(model)
    assert torch.equal(inputs[0], inputs[3])  # block 0 reads what it read before
    assert not torch.equal(inputs[1], inputs[4])
    assert components[1] < 1e-5 < components[0]


def test_layers_out_of_range() -> None:
    model, r = tiny("llama"), a_direction()
    with pytest.raises(
        LayerOutOfRange, match="layer 2-3 is not in the model, whose layers are 0-2"
    ):
        Ablation(model, r, layers=range(2, 4))
    with pytest.raises(LayerOutOfRange, match="layer 3 is not"):
        Addition(model, r, 3)


def test_what_does_not_fit_is_named() -> None:
    model = tiny("llama")
    model.config.num_hidden_layers = 7
    with pytest.raises(UnknownArchitecture, match="LlamaForCausalLM: no list of 7 decoder blocks"):
        dissect(model)
    model = tiny("llama")
    model.model.layers[1].mlp = torch.nn.Identity()
    with pytest.raises(UnknownArchitecture, match="block 1 of LlamaForCausalLM: no MLP modules"):
        dissect(model)
