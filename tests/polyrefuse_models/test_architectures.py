"""Every design that people use, as a tiny random model made from its configuration."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from polyrefuse_models.anatomy import UnknownArchitecture, dissect, input_device, width
from polyrefuse_models.hooks import Hooks
from polyrefuse_models.interventions import Ablation, Addition, LayerOutOfRange, ablated
from polyrefuse_models.interventions.orthogonalise import (
    NotExact,
    obstacle,
    orthogonalise,
    project,
)
from tests.models import COMMON, LAYERS, OWN, WIDTH, multimodal_gemma, tiny

PLAIN = (
    *("llama", "qwen2", "qwen3", "qwen3_moe", "mistral", "mixtral", "phi3", "granite", "gpt_oss"),
)
PARALLEL = ("cohere2", "gpt_neox")
POST_NORM = ("gemma2", "gemma3_text", "olmo2")
# What the first block reads is not the embedding alone: learned positions, a norm.
EMBEDDED_OTHERWISE = ("gpt2", "gpt_neo", "gpt_bigcode", "bloom")
# What mixes tokens by more than attention: weights are exact for these,
HYBRID = (
    "qwen3_5_text", "lfm2", "lfm2_moe", "granitemoehybrid", "bamba", "falcon_h1", "jamba",
    "nemotron_h", "recurrent_gemma", "zamba", "zamba2", "mamba", "falcon_mamba", "mamba2", "xlstm",
)  # fmt: skip
# and not for these: shared experts, norms behind.
HYBRID_BY_HOOKS = ("qwen3_next", "qwen3_5_moe_text", "kimi_linear", "olmo_hybrid", "lfm3")
IDS = torch.tensor([[1, 5, 9, 33, 2], [4, 4, 60, 7, 8]])


def a_direction(seed: int = 1) -> torch.Tensor:
    return torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def logits(model: PreTrainedModel) -> torch.Tensor:
    return model(input_ids=IDS, use_cache=False).logits


@torch.no_grad()
def largest_component(model: PreTrainedModel, r: torch.Tensor) -> float:
    """The largest |x.r| over every block's input and what the last one passes on, r of length 1."""
    unit = r / r.norm()
    seen: list[float] = []

    def look(x: torch.Tensor) -> None:
        seen.append((x @ unit.to(x)).abs().max().item())

    blocks = [block.module for block in dissect(model).blocks]
    with Hooks() as hooks:
        for block in blocks:
            hooks.on_input(block, look)
        hooks.on_output(blocks[-1], look)
        model(input_ids=IDS, use_cache=False)
    assert len(seen) == LAYERS + 1
    return max(seen)


@pytest.mark.parametrize(
    "model_type",
    [
        *PLAIN,
        *PARALLEL,
        *POST_NORM,
        *EMBEDDED_OTHERWISE,
        *HYBRID,
        *HYBRID_BY_HOOKS,
        "llama4_text",
        "opt",
        "mpt",
    ],
)
def test_hooks_leave_every_block_input_clean(model_type: str) -> None:
    model, r = tiny(model_type), a_direction()
    before = logits(model)
    assert largest_component(model, r) > 1e-2
    ablation = Ablation(r)
    ablation.install(model)
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


LLAMA = "self_attn>o_proj + mlp>down_proj"
EXPERTS = "self_attn>o_proj + mlp"
CONVOLUTION, MAMBA = "conv>out_proj + feed_forward>w2", "mamba>out_proj + feed_forward>down_proj"
LINEAR = "linear_attn>out_proj + mlp"
NORMS = "post_attention_layernorm + post_feedforward_layernorm"
WIRING = {
    "llama": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "qwen3_moe": EXPERTS,
    "mistral": LLAMA,
    "mixtral": EXPERTS,
    "phi3": LLAMA,
    "granite": LLAMA,
    "gpt_oss": EXPERTS,
    "cohere2": "self_attn>o_proj | mlp>down_proj",
    "gpt_neox": "attention>dense | mlp>dense_4h_to_h",
    "gemma2": NORMS,
    "gemma3_text": NORMS,
    "olmo2": NORMS,
    "gpt2": "attn + mlp",
    "gpt_neo": "attn>attention.out_proj + mlp>c_proj",
    "gpt_bigcode": "attn>c_proj + mlp>c_proj",
    # These add to the stream within themselves.
    "bloom": "self_attention.dense> + mlp.dense_4h_to_h>",
    "mpt": "attn>out_proj + ffn.down_proj>",
    "opt": "self_attn>out_proj + fc2>",
    "llama4_text": "self_attn>o_proj + feed_forward",
    "qwen2_moe": EXPERTS,
    "qwen3_next": [f"{LINEAR}>down_proj", EXPERTS, LINEAR],
    "qwen3_5_text": [f"{LINEAR}>down_proj", LLAMA, f"{LINEAR}>down_proj"],
    "qwen3_5_moe_text": [LINEAR, EXPERTS, LINEAR],
    "olmo_hybrid": [
        "linear_attn>o_proj + mlp>down_proj",
        NORMS,
        "linear_attn>o_proj + mlp>down_proj",
    ],
    "kimi_linear": [LLAMA, EXPERTS, EXPERTS],
    "lfm2": [CONVOLUTION, "self_attn>out_proj + feed_forward>w2", CONVOLUTION],
    "lfm2_moe": [
        CONVOLUTION,
        "self_attn>out_proj + feed_forward",
        "conv>out_proj + feed_forward",
    ],
    "lfm3": "post_operator_norm + post_ffn_norm",
    "granitemoehybrid": [
        "mamba>out_proj + shared_mlp>output_linear",
        "self_attn>o_proj + shared_mlp>output_linear",
        "mamba>out_proj + shared_mlp>output_linear",
    ],
    "bamba": [MAMBA, "self_attn>o_proj + feed_forward>down_proj", MAMBA],
    "falcon_h1": "mamba>out_proj + self_attn>o_proj + feed_forward>down_proj",
    "jamba": [MAMBA, "self_attn>o_proj + feed_forward", MAMBA],
    "nemotron_h": ["mixer>out_proj", "mixer>o_proj", "mixer>down_proj"],
    "recurrent_gemma": [
        "temporal_block>linear_out + mlp_block>down_proj",
        "temporal_block>linear_out + mlp_block>down_proj",
        "temporal_block>o_proj + mlp_block>down_proj",
    ],
    "zamba": ["mamba>out_proj"] + 2 * ["linear> + mamba_decoder.mamba>out_proj"],
    "zamba2": ["mamba>out_proj"] + 2 * ["linear> + mamba_decoder.mamba>out_proj"],
    "mamba": "mixer>out_proj",
    "falcon_mamba": "mixer>out_proj",
    "mamba2": "mixer>out_proj",
    "xlstm": "mlstm_layer>out_proj + ffn>proj_down",
}
"""The writers of each block (or of all alike) and, behind >, the projection within each; with |
between them nothing in the block reads what the other wrote."""


def wiring(model: PreTrainedModel) -> list[str]:
    """As in `WIRING`."""
    blocks = []
    for block in dissect(model).blocks:
        names = {module: name for name, module in block.module.named_modules()}
        writers = []
        for writer in block.writers:
            name = names[writer.module]
            if writer.projection is not None:
                name += ">" + names[writer.projection].removeprefix(name).removeprefix(".")
            writers.append(name)
        blocks.append((" | " if block.parallel else " + ").join(writers))
    return blocks


@pytest.mark.parametrize("model_type", WIRING)
def test_what_writes_is_found(model_type: str) -> None:
    expected = WIRING[model_type]
    model = tiny(model_type)
    assert wiring(model) == (LAYERS * [expected] if isinstance(expected, str) else expected)
    norms = model_type in (*POST_NORM, "olmo_hybrid", "lfm3")
    assert dissect(model).post_norm == norms
    otherwise = model_type in (*EMBEDDED_OTHERWISE, "opt")
    assert dissect(model).alone != otherwise


@pytest.mark.parametrize("factor", [0.0, 1e-6])
def test_what_writes_little_or_nothing_yet_is_found(factor: float) -> None:
    """As the blocks that depth up-scaling adds, whose projections start at zero."""
    model = tiny("gemma2")
    for block in model.model.layers:
        block.post_attention_layernorm.weight.data[:] = factor - 1  # Gemma adds 1
        block.mlp.down_proj.weight.data *= factor
    assert wiring(model) == LAYERS * [NORMS]
    model = tiny("llama").bfloat16()
    for block in model.model.layers:
        block.mlp.down_proj.weight.data *= factor
    found = dissect(model).blocks
    assert [[w.module for w in b.writers] for b in found] == [
        [b.self_attn, b.mlp] for b in model.model.layers
    ]


def test_a_shared_expert_beside_the_others_is_a_third_writer() -> None:
    model = tiny("granitemoehybrid", num_local_experts=4)
    assert wiring(model)[1] == "self_attn>o_proj + block_sparse_moe + shared_mlp>output_linear"


def test_a_sequential_gpt_neox_is_not_parallel() -> None:
    anatomy = dissect(tiny("gpt_neox", use_parallel_residual=False))
    assert not any(block.parallel for block in anatomy.blocks)


@pytest.mark.parametrize("model_type", POST_NORM)
def test_weights_are_refused_where_a_norm_follows(model_type: str) -> None:
    with pytest.raises(NotExact, match="post-norm.*method=hooks"):
        orthogonalise(tiny(model_type), a_direction())


def test_weights_are_refused_beside_a_shared_expert() -> None:
    model = tiny("qwen2_moe")
    assert "nor from stacked experts alone" in (obstacle(model) or "")
    r = a_direction()
    with ablated(model, r):
        assert largest_component(model, r) < 1e-5


@pytest.mark.parametrize("model_type", EMBEDDED_OTHERWISE)
def test_weights_are_refused_where_the_stream_does_not_begin_as_the_embedding(
    model_type: str,
) -> None:
    model = tiny(model_type)
    assert not dissect(model).post_norm
    with pytest.raises(NotExact, match="the first block reads more than the embedding"):
        orthogonalise(model, a_direction())


def test_weights_are_refused_where_experts_are_added_to_the_shared_one_in_place() -> None:
    assert "the output of block 0's Llama4TextMoe comes neither" in (
        obstacle(tiny("llama4_text")) or ""
    )


def test_experts_that_flatten_their_rows_take_a_direction_a_row() -> None:
    model = tiny("llama4_text")
    directions = torch.stack([a_direction(1), a_direction(2)])
    with ablated(model, directions):
        together = logits(model)
    for row in range(2):
        with ablated(model, directions[row]):
            torch.testing.assert_close(together[row], logits(model)[row], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 7, 10**6])
@pytest.mark.parametrize(("shape", "dim"), [((40, 8), 1), ((8, 40), 0), ((3, 8, 9), 1), ((8,), 0)])
def test_a_matrix_is_projected_in_parts(
    shape: tuple[int, ...], dim: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyrefuse_models.interventions.orthogonalise._AT_ONCE", 8 * rows)
    weights, unit = (
        torch.randn(shape),
        torch.nn.functional.normalize(torch.randn(8).double(), dim=0),
    )
    wide = weights.double().movedim(dim, -1)
    expected = (wide - (wide @ unit)[..., None] * unit).movedim(-1, dim).float()
    project(weights, unit, dim)
    torch.testing.assert_close(weights, expected, atol=1e-7, rtol=1e-6)


def test_weights_are_refused_for_a_part_of_the_model() -> None:
    model = tiny("llama")
    assert obstacle(model, layers=range(LAYERS)) is None
    assert "coefficient=0.5" in (obstacle(model, coefficient=0.5) or "")
    assert "layers" in (obstacle(model, layers=range(1, 2)) or "")
    model.is_quantized = True
    assert "quantised" in (obstacle(model) or "")


def test_the_text_part_of_a_multimodal_hybrid() -> None:
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    text = {k: v for k, v in COMMON.items() if not k.endswith("token_id")} | OWN["qwen3_5_text"]
    vision = {
        "depth": 2, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "patch_size": 4,
        "out_hidden_size": WIDTH, "num_position_embeddings": 16,
    }  # fmt: skip
    torch.manual_seed(0)
    config = Qwen3_5Config(text_config=text, vision_config=vision)
    model, r = Qwen3_5ForConditionalGeneration(config).eval(), a_direction()
    assert wiring(model) == WIRING["qwen3_5_text"]
    with ablated(model, r):
        hooked = logits(model)
        assert largest_component(model, r) < 1e-5
    orthogonalise(model, r)
    torch.testing.assert_close(logits(model), hooked, atol=1e-5, rtol=0)


def test_the_text_part_of_a_multimodal_model() -> None:
    model = multimodal_gemma()
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
    addition = Addition(direction, 1, coefficient=2.0)
    addition.install(model)
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
    norm = model.model.layers[0].input_layernorm
    norm.register_forward_pre_hook(lambda _m, args: seen.append(args[0] @ unit))
    logits(model)
    Ablation(r, coefficient=0.25).install(model)
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
    Ablation(r, layers=range(1, 2)).install(model)
    logits(model)
    assert torch.equal(inputs[0], inputs[3])  # block 0 reads what it read before
    assert not torch.equal(inputs[1], inputs[4])
    assert components[1] < 1e-5 < components[0]


def test_layers_out_of_range() -> None:
    model, r = tiny("llama"), a_direction()
    with pytest.raises(
        LayerOutOfRange, match="Layer 2-3 is not in the model, whose layers are 0-2"
    ):
        Ablation(r, layers=range(2, 4)).install(model)
    with pytest.raises(LayerOutOfRange, match="Layer 3 is not"):
        Addition(r, 3).install(model)


def test_what_does_not_fit_is_named() -> None:
    model = tiny("llama")
    model.config.num_hidden_layers = 7
    with pytest.raises(
        UnknownArchitecture, match="No list of 7 decoder blocks .* of LlamaForCausalLM"
    ):
        dissect(model)


@pytest.mark.parametrize(
    ("model_type", "sentence"),
    [
        # per-layer inputs and a branch beside the attention, over four streams
        ("gemma3n_text", "The output of block 0 of Gemma3nForCausalLM is not a sum of"),
        # a norm of the sum
        ("openai-gpt", "The output of block 0 of OpenAIGPTLMHeadModel is not a sum of"),
        # the last block alone adds a bias of its own
        ("gpt_neox_japanese", "The output of block 2 of GPTNeoXJapaneseForCausalLM is not"),
        # norms of the sum before each module
        ("minimax", "The output of block 0 of MiniMaxForCausalLM is not a sum of"),
        # a factor for each dimension
        ("doge", "The output of block 0 of DogeForCausalLM is not a sum of"),
        # a norm of the embedding within the first block
        ("rwkv", "The output of block 0 of RwkvForCausalLM is not a sum of"),
    ],
)
def test_what_cannot_be_ablated_is_refused(model_type: str, sentence: str) -> None:
    with pytest.raises(UnknownArchitecture, match=sentence):
        Ablation(a_direction()).install(tiny(model_type))


def test_a_block_that_text_does_not_reach_is_named() -> None:
    from transformers import MllamaForCausalLM, MllamaTextConfig

    settings = {k: v for k, v in COMMON.items() if k != "head_dim"}
    model = MllamaForCausalLM(MllamaTextConfig(**settings, cross_attention_layers=[1])).eval()
    with pytest.raises(UnknownArchitecture, match="Block 1 of MllamaForCausalLM takes no part"):
        dissect(model)


class Beside(torch.nn.Module):
    """A decoder block with a second branch beside its attention: a module, or bare weights."""

    def __init__(self, block: torch.nn.Module, *, bare: bool) -> None:
        super().__init__()
        self.block, self.bare = block, bare
        self.mamba = torch.nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        linear = torch.nn.functional.linear
        beside = (
            linear(hidden_states, self.mamba.weight) if self.bare else self.mamba(hidden_states)
        )
        return self.block(hidden_states, **kwargs) + beside


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_second_branch_is_found_in_every_precision(dtype: torch.dtype) -> None:
    model = tiny("llama").to(dtype)
    model.model.layers[1] = Beside(model.model.layers[1], bare=False).to(dtype)
    assert wiring(model) == [LLAMA, "mamba> + block.self_attn>o_proj + block.mlp>down_proj", LLAMA]
    model = tiny("llama").to(dtype)
    model.model.layers[1] = Beside(model.model.layers[1], bare=True).to(dtype)
    with pytest.raises(UnknownArchitecture, match="The output of block 1 of LlamaForCausalLM"):
        dissect(model)


def test_a_block_that_writes_into_its_input_is_seen_through() -> None:
    model = tiny("llama")
    extra = torch.randn(WIDTH)
    model.model.layers[1].register_forward_hook(
        lambda _m, args, output: args[0].copy_(output + extra)
    )
    with pytest.raises(UnknownArchitecture, match="The output of block 1 of LlamaForCausalLM"):
        dissect(model)


def test_what_is_added_between_blocks_is_seen() -> None:
    model = tiny("llama")
    extra = torch.randn(WIDTH)
    model.model.layers[2].register_forward_pre_hook(lambda _m, args: (args[0] + extra, *args[1:]))
    with pytest.raises(UnknownArchitecture, match="The output of block 1 of LlamaForCausalLM"):
        dissect(model)


class InAList(torch.nn.Module):
    """A decoder block with its parts in a list."""

    def __init__(self, block: torch.nn.Module) -> None:
        super().__init__()
        self.norms = torch.nn.ModuleList([block.input_layernorm, block.post_attention_layernorm])
        self.parts = torch.nn.ModuleDict({"mixer": block.self_attn, "mlp": block.mlp})

    def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        mixed, _ = self.parts["mixer"](hidden_states=self.norms[0](hidden_states), **kwargs)
        hidden_states = hidden_states + mixed
        return hidden_states + self.parts["mlp"](self.norms[1](hidden_states))


def test_parts_in_a_list_are_found() -> None:
    model = tiny("llama")
    model.model.layers[1] = InAList(model.model.layers[1])
    assert wiring(model)[1] == "parts.mixer>o_proj + parts.mlp>down_proj"


def test_a_projection_that_writes_nothing_yet_is_not_taken_for_another() -> None:
    model = tiny("llama")
    model.model.layers[1].self_attn.o_proj.weight.data[:] = 0
    assert wiring(model)[1] == "self_attn + mlp>down_proj"
    assert "the output of block 1's LlamaAttention comes neither" in (obstacle(model) or "")


def test_looking_leaves_chance_and_the_model_as_they_were() -> None:
    model = tiny("recurrent_gemma")
    before, state = logits(model), torch.random.get_rng_state()
    dissect(model)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(logits(model), before)


# --- adapters and offloaded weights


def test_virtual_tokens_of_prompt_tuning_are_ablated_too() -> None:
    from peft import PromptTuningConfig, get_peft_model

    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    model, r = get_peft_model(tiny("llama"), config).eval(), a_direction()
    assert largest_component(model, r) > 1e-2
    with ablated(model, r):
        assert largest_component(model, r) < 1e-5
    assert "adapter" in (obstacle(model) or "")


def test_an_offloaded_embedding() -> None:
    from accelerate import cpu_offload

    model, r = tiny("llama"), a_direction()
    with ablated(model, r):
        expected = logits(model)
    model = cpu_offload(tiny("llama"), execution_device=torch.device("cpu"))
    assert model.get_input_embeddings().weight.is_meta
    assert input_device(model) == torch.device("cpu")
    with ablated(model, r):
        torch.testing.assert_close(logits(model), expected)
    assert "offloaded" in (obstacle(model) or "")
