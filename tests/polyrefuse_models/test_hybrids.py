"""Models that mix tokens by more than attention: a recurrent state, a convolution, or both.

What `test_architectures.py` shows of every design is not repeated here; these are the places where
a state behind the last token could go wrong: caches, padding, and rows that share a forward pass.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from polyrefuse_models.anatomy import dissect
from polyrefuse_models.directions.extract import observe
from polyrefuse_models.directions.search import score_all
from polyrefuse_models.hooks import Hooks
from polyrefuse_models.interventions import (
    Ablation,
    Addition,
    SoftPrompt,
    ablated,
    embed_text,
    installed,
)
from polyrefuse_models.interventions.orthogonalise import obstacle, orthogonalise
from polyrefuse_models.mcd.labels import sampled_answers
from polyrefuse_models.mcd.states import batch_states
from tests.models import LAYERS, SPECIAL, WIDTH, make_tokenizer, tiny
from tests.polyrefuse_models.test_architectures import (
    HYBRID,
    HYBRID_BY_HOOKS,
    IDS,
    a_direction,
    largest_component,
    logits,
)
from tests.polyrefuse_models.test_directions import PROMPTS, make_chat
from tests.polyrefuse_models.test_search import every_score, make_trial

BYTES = len(SPECIAL) + 256
# Its cache has widths in multiples of 64, and the tiny model has not.
CACHED = tuple(t for t in (*HYBRID, *HYBRID_BY_HOOKS) if t != "xlstm")
PADDED = tuple(t for t in CACHED if t != "recurrent_gemma")
# transformers gives these two's padding to the state: wrong with no hook in place too.
PADDING_IS_READ = ("recurrent_gemma", "xlstm")
SLOW = ("kimi_linear",)
"""Its deltas are computed in a loop of Python."""


def quick(*model_types: str) -> list[Any]:
    return [pytest.param(t, marks=pytest.mark.slow if t in SLOW else ()) for t in model_types]


def exact_direction() -> torch.Tensor:
    """Of length 1 in float32 without rounding."""
    random = torch.Generator().manual_seed(2)
    r = torch.zeros(WIDTH)
    signs = torch.randint(2, (16,), generator=random) * 2.0 - 1
    r[torch.randperm(WIDTH, generator=random)[:16]] = signs / 4
    return r


@pytest.mark.parametrize(
    ("model_type", "more"),
    [
        *((model_type, {}) for model_type in (*HYBRID, "mpt")),
        ("granitemoehybrid", {"num_local_experts": 4}),
        ("qwen3_next", {"mlp_only_layers": [0, 1, 2]}),
        ("lfm3", {"use_sandwich_norm": False}),
    ],
)
def test_weights_do_what_hooks_do_to_float64_precision(
    model_type: str, more: dict[str, Any]
) -> None:
    # Mamba's stream is in float32 unless it is told otherwise.
    settings = {"residual_in_fp32": False} | more
    model, r = tiny(model_type, torch.float64, **settings), exact_direction()
    assert obstacle(model) is None
    plain = logits(model)
    with ablated(model, r):
        hooked = logits(model)
        assert largest_component(model, r) < 1e-13
    orthogonalise(model, r)
    torch.testing.assert_close(logits(model), hooked, atol=1e-12, rtol=0)
    assert largest_component(model, r) < 1e-13
    assert (hooked - plain).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("qwen3_next", "the output of block 1's Qwen3NextSparseMoeBlock comes neither"),
        ("qwen3_5_moe_text", "the output of block 0's Qwen3_5MoeSparseMoeBlock comes neither"),
        ("kimi_linear", "the output of block 1's KimiLinearMoE comes neither"),
        ("olmo_hybrid", "post-norm"),
        ("lfm3", "post-norm"),
    ],
)
def test_weights_are_refused_where_a_hybrid_writes_by_more(model_type: str, reason: str) -> None:
    assert reason in (obstacle(tiny(model_type)) or "")


def test_experts_of_a_hybrid_go_with_hooks() -> None:
    model = tiny("nemotron_h", layers_block_type=["mamba", "attention", "moe"])
    assert "the output of block 2's NemotronHMoE comes neither" in (obstacle(model) or "")
    r = a_direction()
    with ablated(model, r):
        assert largest_component(model, r) < 1e-5


@pytest.mark.parametrize("model_type", ["bloom", "falcon_h1", "zamba", "nemotron_h", "qwen3_next"])
def test_a_share_is_taken_of_each_write_once(model_type: str) -> None:
    model, r = tiny(model_type, torch.float64), exact_direction().double()
    blocks = dissect(model).blocks
    writers = [writer.module for block in blocks for writer in block.writers]
    shares: dict[nn.Module, list[torch.Tensor]] = {m: [] for m in writers}
    streams: dict[nn.Module, list[torch.Tensor]] = {b.module: [] for b in blocks}
    with Hooks() as before, Hooks() as after:
        for hooks, ablation in ((before, Ablation(r, coefficient=0.25)), (after, None)):
            for module, seen in shares.items():
                hooks.on_output(module, lambda x, seen=seen: seen.append(x @ r))
            for module, seen in streams.items():
                hooks.on_output(module, lambda x, seen=seen: seen.append(x @ r))
            if ablation is not None:
                ablation.install(model)
        logits(model)
    # Each hook looked twice: at what a module gives, and at what the ablation makes of it.
    for given, left in shares.values():
        torch.testing.assert_close(left, 0.75 * given)
    for given, left in streams.values():
        assert torch.equal(left, given)


@pytest.mark.parametrize("model_type", quick(*CACHED))
def test_generation_with_a_cache_is_that_without(model_type: str) -> None:
    model = tiny(model_type, torch.float64)
    settings: dict[str, Any] = {
        "max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0,
        "output_logits": True, "return_dict_in_generate": True,
    }  # fmt: skip
    with ablated(model, a_direction()):
        cached, whole = (
            model.generate(input_ids=IDS, use_cache=use_cache, **settings)
            for use_cache in (True, False)
        )
        torch.testing.assert_close(cached.logits, whole.logits, atol=1e-4, rtol=0)
        assert torch.equal(cached.sequences, whole.sequences)
    plain = model.generate(input_ids=IDS, **settings)
    assert (plain.logits[0] - cached.logits[0]).abs().max() > 1e-2


def padded_and_alone(model: PreTrainedModel) -> tuple[torch.Tensor, torch.Tensor]:
    """The last token's logits of a short prompt: in a left-padded batch, and by itself."""
    long, short = torch.tensor([[5, 9, 33, 2, 7, 50, 61]]), torch.tensor([[4, 60, 8]])
    ids = torch.cat([long, torch.cat([torch.zeros_like(long[:, :4]), short], dim=1)])
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        batch = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
        return batch.logits[1, -1], model(input_ids=short, use_cache=False).logits[0, -1]


@pytest.mark.parametrize("model_type", quick(*PADDED))
def test_padding_on_the_left_changes_nothing(model_type: str) -> None:
    model = tiny(model_type)
    with ablated(model, a_direction()):
        torch.testing.assert_close(*padded_and_alone(model), atol=1e-5, rtol=0)


@pytest.mark.parametrize("model_type", PADDING_IS_READ)
def test_padding_that_transformers_lets_into_the_state(model_type: str) -> None:
    """docs/reference/models.md says so; if this fails, transformers has mended it."""
    batch, alone = padded_and_alone(tiny(model_type))
    assert (batch - alone).abs().max() > 1e-2


# --- directions, addition, soft prompts


@pytest.mark.parametrize("model_type", quick(*CACHED))
def test_each_candidate_has_the_scores_that_it_has_alone(model_type: str) -> None:
    """Rows join a pass at their layers, and what prompts begin with is read once at most where a
    cache may be shared."""
    chat = make_chat(batch_size=4)
    chat = replace(chat, model=tiny(model_type, vocab_size=len(chat.tokenizer)))
    trial = make_trial(chat, positions=1)
    _, scored = score_all(trial)
    for candidate, expected in zip(scored, every_score(trial), strict=True):
        assert list(candidate.record().values()) == pytest.approx(
            list(expected.record().values()), abs=1e-5
        )


@pytest.mark.parametrize("model_type", quick(*PADDED))
def test_states_are_those_of_each_prompt_alone(model_type: str) -> None:
    chat = make_chat()
    chat = replace(chat, model=tiny(model_type, vocab_size=len(chat.tokenizer)))
    seen = observe(chat, PROMPTS, n_positions=2)
    assert seen.states.shape == (len(PROMPTS), 2, LAYERS, WIDTH)
    for row, prompt in enumerate(PROMPTS):
        torch.testing.assert_close(
            seen.states[row], observe(chat, [prompt], 2).states[0], atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("model_type", quick(*CACHED))
def test_states_of_prompts_that_begin_alike_are_those_of_each_alone(model_type: str) -> None:
    chat = make_chat()
    chat = replace(chat, model=tiny(model_type, vocab_size=len(chat.tokenizer)))
    with torch.no_grad():
        alone = torch.cat([batch_states(chat, [prompt]) for prompt in PROMPTS])
        torch.testing.assert_close(batch_states(chat, PROMPTS), alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("model_type", ["falcon_h1", "jamba", "mamba", "recurrent_gemma"])
def test_answers_are_sampled_without_a_cache_to_share(model_type: str) -> None:
    chat = make_chat()
    chat = replace(chat, model=tiny(model_type, vocab_size=len(chat.tokenizer)))
    found = sampled_answers(chat, PROMPTS, answers=2, max_new_tokens=3, seed=1)
    assert [len(answers) for answers in found] == [2] * len(PROMPTS)


@pytest.mark.parametrize("model_type", quick(*HYBRID, *HYBRID_BY_HOOKS))
def test_addition_is_at_the_input_of_its_layer(model_type: str) -> None:
    model, direction, seen = tiny(model_type), a_direction(), []
    block = dissect(model).blocks[1].module

    def look(_block: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        seen.append(args[0] if args else kwargs["hidden_states"])

    with installed(model, Addition(direction, 1, coefficient=2.0)):
        handle = block.register_forward_pre_hook(look, with_kwargs=True)
        changed = logits(model)
    plain = logits(model)
    handle.remove()
    torch.testing.assert_close(seen[0], seen[1] + 2 * direction)
    assert (changed - plain).abs().max() > 1e-3


@pytest.mark.parametrize("model_type", quick(*CACHED))
def test_vectors_of_a_text_do_what_the_text_does(model_type: str) -> None:
    model, tokenizer = tiny(model_type, vocab_size=BYTES), make_tokenizer()
    text, question = "Be kind.", "<|user|>What is a bench?<|end|>"

    def answer(begin: str) -> torch.Tensor:
        ids = tokenizer(begin + question, return_tensors="pt", add_special_tokens=False).input_ids
        new = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=6,
            min_new_tokens=6,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        return torch.stack(new.logits)[..., :BYTES]

    expected = answer(text)
    with installed(model, SoftPrompt(tokenizer, embed_text(model, tokenizer, text))) as soft:
        torch.testing.assert_close(answer(soft.text), expected, atol=1e-5, rtol=0)
        soft.vectors[0] *= -1
        assert (answer(soft.text) - expected).abs().max() > 1e-3
