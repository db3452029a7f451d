"""The safety cards of a study: one for each of its models."""

from __future__ import annotations

from collections.abc import Sequence

from polyrefuse_leaderboard.card import (
    agreement,
    model_index,
    repeat,
    safety,
    side_effects,
    universality,
    unmeasured,
)
from polyrefuse_leaderboard.card.parts import Card
from polyrefuse_leaderboard.card.study import StudySummary
from polyrefuse_leaderboard.card.subjects import measured
from polyrefuse_leaderboard.drifts import read_drift
from polyrefuse_leaderboard.model_rows import Row
from polyrefuse_leaderboard.reading.model_names import Names, hide_paths
from polyrefuse_leaderboard.reading.runs import Reading
from polyrefuse_leaderboard.records import Record
from polyrefuse_leaderboard.transfers import read_transfers
from polyrefuse_leaderboard.warnings import RateWarning

DRIFT = "drift"
"""In the folder of a job, what `polyrefuse drift` writes."""


def make_cards(
    study: StudySummary,
    reading: Reading,
    records: Sequence[Record],
    rows: Sequence[Row],
    warnings: Sequence[RateWarning],
    names: Names,
) -> list[Card]:
    """A card for each model of a study, in its order.

    Args:
        study: which; its jobs' folders are read for what no results file of lm-eval holds.
        reading: of all results.
        records: made of them.
        rows: of the table of models, made of those.
        warnings: of those rates.
        names: what models are called, as `model_names.read_names` returns it.
    """
    return [_card(study, model, reading, records, rows, warnings, names) for model in study.models]


def _card(
    study: StudySummary,
    model: str,
    reading: Reading,
    records: Sequence[Record],
    rows: Sequence[Row],
    warnings: Sequence[RateWarning],
    names: Names,
) -> Card:
    of_model = measured(study, model, reading, records, rows)
    answers = [job.results for job in study.of(model, "answers") if job.is_finished]
    matrices = [job.folder for job in study.of(model, "transfer") if job.is_finished]
    transfers, problems = read_transfers(matrices, names)
    drifts = {}
    for job in study.of(model, "drift"):
        found, problem = read_drift(job.folder / DRIFT) if job.is_finished else (None, "")
        if found is not None:
            drifts[job.condition] = found
        elif problem:
            problems.append(f"{job.name}: {problem}")
    sections = [
        safety.glance(of_model),
        safety.by_language(of_model),
        safety.loopholes(of_model),
        universality.section(transfers),
        side_effects.section(of_model, drifts),
        agreement.section(answers, of_model.names),
    ]
    missing = unmeasured.section(
        study,
        model,
        of_model,
        sections=sections,
        warnings=warnings,
        left_out=[hide_paths(one, names) for one in problems],
    )
    shown = [section for section in sections if section.tables]
    commands = repeat.section(study, model, of_model, lambda said: hide_paths(said, names))
    return Card(
        model=model,
        study=study.study,
        sections=(*shown, missing, safety.how_to_read(), commands),
        results=model_index.results(of_model),
    )
