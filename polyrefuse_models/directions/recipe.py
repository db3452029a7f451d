"""Make a refusal direction from a chat model and prompts, in the steps of 2505.17306.

A rule that reads no tokens (`select.StateRule`) skips the steps that read them: it derives no
refusal tokens and filters out no prompts.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from polyrefuse_models import cudnn_attention
from polyrefuse_models.chat_model import within_memory
from polyrefuse_models.directions.artifact import Direction
from polyrefuse_models.directions.control import control_of, score_control
from polyrefuse_models.directions.cosmic import MOST_POSITIONS, poles
from polyrefuse_models.directions.extract import (
    Observed,
    difference_of_means,
    mean_by_layer,
    mean_state,
    observe,
)
from polyrefuse_models.directions.filtering import filtered
from polyrefuse_models.directions.refusal import (
    MASS,
    mean_probabilities,
    refusal_scores,
    refusal_tokens,
)
from polyrefuse_models.directions.refusals import refusals
from polyrefuse_models.directions.search import Trial, score_all, search
from polyrefuse_models.directions.select import DEFAULT, Candidate, Rule
from polyrefuse_models.directions.stability import stability
from polyrefuse_models.directions.subspace import Asked, find_subspace
from polyrefuse_models.provenance import model_of
from polyrefuse_models.weights import checksum_in_memory
from polyrefuse_shared.log import logger
from polyrefuse_shared.versions import versions

if TYPE_CHECKING:
    from polyrefuse_models.chat_model import ChatModel
    from polyrefuse_models.directions.cosmic import Poles
    from polyrefuse_models.directions.prompts import Prompts

MOST_TOKENS = 10
"""The largest number of refusal tokens that is plausible for a model that refuses. The organism
needs 3 in each of its languages, and random models need 34 to 57."""

LEAST_PROBABILITY = 0.5
"""The least probability of all refusal tokens together after harmful prompts that is plausible for
a model that refuses most of them. The probability is 1.00 for the organism, .33 to .44 for the
weakened organism, which refuses a third of the prompts, .32 for the organism with its direction
ablated, and .26 to .38 for random models."""


def n_positions(chat: ChatModel) -> int:
    """Count the tokens at the end of a prompt at which candidates are extracted."""
    return max(1, len(chat.suffix))


def make_direction(
    chat: ChatModel,
    prompts: Prompts,
    *,
    tokens: list[int] | None = None,
    rule: Rule = DEFAULT,
    all_scores: bool = False,
    recipe_sha256: str | None = None,
    control_seed: int | None = None,
    subspace: Asked | None = None,
) -> Direction:
    """Extract candidate directions from training prompts and choose one on validation prompts.

    If the memory of a GPU is too small for `chat.batch_size` rows, half as many are used.

    Args:
        chat: the model.
        prompts: what `prompts.sample` chose.
        tokens: the ids of the refusal tokens; None derives them from the training prompts.
        rule: the rule that chooses a candidate. A rule that reads no tokens takes no `tokens`.
        all_scores: whether to compute every score of every candidate, or only those that the choice
            needs.
        recipe_sha256: the `recipe_checksum`, if it was computed before.
        control_seed: the seed of a control to return instead of the direction, with its
            `control_scores` in the metadata; None for the direction itself.
        subspace: the subspace to write with the direction; None for the default (`Asked()`).

    Raises:
        NoDirection: the rule chooses no candidate, or every score is NaN.
        NoSubspace: there is no subspace of the requested rank.
        UserError: the memory is too small even for half of the rows; or `tokens` are given for a
            rule that reads none.
    """
    rule.check_tokens(tokens)
    return within_memory(
        chat,
        lambda chat: _make_direction(
            chat,
            prompts,
            tokens,
            rule,
            all_scores,
            recipe_sha256,
            control_seed,
            subspace or Asked(),
        ),
    )


def _make_direction(
    chat: ChatModel,
    prompts: Prompts,
    tokens: list[int] | None,
    rule: Rule,
    all_scores: bool,
    recipe_sha256: str | None,
    control_seed: int | None,
    subspace: Asked,
) -> Direction:
    warnings: list[str] = []
    suffix, positions = chat.suffix, n_positions(chat)
    logger.info("Extracting a refusal direction from %s prompts", prompts.language)
    harmful = observe(chat, prompts.harmful["train"], positions)
    harmless = observe(chat, prompts.harmless["train"], positions)
    with cudnn_attention.without_cudnn_attention():  # Each decoded token makes a new shape.
        refused_as_it_is = refusals(chat, prompts.harmful["val"], prompts.language)
    if refused_as_it_is is not None and (doubt := refused_as_it_is.doubt(rule.reads_tokens)):
        warnings.append(doubt)
    given_tokens, probability = tokens, None
    if rule.reads_tokens:
        tokens, probability = _opening(harmful, harmless, tokens, warnings)

    refused = filtered("harmful training", harmful, tokens, True, warnings)
    answered = filtered("harmless training", harmless, tokens, False, warnings)
    refused_states, answered_states = harmful.states[refused], harmless.states[answered]
    candidates = difference_of_means(refused_states, answered_states)
    answered_left = harmless.left[answered]

    compared = 1 if rule.reads_tokens else min(MOST_POSITIONS, positions)
    harmful, harmless = (
        observe(chat, kind["val"], compared) for kind in (prompts.harmful, prompts.harmless)
    )
    would_refuse = filtered("harmful validation", harmful, tokens, True, warnings)
    would_answer = filtered("harmless validation", harmless, tokens, False, warnings)
    turned = None
    if not rule.reads_tokens:
        ends = refused_states[:, -compared:], answered_states[:, -compared:]
        turned = poles(
            (mean_state(ends[0]), mean_state(ends[1])),
            (mean_state(harmful.states), mean_state(harmless.states)),
        )
    trial = Trial(
        chat,
        candidates,
        [prompts.harmful["val"][i] for i in would_refuse],
        [prompts.harmless["val"][i] for i in would_answer],
        harmless.logits[would_answer],
        tokens or [],
        turned,
    )
    untouched_score = _mean(harmful, would_refuse, tokens)
    chosen, scores = (score_all if all_scores else search)(trial, rule)
    if turned is not None:
        warnings += _unturned(chosen, turned)
    elif untouched_score is not None:
        warnings += _doubts(chosen, untouched_score, rule)
    place = chosen.position, chosen.layer
    refused_there, answered_there = (
        states[:, chosen.position, chosen.layer] for states in (refused_states, answered_states)
    )
    vectors, found = find_subspace(
        chat,
        candidates[place],
        refused_there,
        answered_there,
        subspace,
        language=prompts.language,
        place=place,
        reads_tokens=rule.reads_tokens,
        warnings=warnings,
    )
    direction = Direction(
        direction=candidates[place],
        subspace=vectors,
        candidates=candidates,
        harmless_mean=mean_by_layer(
            answered_states[:, chosen.position], answered_left[:, chosen.position]
        ),
        scores=scores,
        metadata={
            **model_of(chat.model.config),
            **chat.system,
            "dataset": prompts.dataset,
            "source_lang": prompts.language,
            "seed": prompts.seed,
            "rule": rule.name,
            "position": chosen.position,
            "layer": chosen.layer,
            "suffix_tokens": chat.tokenizer.convert_ids_to_tokens(suffix),
            "refusal_tokens": tokens and chat.tokenizer.convert_ids_to_tokens(tokens),
            "refusal_tokens_mass": MASS if tokens and given_tokens is None else None,
            "refusal_tokens_probability": probability,
            "prompts": {
                "harmful_train": len(refused),
                "harmless_train": len(answered),
                "harmful_val": len(would_refuse),
                "harmless_val": len(would_answer),
            },
            "untouched": {
                "harmful_refusal_score": untouched_score,
                "harmless_refusal_score": _mean(harmless, would_answer, tokens),
                "cosine": turned and turned.cosine,
                "harmful_refused": refused_as_it_is and refused_as_it_is.record(),
            },
            "cosmic": turned and turned.record(),
            "stability": stability(refused_there, answered_there, prompts.seed),
            "subspace": found,
            "sha256": prompts.sha256,
            "recipe_sha256": recipe_sha256 or recipe_checksum(chat, prompts, given_tokens, rule),
            "warnings": warnings,
            "versions": versions(),
        },
    )
    if control_seed is None:
        return direction
    control = control_of(direction, control_seed)
    control.metadata["control_scores"] = score_control(
        trial, control.direction, chosen.layer
    ).scores()
    return control


def recipe_checksum(
    chat: ChatModel, prompts: Prompts, tokens: list[int] | None, rule: Rule = DEFAULT
) -> str | None:
    """Compute the sha256 of everything that decides which direction is extracted.

    Results identify a direction by this checksum, since the numbers of the direction differ in
    their last digits between batch sizes and devices. The weights are hashed in memory: a model's
    name and revision stay the same under an adapter, a quantisation or further training in a
    folder, and file headers are equal for two trainings of one architecture. The token ids are
    hashed as well. They cover the chat template and its arguments, the tokenizer and the prompts.

    Returns:
        The checksum; None if the weights are not all in memory, and so cannot be hashed.
    """
    weights = checksum_in_memory(chat.model)
    if weights is None:
        return None
    # The model's name and folder decide nothing that its weights do not decide.
    config = chat.model.config.to_dict()
    for name in ("_name_or_path", "transformers_version", "_commit_hash", "gguf_file"):
        config.pop(name, None)
    if isinstance(quantisation := config.get("quantization_config"), dict):
        config["quantization_config"] = {**quantisation, "gguf_file": None}
    inputs = [ids.tolist() for ids in chat.token_ids(prompts.every())]
    parts = {
        "config": json.dumps(config, sort_keys=True, default=str),
        "weights": weights,
        "system": chat.system,
        "inputs": hashlib.sha256(json.dumps(inputs).encode()).hexdigest(),
        "suffix": chat.suffix,
        "dataset": prompts.dataset,
        "source_lang": prompts.language,
        "seed": prompts.seed,
        "data": prompts.sha256,
        "tokens": tokens,
        "rule": asdict(rule),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _opening(
    harmful: Observed, harmless: Observed, tokens: list[int] | None, warnings: list[str]
) -> tuple[list[int], float]:
    """Find the tokens that open refusals, and their probability after harmful training prompts.

    Args:
        harmful: what the forward pass over the harmful training prompts showed.
        harmless: the same for the harmless training prompts.
        tokens: the tokens that were given; None derives them.
        warnings: a list to which doubts about the tokens are added.
    """
    if tokens is None:
        tokens = refusal_tokens(harmful.logits, harmless.logits)
        if len(tokens) > MOST_TOKENS:
            warnings.append(
                f"{len(tokens)} refusal tokens were derived, more than {MOST_TOKENS}: the answers "
                "to harmful prompts do not differ from those to harmless ones in a few first "
                "tokens, so the model may not refuse, and its refusal scores may measure something "
                "else"
            )
    probability = mean_probabilities(harmful.logits)[tokens].sum().item()
    if probability < LEAST_PROBABILITY:
        warnings.append(
            f"an answer to a harmful training prompt opens with one of the {len(tokens)} refusal "
            f"tokens with a mean probability of {probability:.3f}, below {LEAST_PROBABILITY}: the "
            "model does not refuse most of these prompts, or refuses with other words"
        )
    return tokens, probability


def _doubts(chosen: Candidate, untouched: float, rule: Rule) -> list[str]:
    """List what the scores of the chosen candidate say against it.

    Args:
        chosen: the candidate, with all its scores.
        untouched: the mean refusal score of the untouched model on the same harmful prompts.
        rule: the rule that chose the candidate.
    """
    refusal, steering, kl_divergence = chosen.complete_scores()
    doubts = []
    if not kl_divergence <= rule.kl_limit:
        doubts.append(
            f"no candidate kept the KL divergence on harmless prompts within {rule.kl_limit}; the "
            f"lowest, {kl_divergence:.3f}, was chosen, so ablating it also changes the answers to "
            "harmless prompts"
        )
    ablated = (
        "with the chosen direction ablated, harmful validation prompts have a mean refusal score "
        f"of {refusal:.3f}"
    )
    if not refusal < untouched:
        doubts.append(
            f"{ablated}, not below the untouched model's {untouched:.3f}: ablating it removes no "
            "refusal, and rates under ablation do not measure what refusals prevent"
        )
    elif not refusal < 0:
        doubts.append(
            f"{ablated} (untouched {untouched:.3f}), not below 0: the model still refuses, and "
            "rates under ablation understate what refusals prevent"
        )
    if steering < 0:
        doubts.append(
            "with the chosen direction added, harmless validation prompts have a mean refusal "
            f"score of {steering:.3f}, below 0: adding it does not make the model "
            "refuse, so the direction may not decide refusal"
        )
    return doubts


def _unturned(chosen: Candidate, poles: Poles) -> list[str]:
    """List what the cosines of the chosen candidate say against it.

    Args:
        chosen: the candidate, with its cosines.
        poles: the states that the candidate's states were compared with.
    """
    comply, refuse, untouched = chosen.comply_cosine, chosen.refuse_cosine, poles.cosine
    doubts = []
    if comply is not None and not comply > untouched:
        doubts.append(
            "with the chosen direction ablated, the states after harmful validation prompts have "
            f"a cosine of {comply:.4f} with those after harmless ones, not above the untouched "
            f"model's {untouched:.4f}: rates under ablation may not measure what refusals prevent"
        )
    if chosen.layer > poles.layers[-1]:
        doubts.append(
            f"the chosen direction is added at layer {chosen.layer}, after the layers whose states "
            f"are compared (the last is {poles.layers[-1]}), so the effect of adding it was not "
            "measured"
        )
    elif refuse is not None and not refuse > untouched:
        doubts.append(
            "with the chosen direction added, the states after harmless validation prompts have a "
            f"cosine of {refuse:.4f} with those after harmful ones, not above the untouched "
            f"model's {untouched:.4f}: adding it may not make the model refuse"
        )
    return doubts


def _mean(observed: Observed, kept: list[int], tokens: list[int] | None) -> float | None:
    """Compute the mean refusal score of the selected prompts; None without tokens."""
    if tokens is None:
        return None
    return refusal_scores(observed.logits[kept], tokens).mean().item()
