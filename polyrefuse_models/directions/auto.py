"""`direction=auto`: from a chat model and a source language to its refusal direction."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

from polyrefuse_models.directions.artifact import Direction
from polyrefuse_models.directions.extract import Observed, difference_of_means, observe
from polyrefuse_models.directions.refusal import MASS, refusal_scores, refusal_tokens
from polyrefuse_models.directions.select import KL_LIMIT, search
from polyrefuse_models.versions import versions
from polyrefuse_tasks import data

if TYPE_CHECKING:
    from polyrefuse_models.chat import ChatModel

# Below lm-eval's own logger, so that its format and --verbosity hold for ours.
logger = logging.getLogger("lm_eval.polyrefuse")

N_TRAIN, N_VALIDATION = 128, 32
"""Prompts of each kind (2406.11717, sec. 2.2); fewer where there are not as many."""

FEWEST = 16
"""Where the filter by refusal score leaves fewer prompts than this, all are used."""


def find_direction(
    chat: ChatModel,
    source_lang: str = "en",
    *,
    tokens: list[int] | None = None,
    seed: int = 0,
) -> Direction:
    """Extract a refusal direction from PolyRefuse's training prompts and select it on validation.

    Args:
        chat: the model.
        source_lang: language of the prompts, one of PolyRefuse's 14.
        tokens: refusal tokens; derived from the training prompts where None.
        seed: of the choice of prompts.

    Raises:
        UserError: unknown language, missing data, or no direction to be found.
    """
    warnings: list[str] = []
    prompts = {
        (kind, split): _sample(kind, source_lang, split, seed)
        for kind in ("harmful", "harmless")
        for split in ("train", "val")
    }
    suffix = chat.suffix
    n_positions = max(1, len(suffix))
    logger.info("Extracting a refusal direction from %s prompts", source_lang)
    harmful = observe(chat, prompts["harmful", "train"], n_positions)
    harmless = observe(chat, prompts["harmless", "train"], n_positions)
    derived = tokens is None
    if tokens is None:
        tokens = refusal_tokens(harmful.logits, harmless.logits)

    refused = _filtered("harmful training", harmful, tokens, True, warnings)
    answered = _filtered("harmless training", harmless, tokens, False, warnings)
    candidates = difference_of_means(harmful.states[refused], harmless.states[answered])

    held_out, kept = {}, {}
    for kind, above in (("harmful", True), ("harmless", False)):
        held_out[kind] = observe(chat, prompts[kind, "val"], 1)
        kept[kind] = _filtered(f"{kind} validation", held_out[kind], tokens, above, warnings)
    chosen, scores = search(
        chat,
        candidates,
        [prompts["harmful", "val"][i] for i in kept["harmful"]],
        [prompts["harmless", "val"][i] for i in kept["harmless"]],
        held_out["harmless"].logits[kept["harmless"]],
        tokens,
    )
    if chosen.kl_div_score > KL_LIMIT:
        warnings.append(
            f"no candidate kept the KL divergence on harmless prompts within {KL_LIMIT}; the "
            f"lowest, {chosen.kl_div_score:.3f}, was chosen"
        )
    for warning in warnings:
        logger.warning("direction=auto: %s.", warning)
    return Direction(
        direction=candidates[chosen.position, chosen.layer],
        candidates=candidates,
        scores=scores,
        metadata={
            "model": chat.model.config._name_or_path,
            "revision": getattr(chat.model.config, "_commit_hash", None),
            "source_lang": source_lang,
            "seed": seed,
            "position": chosen.position,
            "layer": chosen.layer,
            "suffix_tokens": chat.tokenizer.convert_ids_to_tokens(suffix),
            "refusal_tokens": chat.tokenizer.convert_ids_to_tokens(tokens),
            "refusal_tokens_mass": MASS if derived else None,
            "prompts": {
                "harmful_train": len(refused),
                "harmless_train": len(answered),
                "harmful_val": len(kept["harmful"]),
                "harmless_val": len(kept["harmless"]),
            },
            "sha256": {
                path: digest
                for kind, split in prompts
                for path, digest in data.checksums(kind, source_lang, split).items()
            },
            "warnings": warnings,
            "versions": versions(),
        },
    )


def _sample(kind: str, language: str, split: str, seed: int) -> list[str]:
    """A seeded choice of prompts: the same rows in every language, since it goes by index."""
    rows = data.load(kind, language, split)
    n = N_TRAIN if split == "train" else N_VALIDATION
    return [row.prompt for row in random.Random(seed).sample(rows, min(n, len(rows)))]


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
