"""What each way of taking a direction out costs, and what it does: side effects against ASR.

The model is loaded once. Under each condition its first token after harmless prompts is compared
with the untouched model's (`drift`), and it answers harmful prompts. All of them are done by hooks,
so that nothing but the condition differs.
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
        condition: as results name it.
        control_seed: of the random direction; None where there is none.
        language: of the prompts.
        labels: of the answers to harmful prompts.
        moved: how far the answers to harmless prompts are from the untouched model's.
    """

    condition: str
    control_seed: int | None
    language: str
    labels: Sequence[Label]
    moved: Drift

    def record(self, seed: int) -> dict[str, Any]:
        """The cell in the JSON document: ASR with Wilson's interval, KL with its bootstrap's.

        Args:
            seed: of the bootstrap.
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
    """Measure the model as it is, under each ablation, and under ablation of random directions.

    Args:
        chat: the model, without an intervention.
        answer: has `chat.model` answer the prompts of some rows, with at most so many tokens, as
            an evaluation would.
        direction: with its layer and the mean of harmless prompts.
        languages: of the prompts.
        origin: where the direction is from, for messages.
        controls: how many random directions are ablated; their seeds are 0, 1, ...
        dataset: a key of `prompts.DATASETS`.
        limit: prompts of each kind and language; all where None.
        max_gen_toks: most tokens of an answer.
        judge: who labels the answers.
        seed: of the bootstrap intervals.

    Returns:
        the JSON document: `cells` (condition x language), and what reproduces them. No answer is in
        it.

    Raises:
        UserError: unknown language, data set or judge, no prompts, or a direction that lacks
            something.
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
    """Name, seed of the control, and what is done to the model; the baseline first."""
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
