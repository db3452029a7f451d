"""The search and its scores, against every candidate scored alone, one prompt at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from polyrefuse_models.anatomy import decoder_blocks, dissect
from polyrefuse_models.chat_model import ChatModel
from polyrefuse_models.cudnn_attention import without_cudnn_attention
from polyrefuse_models.directions import search as search_module
from polyrefuse_models.directions.scores import (
    divergences,
    refusal_when_ablated,
    refusal_when_added,
)
from polyrefuse_models.directions.search import Trial, score_all, search
from polyrefuse_models.directions.select import DEFAULT, RULES, Candidate, NoDirection, Rule
from polyrefuse_models.interventions import Ablation, ablated
from tests.polyrefuse_models.test_architectures import PARALLEL, PLAIN, POST_NORM, tiny
from tests.polyrefuse_models.test_directions import PROMPTS, make_chat

TOKENS = [40, 50, 60, 70, 80]
WINDOWED = ("mistral", "gpt_oss", "cohere2", "gemma2", "gemma3_text")
HARMLESS = ["Tell me about rivers.", "Who built the tower of Quend?"]


def logits_alone(chat: ChatModel, prompt: str) -> np.ndarray:
    """Next-token logits in float64 of one prompt in a batch of one."""
    text = chat.render(prompt)
    ids = chat.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    with torch.no_grad():
        return chat.model(input_ids=ids).logits[0, -1].double().numpy()


def log_odds(logits: np.ndarray) -> float:
    p = np.exp(logits - logits.max())
    p = p[TOKENS].sum() / p.sum()
    return float(np.log(p) - np.log(1 - p))


def kl(base: np.ndarray, now: np.ndarray) -> float:
    p, q = (np.exp(logits - logits.max()) for logits in (base, now))
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())


def steered_alone(chat: ChatModel, direction: torch.Tensor, layer: int, prompt: str) -> np.ndarray:
    def add(_block: torch.nn.Module, args: Any, kwargs: Any) -> Any:
        if args:
            return (args[0] + direction, *args[1:]), kwargs
        return args, kwargs | {"hidden_states": kwargs["hidden_states"] + direction}

    handle = decoder_blocks(chat.model)[layer].register_forward_pre_hook(add, with_kwargs=True)
    try:
        return logits_alone(chat, prompt)
    finally:
        handle.remove()


def make_trial(chat: ChatModel, seed: int = 2, scale: float = 1.0, positions: int = 2) -> Trial:
    torch.manual_seed(seed)
    layers, width = chat.model.config.num_hidden_layers, chat.model.config.hidden_size
    base = torch.tensor(np.array([logits_alone(chat, prompt) for prompt in HARMLESS]))
    directions = scale * torch.randn(positions, layers, width)
    return Trial(chat, directions, PROMPTS, HARMLESS, base.float(), TOKENS)


def every_score(trial: Trial) -> list[Candidate]:
    """All scores of all candidates, by the definitions."""
    chat = trial.chat
    base = [logits_alone(chat, prompt) for prompt in HARMLESS]
    scored = []
    for position in range(-trial.directions.shape[0], 0):
        for layer in range(trial.n_layers):
            r = trial.directions[position, layer]
            with ablated(chat.model, r):
                refusal = np.mean([log_odds(logits_alone(chat, prompt)) for prompt in PROMPTS])
                moved = np.mean(
                    [kl(b, logits_alone(chat, p)) for b, p in zip(base, HARMLESS, strict=True)]
                )
            steered = np.mean([log_odds(steered_alone(chat, r, layer, p)) for p in HARMLESS])
            scored.append(Candidate(position, layer, float(refusal), float(steered), float(moved)))
    return scored


def by_the_rule(scored: list[Candidate], n_layers: int, rule: Rule) -> tuple[int, int] | None:
    """The published rules written out again; the least KL where none is within 2505.17306's."""
    looked_at = [c for c in scored if c.layer < int(0.8 * n_layers)]
    passing = [c for c in looked_at if c.kl_div_score <= rule.kl_limit]
    if rule.name == "2406.11717":
        passing = [c for c in passing if c.steering_score >= rule.least_steering]
        if not passing:
            return None
    chosen = (
        min(passing, key=lambda c: c.refusal_score)
        if passing
        else min(looked_at, key=lambda c: c.kl_div_score)
    )
    return chosen.position, chosen.layer


@pytest.fixture(params=[1, 3, 32], ids="batches of {}".format)
def chat(request: pytest.FixtureRequest) -> ChatModel:
    return make_chat(seed=5, batch_size=request.param)


@pytest.mark.parametrize("quantile", [None, 0.1, 0.4, 0.9])
def test_the_choice_is_that_of_scoring_everything(
    chat: ChatModel, monkeypatch: pytest.MonkeyPatch, quantile: float | None
) -> None:
    """Whether no candidate is within the limit, few are, or nearly all."""
    monkeypatch.setattr(search_module, "WAVE", 2)
    trial = make_trial(chat)
    complete = every_score(trial)
    moves = [c.kl_div_score for c in complete if c.layer < 3]
    limit = 0.5 * min(moves) if quantile is None else float(np.quantile(moves, quantile))
    rule = replace(DEFAULT, kl_limit=limit)

    chosen, scored = search(trial, rule)
    assert (chosen.position, chosen.layer) == by_the_rule(complete, 4, rule)
    assert [(c.position, c.layer) for c in scored] == [(c.position, c.layer) for c in complete]
    for candidate, expected in zip(scored, complete, strict=True):
        assert (candidate.steering_score is None) == (candidate != chosen)
        assert (candidate.refusal_score is None) == (candidate.layer == 3)  # int(0.8 * 4)
        for name in ("refusal_score", "steering_score", "kl_div_score"):
            if getattr(candidate, name) is not None:
                assert getattr(candidate, name) == pytest.approx(getattr(expected, name), abs=1e-4)
    if quantile == 0.9:
        assert sum(c.kl_div_score is not None for c in scored) <= 2


@pytest.mark.parametrize("quantile", [0.4, 0.9])
@pytest.mark.parametrize("least", [0.05, 0.5, 0.95, None])
def test_the_choice_with_a_steering_limit_is_that_of_scoring_everything(
    chat: ChatModel, monkeypatch: pytest.MonkeyPatch, quantile: float, least: float | None
) -> None:
    """Limits between the scores that a random model has; None is above all of them."""
    monkeypatch.setattr(search_module, "WAVE", 2)
    trial = make_trial(chat, positions=3)
    complete = every_score(trial)
    looked_at = [c for c in complete if c.layer < 3]
    steering = [c.steering_score for c in looked_at]
    rule = replace(
        RULES["2406.11717"],
        kl_limit=float(np.quantile([c.kl_div_score for c in looked_at], quantile)),
        least_steering=max(steering) + 1 if least is None else float(np.quantile(steering, least)),
    )
    expected = by_the_rule(complete, 4, rule)
    for look in (search, score_all):
        if expected is None:
            with pytest.raises(NoDirection, match="by rule 2406.11717 none of 12 candidates"):
                look(trial, rule)
            continue
        chosen, scored = look(trial, rule)
        assert (chosen.position, chosen.layer) == expected
        (exact,) = (c for c in complete if (c.position, c.layer) == expected)
        assert chosen.steering_score == pytest.approx(exact.steering_score, abs=1e-4)
        assert chosen in scored
    if least is None:
        assert expected is None


def test_a_choice_whose_steering_score_is_nan_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in the published code, which drops a candidate with a NaN among its three scores."""
    trial = make_trial(make_chat(seed=5, batch_size=8))
    rule = replace(DEFAULT, kl_limit=1e9)
    first, _ = search(trial, rule)
    steers = Trial.steers

    def spoiled(self: Trial, candidates: list[Candidate]) -> list[Candidate]:
        at = first.position, first.layer
        return [
            replace(c, steering_score=np.nan) if (c.position, c.layer) == at else c
            for c in steers(self, candidates)
        ]

    monkeypatch.setattr(Trial, "steers", spoiled)
    second, of_all = search(trial, rule)[0], score_all(trial, rule)[0]
    assert (second.position, second.layer) == (of_all.position, of_all.layer)
    assert (second.position, second.layer) != (first.position, first.layer)
    assert second.refusal_score >= first.refusal_score


def test_all_scores_are_those_of_each_candidate_alone(chat: ChatModel) -> None:
    trial = make_trial(chat)
    complete = every_score(trial)
    chosen, scored = score_all(trial)
    assert (chosen.position, chosen.layer) == by_the_rule(complete, 4, DEFAULT)
    for candidate, expected in zip(scored, complete, strict=True):
        assert list(candidate.record().values()) == pytest.approx(
            list(expected.record().values()), abs=1e-4
        )


def test_a_candidate_is_left_at_the_prompt_where_its_sum_exceeds_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three candidates of known divergence: what each pass still holds is counted."""
    chat = make_chat(seed=5)
    torch.manual_seed(0)
    directions = torch.randn(3, 32)
    prompts = [f"What is thing {i}?" for i in range(6)]
    base = [logits_alone(chat, prompt) for prompt in prompts]
    terms = np.zeros((3, 6))
    for i, r in enumerate(directions):
        with ablated(chat.model, r):
            terms[i] = [kl(b, logits_alone(chat, p)) for b, p in zip(base, prompts, strict=True)]
    # The lowest mean is kept whole; what passes it is left at the first prompt where it does.
    limit = terms.mean(1).min() + 1e-4
    over = terms.cumsum(1) > limit * 6
    passes = [int(row.argmax()) + 1 if row.any() else 6 for row in over]
    assert min(passes) < 6

    rows: list[int] = []
    chat = replace(chat, batch_size=1)  # a prompt a pass: there are more candidates than rows
    chat.model.register_forward_hook(lambda _m, _a, output: rows.append(len(output.logits)))
    means = divergences(chat, directions, prompts, torch.tensor(np.array(base)).float(), limit)
    expected = [None if row.any() else terms[i].mean() for i, row in enumerate(over)]
    assert [score is None for score in means] == [score is None for score in expected]
    assert [f for f in means if f] == pytest.approx([e for e in expected if e], abs=1e-4)
    head, *after = rows
    assert head == 3
    assert after == [sum(n > at for n in passes) for at in range(max(passes))]


def test_prompts_are_encoded_once_and_nothing_is_read_twice() -> None:
    """The tokenizer sees each prompt once; the template's head is read once a candidate."""
    chat, encoded = make_chat(seed=5, batch_size=4), []
    encode = chat.encode
    chat = replace(chat, encode=lambda texts: encoded.extend(texts) or encode(texts))
    trial = make_trial(chat)
    dissect(chat.model)  # costs one pass of its own
    shapes: list[tuple[int, int]] = []
    chat.model.register_forward_pre_hook(
        lambda _m, _a, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    refusal_when_ablated(chat, trial.directions[0], PROMPTS, TOKENS)
    search(trial)
    score_all(trial)
    assert sorted(encoded) == sorted(map(chat.render, [*PROMPTS, *HARMLESS]))
    head = 2  # <s><|user|>
    lengths = [len(ids) for ids in chat.token_ids(PROMPTS)]
    longest_first = sorted(lengths, reverse=True)
    assert shapes[: 1 + len(PROMPTS)] == [(4, head), *((4, n - head) for n in longest_first)]


def test_prompts_fill_the_rows_that_candidates_leave_free() -> None:
    """What is left of the candidates reads more prompts in a pass, and what they score is the
    same."""
    chat = make_chat(seed=5, batch_size=9)
    prompts = [f"What is thing {'i' * i}?" for i in range(8)]
    base = torch.tensor(np.array([logits_alone(chat, prompt) for prompt in prompts]))
    torch.manual_seed(0)
    directions = torch.randn(4, 32)
    terms = np.zeros((4, 8))
    for i, r in enumerate(directions):
        with ablated(chat.model, r):
            terms[i] = [
                kl(b.numpy(), logits_alone(chat, p)) for b, p in zip(base, prompts, strict=True)
            ]
    # As many as fit: the least mean stays, which then reads up to nine prompts at once.
    limit = terms.mean(1).min() + 1e-4
    rows: list[int] = []
    chat.model.register_forward_hook(lambda _m, _a, output: rows.append(len(output.logits)))
    means = divergences(chat, directions, prompts, base.float(), limit)
    kept = int(terms.mean(1).argmin())
    assert [i for i, mean in enumerate(means) if mean is not None] == [kept]
    assert means[kept] == pytest.approx(terms[kept].mean(), abs=1e-4)
    assert rows[:2] == [4, 8]  # the head, then two prompts of each
    assert max(rows) <= 9
    assert len(rows) < 1 + 4  # fewer passes than two prompts at a time
    assert all(
        mean == pytest.approx(expected.mean(), abs=1e-4)
        for mean, expected in zip(
            divergences(chat, directions, prompts, base.float()), terms, strict=True
        )
    )


def test_hooks_are_registered_once_and_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at each of the passes; an error in the middle leaves none behind."""
    chat = make_chat(seed=5, batch_size=4)
    dissect(chat.model)
    installed_times = []
    install = Ablation.install

    def counted(self: Ablation, model: PreTrainedModel) -> None:
        installed_times.append(1)
        install(self, model)

    monkeypatch.setattr(Ablation, "install", counted)
    refusal_when_ablated(chat, torch.randn(4, 32), PROMPTS, TOKENS)
    assert installed_times == [1]

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("full")

    handle = chat.model.model.norm.register_forward_hook(full)
    cudnn = torch.backends.cuda.cudnn_sdp_enabled()
    with pytest.raises(torch.OutOfMemoryError):
        refusal_when_ablated(chat, torch.randn(4, 32), PROMPTS, TOKENS)
    handle.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in chat.model.modules())
    assert torch.backends.cuda.cudnn_sdp_enabled() == cudnn


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("others", [True, False])
def test_cudnn_attention_is_off_for_the_passes_alone(on: bool, others: bool) -> None:
    """Where it is the only kernel that is on, it stays."""
    cuda = torch.backends.cuda
    before = (
        cuda.cudnn_sdp_enabled(),
        cuda.flash_sdp_enabled(),
        cuda.mem_efficient_sdp_enabled(),
        cuda.math_sdp_enabled(),
    )
    switches = (
        cuda.enable_cudnn_sdp,
        cuda.enable_flash_sdp,
        cuda.enable_mem_efficient_sdp,
        cuda.enable_math_sdp,
    )
    try:
        for switch, state in zip(switches, (on, others, others, others), strict=True):
            switch(state)
        with pytest.raises(KeyError), without_cudnn_attention():
            assert cuda.cudnn_sdp_enabled() == (on and not others)
            raise KeyError
        assert cuda.cudnn_sdp_enabled() == on
    finally:
        for switch, state in zip(switches, before, strict=True):
            switch(state)


def test_a_candidate_that_is_no_number_spoils_no_other() -> None:
    chat = make_chat(seed=5, batch_size=32)
    directions = torch.randn(3, 32)
    layers = [2, 0, 2]
    alone = refusal_when_added(chat, directions, layers, PROMPTS, TOKENS)
    directions[1] = torch.nan
    spoiled = refusal_when_added(chat, directions, layers, PROMPTS, TOKENS)
    assert np.isnan(spoiled[1])
    assert [spoiled[0], spoiled[2]] == pytest.approx([alone[0], alone[2]], abs=1e-6)


def test_a_zero_direction_is_never_chosen() -> None:
    trial = make_trial(make_chat(seed=5, batch_size=8))
    trial.directions[0, 1] = 0
    for chosen, scored in (search(trial), score_all(trial)):
        assert (chosen.position, chosen.layer) != (-2, 1)
        assert np.isnan(scored[1].refusal_score)
    trial.directions[:] = 0
    with pytest.raises(NoDirection, match="is a number"):
        search(trial)


@pytest.mark.parametrize("model_type", [*PLAIN, *PARALLEL, *POST_NORM])
def test_every_architecture_gives_the_scores_of_each_candidate_alone(model_type: str) -> None:
    """Padding on the right and shared heads are no peculiarity of Llama's code, nor of full
    attention: where a design has a window, it is shorter here than the prompts."""
    chat = make_chat(batch_size=16)
    window = {"sliding_window": 8} if model_type in WINDOWED else {}
    model = tiny(model_type, vocab_size=len(chat.tokenizer), **window)
    trial = make_trial(replace(chat, model=model), positions=1)
    _, scored = score_all(trial)
    for candidate, expected in zip(scored, every_score(trial), strict=True):
        assert list(candidate.record().values()) == pytest.approx(
            list(expected.record().values()), abs=1e-4
        )
