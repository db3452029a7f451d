"""Find how strongly a direction has to be added before a model refuses what it otherwise answers.

The direction is added at the input of its layer, x <- x + c r (2505.17306, eq. 2; 2406.11717,
sec. 2.4), with one coefficient c after the other. The model is loaded once, and answers the same
harmless prompts each time.

A coefficient may be so large that numbers inside the model overflow. The answers are then
degenerate, whatever the direction is. A product c r that overflows by itself is refused
(`check_coefficients`). A coefficient with which the model's logits overflow is marked in the
document.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from polyrefuse_models.directions.artifact import BadDirection
from polyrefuse_models.directions.effects import described, labels_in, prompts_of
from polyrefuse_models.directions.prompts import kinds_of
from polyrefuse_models.hooks import Hooks
from polyrefuse_models.interventions import Addition, check_multiple, installed
from polyrefuse_models.provenance import model_of
from polyrefuse_shared.intervals import wilson
from polyrefuse_shared.log import logger
from polyrefuse_shared.versions import versions
from polyrefuse_tasks.judges import Label, label_responses

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor
    from transformers import PreTrainedModel

    from polyrefuse_models.chat_model import ChatModel
    from polyrefuse_models.directions.artifact import Direction
    from polyrefuse_tasks.data import Row

SCHEMA = 2
"""The version of the document. Version 2 added `overflowed` and a `revision` that is a commit."""


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
    dataset: str = "polyrefuse",
    limit: int | None = None,
    max_gen_toks: int = 512,
    judge: str = "native",
) -> dict[str, Any]:
    """Add a direction with each coefficient, and count the refusals of harmless prompts.

    Args:
        chat: the model, without an intervention.
        answer: a function that has `chat.model` answer the prompts of some rows as an evaluation
            would, with at most a given number of tokens.
        direction: a direction that has a layer.
        coefficients: the multiples of the direction to add, which is not normalised.
        languages: the languages of the prompts.
        dataset: a key of `prompts.sources`.
        limit: the number of prompts in each language; None takes all.
        max_gen_toks: the largest number of tokens in an answer.
        judge: the refusal judge that labels the answers.

    Returns:
        The JSON document: `cells` (coefficient x language), the coefficients that `overflowed`, and
        what reproduces the measurement. It holds no answers.

    Raises:
        UserError: unknown language, dataset or judge; no prompts; a direction without a layer; or a
            coefficient that `check_coefficients` refuses.
    """
    layer = layer_of(direction)
    check_coefficients(direction, coefficients, chat.model.dtype)
    rows, sums = prompts_of(kinds_of(dataset)[1], languages, limit)
    asked = [row.prompt for row in rows]
    cells: list[Cell] = []
    overflowed: list[float] = []
    for coefficient in tqdm(coefficients, desc="Adding the direction", disable=None):
        added = Addition(direction.direction, layer, coefficient=coefficient)
        with installed(chat.model, added), installed(chat.model, _Overflow()) as watch:
            responses = answer(rows, max_gen_toks)
        if watch.seen:
            overflowed.append(coefficient)
            logger.warning(
                "With coefficient %g, numbers inside the model overflow %s, so its degenerate "
                "answers say nothing about the direction. Give a smaller coefficient, or load the "
                "model with --dtype float32.",
                coefficient,
                str(chat.model.dtype).removeprefix("torch."),
            )
        labels = label_responses(responses, [row.language for row in rows], asked, judge=judge)
        cells += [_cell(coefficient, language, rows, labels) for language in languages]
    return {
        "schema": SCHEMA,
        **model_of(chat.model.config),
        **chat.system,
        "dataset": dataset,
        "judge": judge,
        "limit": limit,
        "max_gen_toks": max_gen_toks,
        "languages": list(languages),
        "coefficients": list(coefficients),
        "direction": described(direction),
        "cells": [cell.record() for cell in cells],
        "overflowed": overflowed,
        "data_sha256": sums,
        "versions": versions(),
    }


def layer_of(direction: Direction) -> int:
    """Find the block at whose input a direction is added.

    Raises:
        BadDirection: the metadata of the direction names no layer.
    """
    layer: int | None = direction.metadata.get("layer")
    if layer is None:
        raise BadDirection(
            "The direction's metadata names no layer to add it at; extract the direction again "
            "with `polyrefuse direction extract`."
        )
    return layer


def check_coefficients(
    direction: Direction, coefficients: Sequence[float], dtype: torch.dtype
) -> None:
    """Refuse coefficients that make the added vector too large for the model's number type.

    Args:
        direction: the direction to add.
        coefficients: the multiples of it.
        dtype: the number type of the model's states.

    Raises:
        UserError: as in `check_multiple`.
    """
    for coefficient in coefficients:
        check_multiple(direction.direction, coefficient, dtype, "--coefficients ")


class _Overflow(Hooks):
    """Records whether a logit at the last token was ever NaN or plus infinity.

    A state that overflows becomes NaN in the last norm, which makes all logits NaN. Some models set
    the logits of tokens that do not exist to minus infinity. This is no overflow.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: Tensor | None = None

    @property
    def seen(self) -> bool:
        return self._seen is not None and bool(self._seen)

    def install(self, model: PreTrainedModel) -> None:
        """Look at what the model's unembedding returns."""
        self.on_output(model.get_output_embeddings(), self._look)

    def _look(self, logits: Tensor) -> None:
        # The result stays on the device. Reading it would make the host wait at every token.
        over = ~(logits[:, -1] < torch.inf).all()
        self._seen = over if self._seen is None else self._seen | over


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
