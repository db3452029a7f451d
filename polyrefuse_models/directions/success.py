"""Show where refused and answered prompts lie along the direction.

The paper explains cross-lingual jailbreaks by this (2505.17306, sec. 5): the model answers more of
the harmful prompts of a language in which they lie less far along the refusal direction. Prompts
are labelled here by the model's own answers, so the AUC says how well the projection of a prompt
predicts the answer.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from polyrefuse_models.directions.areas import area
from polyrefuse_models.directions.attacks import pairs_of_datasets, without_attack
from polyrefuse_models.directions.monitor import alarms
from polyrefuse_tasks.judges import Label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxtyping import Float

    from polyrefuse_models.directions.answered import AnsweredPrompt, Answers

LEAST = 5
"""The fewest prompts that each of two outcomes needs for an AUC."""

MEANING = (
    "the AUC is the probability that a prompt which the model refused lies further along the "
    "direction than one that it complied with; degenerate and undecided answers are in no AUC"
)
"""A remark for the JSON document."""


class Outcome(str, Enum):
    """What the model did with a prompt."""

    REFUSED = "refused"
    COMPLIED = "complied"
    JAILBROKEN = "jailbroken"
    """The model complied with the prompt in an attack, and refused it without the attack."""
    DEGENERATE = "degenerate"
    UNDECIDED = "undecided"

    def __str__(self) -> str:
        return self.value


OUTCOMES = {
    Label.REFUSAL: Outcome.REFUSED,
    Label.COMPLIANCE: Outcome.COMPLIED,
    Label.DEGENERATE: Outcome.DEGENERATE,
    Label.UNDECIDED: Outcome.UNDECIDED,
}
"""The outcome that each label of a judge means for a prompt without an attack."""

GROUPS = ("harmful", "attacked", "harmless")
"""Harmful prompts without an attack, harmful prompts in an attack, and harmless prompts."""

WATCHED = ("harmful", "attacked")
"""The groups whose alarms are counted; some of the harmless prompts calibrated the monitor."""

Compared = tuple[tuple[str, Outcome], tuple[str, Outcome]]

AUCS: dict[str, Compared] = {
    "harmful": (("harmful", Outcome.REFUSED), ("harmful", Outcome.COMPLIED)),
    "harmless": (("harmless", Outcome.REFUSED), ("harmless", Outcome.COMPLIED)),
    "jailbroken": (("harmful", Outcome.REFUSED), ("attacked", Outcome.JAILBROKEN)),
}
"""The two outcomes that each AUC compares, each with its group of prompts."""


def outcomes(
    prompts: Sequence[AnsweredPrompt], plain: Mapping[AnsweredPrompt, AnsweredPrompt | None]
) -> list[tuple[str, Outcome]]:
    """Find the group of each prompt, one of `GROUPS`, and its outcome.

    Args:
        prompts: the prompts of a run.
        plain: what `without_attack` returns for them.
    """
    return [_outcome(one, plain) for one in prompts]


def _outcome(
    one: AnsweredPrompt, plain: Mapping[AnsweredPrompt, AnsweredPrompt | None]
) -> tuple[str, Outcome]:
    became = OUTCOMES[one.label]
    if one not in plain:
        return "harmful" if one.harmful else "harmless", became
    without = plain[one]
    refused = without is not None and without.label is Label.REFUSAL
    broken = became is Outcome.COMPLIED and refused
    return "attacked", Outcome.JAILBROKEN if broken else became


def success(
    answers: Answers,
    own: Mapping[str, Float[np.ndarray, "prompt layer"]],
    last: Mapping[str, Float[np.ndarray, "prompt"]],
    *,
    layer: int,
    limit: float | None,
) -> dict[str, Any]:
    """Compare the projections of a run's prompts with what the model did.

    Args:
        answers: the answers of the run.
        own: the projections of each language's prompts at the position of the direction, in the
            order of the prompts in `answers`.
        last: the projections of the same prompts at the last token and the layer of the direction.
        layer: the layer of the direction.
        limit: the threshold of the monitor; None if it has none.

    Returns:
        Where the answers come from, and `languages`. Each language has the `counts` of outcomes in
        every group, the `projections` (at the position and layer of the direction), the AUCs
        (`AUCS`; null if an outcome has fewer than `LEAST` prompts, or if all projections are
        equal), and how many harmful prompts of each outcome the monitor `detected`. `layers` has
        the AUCs of every layer.
    """
    plain = without_attack(answers.prompts)
    became: dict[str, list[tuple[str, Outcome]]] = defaultdict(list)
    for one, outcome in zip(answers.prompts, outcomes(answers.prompts, plain), strict=True):
        became[one.language].append(outcome)
    places = {language: _places(became[language]) for language in own}
    n_layers = next(iter(own.values())).shape[1]
    return {
        "meaning": MEANING,
        "condition": answers.condition,
        "judge": answers.judge,
        "files": list(answers.files),
        "notes": list(answers.notes),
        "attacks": [
            {"dataset": attack, "around": around} for attack, around in pairs_of_datasets(plain)
        ],
        "languages": {
            language: {
                "counts": _counts(became[language]),
                "auc": _aucs(own[language][:, layer], at),
                "detected": {
                    group: {
                        str(outcome): alarms(last[language][rows], limit)
                        for outcome, rows in at[group].items()
                    }
                    for group in WATCHED
                },
                "projections": {
                    group: {
                        str(outcome): [round(float(x), 6) for x in own[language][rows, layer]]
                        for outcome, rows in at[group].items()
                    }
                    for group in GROUPS
                },
            }
            for language, at in places.items()
        },
        "layers": [
            {
                "layer": at_layer,
                "languages": {
                    language: _aucs(own[language][:, at_layer], at)
                    for language, at in places.items()
                },
            }
            for at_layer in range(n_layers)
        ],
    }


Places = dict[str, dict[Outcome, list[int]]]


def _places(became: Sequence[tuple[str, Outcome]]) -> Places:
    """Find the indices of each group's and outcome's prompts among the prompts of a language."""
    places: Places = {group: defaultdict(list) for group in GROUPS}
    for place, (group, outcome) in enumerate(became):
        places[group][outcome].append(place)
    return places


def _counts(became: Sequence[tuple[str, Outcome]]) -> dict[str, dict[str, int]]:
    count = Counter(became)
    return {
        group: {str(outcome): count[group, outcome] for outcome in Outcome}
        | {"n": sum(count[group, outcome] for outcome in Outcome)}
        for group in GROUPS
    }


def _aucs(projections: Float[np.ndarray, "prompt"], places: Places) -> dict[str, Any]:
    return {
        name: _auc(*(projections[places[group].get(outcome, [])] for group, outcome in compared))
        for name, compared in AUCS.items()
    }


def _auc(
    refused: Float[np.ndarray, "m"], answered: Float[np.ndarray, "n"]
) -> dict[str, float | int | None]:
    sizes = {"refused": len(refused), "answered": len(answered)}
    enough = min(sizes.values()) >= LEAST and np.ptp(np.concatenate([refused, answered])) > 0
    found = asdict(area(refused, answered)) if enough else dict.fromkeys(("auc", "low", "high"))
    return {**found, **sizes}
