"""How strongly a direction has to be added until a model refuses what it would answer.

The direction is added at its layer's input, x <- x + c r (2505.17306, eq. 2; 2406.11717, sec. 2.4),
with one coefficient c after the other, and the model answers the same harmless prompts each time.
The model is loaded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from polyrefuse_models.directions.artifact import BadDirection
from polyrefuse_models.directions.effects import described, labels_in, prompts_of
from polyrefuse_models.directions.prompts import kinds_of
from polyrefuse_models.interventions import Addition, installed
from polyrefuse_models.provenance import model_of
from polyrefuse_shared.intervals import wilson
from polyrefuse_shared.versions import versions
from polyrefuse_tasks.judges import Label, label_responses

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from polyrefuse_models.chat_model import ChatModel
    from polyrefuse_models.directions.artifact import Direction
    from polyrefuse_tasks.data import Row

SCHEMA = 1


@dataclass(frozen=True)
class Cell:
    """Refusals of harmless prompts in one language with one coefficient."""

    coefficient: float
    language: str
    refused: int
    n: int
    undecided: int
    degenerate: int

    def record(self) -> dict[str, Any]:
        """The cell in the JSON document, with the rate and its Wilson 95% interval."""
        low, high = wilson(self.refused, self.n)
        rate = {"refusal_rate": self.refused / self.n, "low": float(low), "high": float(high)}
        return {**vars(self), **rate}


def sweep(
    chat: ChatModel,
    answer: Callable[[Sequence[Row], int], list[str]],
    direction: Direction,
    coefficients: Sequence[float],
    languages: Sequence[str],
    *,
    revision: str | None = None,
    dataset: str = "polyrefuse",
    limit: int | None = None,
    max_gen_toks: int = 512,
    judge: str = "native",
) -> dict[str, Any]:
    """Add a direction with each coefficient, and count the refusals of harmless prompts.

    Args:
        chat: the model, without an intervention.
        answer: has `chat.model` answer the prompts of some rows, with at most so many tokens, as
            an evaluation would.
        direction: with its layer.
        coefficients: multiples of the direction, not normalised, that are added.
        languages: of the prompts.
        revision: of the model, for the document.
        dataset: a key of `prompts.DATASETS`.
        limit: prompts a language; all where None.
        max_gen_toks: most tokens of an answer.
        judge: who labels the answers.

    Returns:
        the JSON document: `cells` (coefficient x language), and what reproduces them. No answer is
        in it.

    Raises:
        UserError: unknown language, data set or judge, no prompts, or a direction without a layer.
    """
    layer = layer_of(direction)
    rows, sums = prompts_of(kinds_of(dataset)[1], languages, limit)
    asked = [row.prompt for row in rows]
    cells: list[Cell] = []
    for coefficient in tqdm(coefficients, desc="Adding the direction", disable=None):
        added = Addition(direction.direction, layer, coefficient=coefficient)
        with installed(chat.model, added):
            responses = answer(rows, max_gen_toks)
        labels = label_responses(responses, [row.language for row in rows], asked, judge=judge)
        cells += [_cell(coefficient, language, rows, labels) for language in languages]
    return {
        "schema": SCHEMA,
        **model_of(chat.model.config),
        "revision": revision,
        **chat.system,
        "dataset": dataset,
        "judge": judge,
        "limit": limit,
        "max_gen_toks": max_gen_toks,
        "languages": list(languages),
        "coefficients": list(coefficients),
        "direction": described(direction),
        "cells": [cell.record() for cell in cells],
        "data_sha256": sums,
        "versions": versions(),
    }


def layer_of(direction: Direction) -> int:
    """The block at whose input a direction is added.

    Raises:
        BadDirection: its metadata name none.
    """
    layer: int | None = direction.metadata.get("layer")
    if layer is None:
        raise BadDirection(
            "The direction's metadata name no layer, where it would be added; extract it anew with "
            "`polyrefuse direction extract`."
        )
    return layer


def _cell(coefficient: float, language: str, rows: Sequence[Row], labels: Sequence[Label]) -> Cell:
    here = labels_in(language, rows, labels)
    return Cell(
        coefficient=coefficient,
        language=language,
        refused=here.count(Label.REFUSAL),
        n=len(here),
        undecided=here.count(Label.UNDECIDED),
        degenerate=here.count(Label.DEGENERATE),
    )
