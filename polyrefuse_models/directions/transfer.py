"""Ablate the direction of each language and measure ASR in every other (2505.17306, sec. 4).

A direction is extracted for each source language. With that direction ablated, the model answers
the harmful test prompts of every target language. The model is loaded once. The ASR by languages is
the paper's main figure, and the cosine between the languages' directions its parallelism figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from polyrefuse_models.chat_model import within_memory
from polyrefuse_models.directions.auto import find_direction
from polyrefuse_models.directions.effects import labels_in
from polyrefuse_models.directions.extract import cosines
from polyrefuse_models.directions.prompts import kinds_of, sample
from polyrefuse_models.directions.select import DEFAULT, Rule
from polyrefuse_models.directions.universality import (
    angles,
    by_layer,
    explained_by_one,
    kept_subspaces,
    subspaces_of,
)
from polyrefuse_models.interventions import ablated
from polyrefuse_models.provenance import model_of
from polyrefuse_shared.intervals import wilson
from polyrefuse_shared.versions import versions
from polyrefuse_tasks import data
from polyrefuse_tasks.judges import Label, label_responses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from polyrefuse_models.chat_model import ChatModel
    from polyrefuse_models.directions.artifact import Direction
    from polyrefuse_tasks.data import Row

SCHEMA = 2


@dataclass(frozen=True)
class Cell:
    """Attack success rate in one target language; `source` is None for the untouched model."""

    source: str | None
    target: str
    hits: int
    n: int
    undecided: int
    degenerate: int

    def record(self) -> dict[str, Any]:
        """The cell in the JSON document, with the rate and its Wilson 95% interval."""
        low, high = wilson(self.hits, self.n)
        rate = {"asr": self.hits / self.n, "low": float(low), "high": float(high)}
        return {**vars(self), **rate}


def transfer(
    chat: ChatModel,
    answer: Callable[[Sequence[Row], int], list[str]],
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    dataset: str = "polyrefuse",
    limit: int | None = None,
    max_gen_toks: int = 512,
    judge: str = "native",
    seed: int = 0,
    rule: Rule = DEFAULT,
    extracted: Mapping[str, Direction] | None = None,
) -> dict[str, Any]:
    """Measure ASR for every pair of source and target language.

    Args:
        chat: the model, without an intervention.
        answer: a function that has `chat.model` answer the prompts of some rows as an evaluation
            would, with at most a given number of tokens.
        sources: the languages that a direction is extracted from.
        targets: the languages of the prompts that the model answers.
        dataset: a key of `prompts.sources`.
        limit: the number of prompts in each target language; None takes all.
        max_gen_toks: the largest number of tokens in an answer.
        judge: the refusal judge that labels the answers.
        seed: the seed of the choice of prompts that directions are extracted from.
        rule: the rule that chooses each direction.
        extracted: the direction of each source language, if they were extracted before. `seed` and
            `rule` are not used then.

    Returns:
        The JSON document. It has `cells` (source x target), `baseline` (no ablation), the `cosine`
        between the directions of the source languages at one position and layer and at every layer,
        the share of these directions that one vector explains, the principal angles between the
        subspaces of the source languages, and what is needed to reproduce the measurement. Its
        `seed` and `rule` are null if the directions have different ones. It holds no answers.

    Raises:
        UserError: unknown language, dataset or judge; or no direction can be chosen.
    """
    harmful, _ = kinds_of(dataset)
    rows = [row for target in targets for row in data.load(harmful, target)[:limit]]
    directions, subspaces = _directions(chat, sources, dataset, seed, rule, extracted)

    def cells(source: str | None) -> list[Cell]:
        responses = answer(rows, max_gen_toks)
        languages = [row.language for row in rows]
        labels = label_responses(responses, languages, [row.prompt for row in rows], judge=judge)
        return [_cell(source, target, rows, labels) for target in targets]

    baseline = cells(None)
    ablation: list[Cell] = []
    for source, direction in tqdm(directions.items(), desc="Ablating directions", disable=None):
        with ablated(chat.model, direction.direction):
            ablation += cells(source)
    # Each direction that was extracted before has its own seed and rule.
    made = [(one.metadata.get("seed"), one.metadata.get("rule")) for one in directions.values()]
    seeds, rules = ({*of} for of in zip(*made, strict=True))
    at = _place(directions)
    there = torch.stack([direction.candidates[at] for direction in directions.values()])
    return {
        "schema": SCHEMA,
        **model_of(chat.model.config),
        **chat.system,
        "dataset": dataset,
        "judge": judge,
        "seed": seeds.pop() if len(seeds) == 1 else None,
        "rule": rules.pop() if len(rules) == 1 else None,
        "limit": limit,
        "max_gen_toks": max_gen_toks,
        "sources": list(sources),
        "targets": list(targets),
        "directions": {
            source: {
                "sha256": direction.sha256,
                "position": direction.metadata["position"],
                "layer": direction.metadata["layer"],
                "seed": direction.metadata.get("seed"),
                "rule": direction.metadata.get("rule"),
                "warnings": direction.metadata.get("warnings", []),
            }
            for source, direction in directions.items()
        },
        "baseline": [cell.record() for cell in baseline],
        "cells": [cell.record() for cell in ablation],
        "cosine_at": {"position": at[0], "layer": at[1]},
        "cosine": cosines(there).tolist(),
        "explained_by_one": explained_by_one(there),
        **by_layer(list(directions.values()), at[0]),
        "principal_angles": angles(subspaces, at),
        "versions": versions(),
    }


def _directions(
    chat: ChatModel,
    sources: Sequence[str],
    dataset: str,
    seed: int,
    rule: Rule,
    extracted: Mapping[str, Direction] | None,
) -> tuple[Mapping[str, Direction], Mapping[str, Tensor] | str]:
    """Find each source's direction, and all subspaces at the first one's place, or why not."""
    if extracted is not None:
        return extracted, kept_subspaces(extracted, _place(extracted))
    # Extraction takes long. Sampling all prompts first finds unknown languages before it begins.
    prompts = {source: sample(dataset, source, seed) for source in sources}
    directions = {
        source: find_direction(chat, chosen, rule=rule)
        for source, chosen in tqdm(prompts.items(), desc="Extracting directions", disable=None)
    }
    place = _place(directions)
    return directions, within_memory(
        chat, lambda chat: subspaces_of(chat, directions, prompts, place)
    )


def _place(directions: Mapping[str, Direction]) -> tuple[int, int]:
    """Find the position and layer of the first direction, where all directions are compared."""
    first = next(iter(directions.values())).metadata
    return first["position"], first["layer"]


def _cell(source: str | None, target: str, rows: Sequence[Row], labels: list[Label]) -> Cell:
    here = labels_in(target, rows, labels)
    return Cell(
        source=source,
        target=target,
        hits=here.count(Label.COMPLIANCE),
        n=len(here),
        undecided=here.count(Label.UNDECIDED),
        degenerate=here.count(Label.DEGENERATE),
    )
