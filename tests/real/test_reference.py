"""Directions of a real model beside an independent re-implementation of the paper's code."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from polyrefuse_models.directions import recipe
from polyrefuse_models.directions.extract import difference_of_means, observe
from polyrefuse_models.directions.prompts import Prompts, sample
from polyrefuse_models.directions.refusal import refusal_scores, refusal_tokens
from polyrefuse_models.directions.search import Trial
from polyrefuse_models.directions.select import Candidate
from polyrefuse_models.wrappers.hf import BaselineHF
from tests.real.reference import Reference

# As SmolLM2's own chat template writes it, by hand.
TEMPLATE = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n<|im_start|>user\n{instruction}<|im_end|>\n<|im_start|>assistant\n"
)
PUBLISHED_KL = 2e-2
"""How far 1e-6 in the published code's logarithms may move a KL divergence: it stands for 49,152
tokens, most of which are less probable than that."""


def few(train: int, val: int) -> Prompts:
    """The first of the prompts that a seed chooses."""
    chosen = sample("polyrefuse", "en", seed=0)
    sizes = {"train": train, "val": val}
    return replace(
        chosen,
        harmful={split: chosen.harmful[split][:n] for split, n in sizes.items()},
        harmless={split: chosen.harmless[split][:n] for split, n in sizes.items()},
    )


@pytest.fixture(scope="module")
def tokens(real_lm: BaselineHF) -> list[int]:
    """Refusal tokens as the package derives them; the paper's authors list theirs by hand."""
    prompts = few(16, 2)
    harmful, harmless = (
        observe(real_lm.chat_model, kind["train"], 1).logits
        for kind in (prompts.harmful, prompts.harmless)
    )
    return refusal_tokens(harmful, harmless)


@pytest.fixture(scope="module")
def reference(real_lm: BaselineHF, tokens: list[int]) -> Reference:
    return Reference(real_lm.model, real_lm.tokenizer, TEMPLATE, tokens)


def test_prompts_reach_the_model_as_the_authors_write_them(real_lm: BaselineHF) -> None:
    assert real_lm.render("Where?") == TEMPLATE.replace("{instruction}", "Where?")


def test_candidates_and_some_of_their_scores(
    real_lm: BaselineHF, reference: Reference, tokens: list[int]
) -> None:
    """A sample of `test_every_candidate`: every direction, and the scores of four."""
    chat, prompts = real_lm.chat_model, few(16, 2)
    harmful, harmless = (
        observe(chat, kind["train"], reference.n_positions)
        for kind in (prompts.harmful, prompts.harmless)
    )
    passed = refusal_scores(harmful.logits, tokens)
    assert passed.tolist() == pytest.approx(
        reference.refusal_scores(prompts.harmful["train"]), abs=1e-4
    )
    # The filter takes some of the prompts, and neither none nor all of them.
    assert 3 < (passed > 0).sum() < 13
    candidates = difference_of_means(harmful.states, harmless.states)
    expected = reference.candidates(prompts.harmful["train"], prompts.harmless["train"])
    assert candidates.shape == (len(chat.suffix), 30, 576)
    # Residual states grow to norms of hundreds; the difference is relative to each candidate.
    norms = expected.norm(dim=-1).clamp(min=1e-6)
    assert ((candidates - expected).norm(dim=-1) / norms)[:, 1:].max() < 1e-4
    assert candidates[:, 0].abs().max() == 0  # layer 0: the template's tokens are always the same
    places = [(-1, 5), (-4, 14), (-5, 23), (-1, 29)]
    trial = Trial(
        chat,
        candidates,
        prompts.harmful["val"],
        prompts.harmless["val"],
        observe(chat, prompts.harmless["val"], 1).logits,
        tokens,
    )
    ours = {
        (c.position, c.layer): c
        for c in trial.steers(trial.moves(trial.refusals([Candidate(*at) for at in places])))
    }
    scored = reference.score(candidates, places, prompts.harmful["val"], prompts.harmless["val"])
    for theirs in scored:
        mine = ours[theirs.position, theirs.layer]
        assert mine.refusal_score == pytest.approx(theirs.refusal, abs=1e-4)
        assert mine.steering_score == pytest.approx(theirs.steering, abs=1e-4)
        assert mine.kl_div_score == pytest.approx(theirs.kl, abs=1e-4)
        assert mine.kl_div_score == pytest.approx(theirs.kl_published, abs=PUBLISHED_KL)


@pytest.mark.real
@pytest.mark.parametrize("filtering", [False, True], ids=["all-prompts", "filtered"])
def test_every_candidate(
    real_lm: BaselineHF,
    reference: Reference,
    tokens: list[int],
    filtering: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Extraction, the scores of all candidates, and the choice."""
    prompts = few(32, 8)
    # The package falls back to all prompts where few pass; the authors' code does not.
    monkeypatch.setattr(recipe, "FEWEST", 1 if filtering else 10**9)
    ours = recipe.make_direction(real_lm.chat_model, prompts, tokens=tokens, all_scores=True)
    kept = {
        (kind, split): (reference.filtered(rows, refused=kind == "harmful") if filtering else rows)
        for kind in ("harmful", "harmless")
        for split, rows in getattr(prompts, kind).items()
    }
    assert ours.metadata["prompts"] == {
        f"{kind}_{split}": len(rows) for (kind, split), rows in kept.items()
    }
    if filtering:
        assert 8 < len(kept["harmful", "train"]) < 32
    expected = reference.candidates(kept["harmful", "train"], kept["harmless", "train"])
    norms = expected.norm(dim=-1).clamp(min=1e-6)
    assert ((ours.candidates - expected).norm(dim=-1) / norms)[:, 1:].max() < 1e-4
    places = [(c.position, c.layer) for c in ours.scores if c.layer > 0]
    assert len(places) == len(real_lm.chat_model.suffix) * 29
    # The same numbers for both: what is compared is the scores, not the candidates again.
    scored = reference.score(
        ours.candidates, places, kept["harmful", "val"], kept["harmless", "val"]
    )
    by_place = {(c.position, c.layer): c for c in ours.scores}
    differences = torch.tensor(
        [
            (
                by_place[one.position, one.layer].refusal_score - one.refusal,
                by_place[one.position, one.layer].steering_score - one.steering,
                by_place[one.position, one.layer].kl_div_score - one.kl,
            )
            for one in scored
        ]
    )
    print("largest differences (refusal, steering, KL):", differences.abs().amax(0).tolist())
    assert differences.abs().max() < 1e-4
    chosen = ours.metadata["position"], ours.metadata["layer"]
    assert reference.choose(scored, published_kl=False) == chosen
    assert reference.choose(scored, published_kl=True) == chosen
