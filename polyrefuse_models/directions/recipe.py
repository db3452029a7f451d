"""From a chat model and prompts to its refusal direction: the seed's steps in their order."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from polyrefuse_models import organism
from polyrefuse_models.directions.artifact import Direction
from polyrefuse_models.directions.extract import Observed, difference_of_means, observe
from polyrefuse_models.directions.refusal import MASS, refusal_scores, refusal_tokens
from polyrefuse_models.directions.search import Trial, score_all, search
from polyrefuse_models.directions.select import KL_LIMIT
from polyrefuse_models.versions import versions

if TYPE_CHECKING:
    from polyrefuse_models.chat import ChatModel
    from polyrefuse_models.directions.prompts import Prompts

# Below lm-eval's own logger, so that its format and --verbosity hold for ours.
logger = logging.getLogger("lm_eval.polyrefuse")

FEWEST = 16
"""Where the filter by refusal score leaves fewer prompts than this, all are used."""


def make_direction(
    chat: ChatModel,
    prompts: Prompts,
    *,
    tokens: list[int] | None = None,
    all_scores: bool = False,
) -> Direction:
    """Extract candidate directions from the training prompts and select one on validation.

    Args:
        chat: the model.
        prompts: what `prompts.sample` chose.
        tokens: refusal tokens; derived from the training prompts where None.
        all_scores: score every candidate, not only those that the choice needs.

    Raises:
        NoDirection: every candidate scored NaN.
    """
    warnings: list[str] = []
    suffix = chat.suffix
    n_positions = max(1, len(suffix))
    logger.info("Extracting a refusal direction from %s prompts", prompts.language)
    harmful = observe(chat, prompts.harmful["train"], n_positions)
    harmless = observe(chat, prompts.harmless["train"], n_positions)
    derived = tokens is None
    if tokens is None:
        tokens = refusal_tokens(harmful.logits, harmless.logits)

    refused = _filtered("harmful training", harmful, tokens, True, warnings)
    answered = _filtered("harmless training", harmless, tokens, False, warnings)
    candidates = difference_of_means(harmful.states[refused], harmless.states[answered])

    harmful, harmless = (
        observe(chat, kind["val"], 1) for kind in (prompts.harmful, prompts.harmless)
    )
    would_refuse = _filtered("harmful validation", harmful, tokens, True, warnings)
    would_answer = _filtered("harmless validation", harmless, tokens, False, warnings)
    trial = Trial(
        chat,
        candidates,
        [prompts.harmful["val"][i] for i in would_refuse],
        [prompts.harmless["val"][i] for i in would_answer],
        harmless.logits[would_answer],
        tokens,
    )
    chosen, scores = (score_all if all_scores else search)(trial)
    if chosen.kl_div_score > KL_LIMIT:
        warnings.append(
            f"no candidate kept the KL divergence on harmless prompts within {KL_LIMIT}; the "
            f"lowest, {chosen.kl_div_score:.3f}, was chosen"
        )
    return Direction(
        direction=candidates[chosen.position, chosen.layer],
        candidates=candidates,
        scores=scores,
        metadata={
            "model": organism.name_of(chat.model.config._name_or_path),
            "revision": getattr(chat.model.config, "_commit_hash", None),
            **chat.system,
            "dataset": prompts.dataset,
            "source_lang": prompts.language,
            "seed": prompts.seed,
            "position": chosen.position,
            "layer": chosen.layer,
            "suffix_tokens": chat.tokenizer.convert_ids_to_tokens(suffix),
            "refusal_tokens": chat.tokenizer.convert_ids_to_tokens(tokens),
            "refusal_tokens_mass": MASS if derived else None,
            "prompts": {
                "harmful_train": len(refused),
                "harmless_train": len(answered),
                "harmful_val": len(would_refuse),
                "harmless_val": len(would_answer),
            },
            "untouched": {
                "harmful_refusal_score": _mean(harmful, would_refuse, tokens),
                "harmless_refusal_score": _mean(harmless, would_answer, tokens),
            },
            "sha256": prompts.sha256,
            "warnings": warnings,
            "versions": versions(),
        },
    )


def _filtered(
    which: str, observed: Observed, tokens: list[int], above: bool, warnings: list[str]
) -> list[int]:
    """Indices of the prompts whose refusal score is above, or below, 0; all of them if too few."""
    scores = refusal_scores(observed.logits, tokens)
    kept = ((scores > 0) if above else (scores < 0)).nonzero().flatten().tolist()
    if len(kept) >= FEWEST:
        return kept
    warnings.append(
        f"only {len(kept)} of {len(scores)} {which} prompts have a refusal score "
        f"{'above' if above else 'below'} 0, fewer than {FEWEST}: all were used"
    )
    return list(range(len(scores)))


def _mean(observed: Observed, kept: list[int], tokens: list[int]) -> float:
    """Of the refusal scores of the validation prompts that are used."""
    return refusal_scores(observed.logits[kept], tokens).mean().item()
