"""Compare the ways to ablate a direction by their ASR and their side effects.

The model is loaded once. Under each condition, the probabilities of its first token after harmless
prompts are compared with those of the untouched model (`drift`), and the model answers harmful
prompts. Every ablation is done by hooks, so that nothing but the condition differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from polyrefuse_models.directions.control import control_of
from polyrefuse_models.directions.effects import described, labels_in, prompts_of
from polyrefuse_models.directions.projected import projected
from polyrefuse_models.directions.prompts import kinds_of
from polyrefuse_models.drift import Drift, drift, log_probabilities
from polyrefuse_models.interventions import Ablation, AffineAblation, installed
from polyrefuse_models.interventions.contract import BASELINE
from polyrefuse_models.provenance import model_of
from polyrefuse_shared.intervals import wilson
from polyrefuse_shared.versions import versions
from polyrefuse_tasks.judges import Label, label_responses

if TYPE_CHECKING:
    from polyrefuse_models.chat_model import ChatModel
    from polyrefuse_models.directions.artifact import Direction
    from polyrefuse_tasks.data import Row

SCHEMA = 1


@dataclass(frozen=True)
class Cell:
    """One condition in one language.

    Attributes:
        condition: the name of the condition in results.
        control_seed: the seed of the random direction; None if the condition has none.
        language: the language of the prompts.
        labels: the labels of the answers to harmful prompts.
        moved: how far the condition moves the first tokens of answers to harmless prompts.
    """

    condition: str
    control_seed: int | None
    language: str
    labels: Sequence[Label]
    moved: Drift

    def record(self, seed: int) -> dict[str, Any]:
        """The cell in the JSON document: ASR with Wilson's interval, KL with a bootstrap interval.

        Args:
            seed: the seed of the bootstrap.
        """
        hits, n = self.labels.count(Label.COMPLIANCE), len(self.labels)
        low, high = wilson(hits, n)
        return {
            "condition": self.condition,
            "control_seed": self.control_seed,
            "language": self.language,
            "harmful": {
                "n": n,
                "asr": hits / n,
                "low": float(low),
                "high": float(high),
                "undecided": self.labels.count(Label.UNDECIDED),
                "degenerate": self.labels.count(Label.DEGENERATE),
            },
            "harmless": self.moved.record(seed),
        }


def compare(
    chat: ChatModel,
    answer: Callable[[Sequence[Row], int], list[str]],
    direction: Direction,
    languages: Sequence[str],
    *,
    origin: str,
    controls: int,
    dataset: str = "polyrefuse",
    limit: int | None = None,
    max_gen_toks: int = 512,
    judge: str = "native",
    seed: int = 0,
) -> dict[str, Any]:
    """Measure the untouched model, each kind of ablation, and the ablation of random directions.

    Args:
        chat: the model, without an intervention.
        answer: a function that has `chat.model` answer the prompts of some rows as an evaluation
            would, with at most a given number of tokens.
        direction: a direction that has a layer and the mean of harmless prompts.
        languages: the languages of the prompts.
        origin: where the direction comes from, for messages.
        controls: the number of random directions to ablate; their seeds are 0, 1, ...
        dataset: a key of `prompts.sources`.
        limit: the number of prompts of each kind and language; None takes all.
        max_gen_toks: the largest number of tokens in an answer.
        judge: the refusal judge that labels the answers.
        seed: the seed of the bootstrap intervals.

    Returns:
        The JSON document. It has `cells` (condition x language), and what reproduces the
        measurement. It holds no answers.

    Raises:
        UserError: unknown language, dataset or judge; no prompts; or the direction has no layer or
            no harmless mean.
    """
    (harmful, sums), (harmless, more_sums) = (
        prompts_of(kind, languages, limit) for kind in kinds_of(dataset)
    )
    conditions = list(_conditions(direction, controls, origin))
    asked = {
        language: [r.prompt for r in harmless if r.language == language] for language in languages
    }
    before = {language: log_probabilities(chat, asked[language]) for language in languages}
    cells: list[Cell] = []
    for name, control_seed, intervention in tqdm(
        conditions, desc="Comparing ablations", disable=None
    ):
        under: AbstractContextManager[Any] = (
            nullcontext() if intervention is None else installed(chat.model, intervention)
        )
        with under:
            moved = {one: drift(before[one], chat, asked[one]) for one in languages}
            responses = answer(harmful, max_gen_toks)
        labels = label_responses(
            responses, [r.language for r in harmful], [r.prompt for r in harmful], judge=judge
        )
        for language in languages:
            here = labels_in(language, harmful, labels)
            cells.append(Cell(name, control_seed, language, here, moved[language]))
    return {
        "schema": SCHEMA,
        **model_of(chat.model.config),
        **chat.system,
        "dataset": dataset,
        "judge": judge,
        "seed": seed,
        "limit": limit,
        "max_gen_toks": max_gen_toks,
        "languages": list(languages),
        "direction": described(direction),
        "cells": [cell.record(seed) for cell in cells],
        "data_sha256": sums | more_sums,
        "versions": versions(),
    }


def _conditions(
    direction: Direction, controls: int, origin: str
) -> Iterator[tuple[str, int | None, Ablation | AffineAblation | None]]:
    """Yield the name, the seed of the control and the intervention of each condition."""
    mean = direction.require_harmless_mean("The comparison", origin)
    vector = direction.direction
    ablations: list[Ablation | AffineAblation] = [
        Ablation(vector),
        AffineAblation(vector, mean),
        Ablation(projected(direction, origin), called="projected-ablation"),
    ]
    yield BASELINE, None, None
    for intervention in ablations:
        yield intervention.condition, None, intervention
    for seed in range(controls):
        random = Ablation(control_of(direction, seed).direction, control="random")
        yield random.condition, seed, random
