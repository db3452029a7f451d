"""Make the safety cards of a study: one for each of its models."""

from __future__ import annotations

from collections.abc import Sequence

from polyrefuse_leaderboard.card import (
    agreement,
    care,
    geometry,
    model_index,
    repeat,
    safety,
    side_effects,
    universality,
    unmeasured,
)
from polyrefuse_leaderboard.card.parts import Card, slugs
from polyrefuse_leaderboard.card.study import StudyJob, StudySummary
from polyrefuse_leaderboard.card.subjects import measured
from polyrefuse_leaderboard.drifts import read_drift
from polyrefuse_leaderboard.geometries import FILE as GEOMETRY_FILE
from polyrefuse_leaderboard.geometries import read_geometry
from polyrefuse_leaderboard.model_rows import Row
from polyrefuse_leaderboard.reading.model_names import Names, hide_paths
from polyrefuse_leaderboard.reading.runs import Reading
from polyrefuse_leaderboard.records import Record
from polyrefuse_leaderboard.transfers import read_transfers
from polyrefuse_leaderboard.warnings import RateWarning

DRIFT = "drift"
"""The folder within a job's folder that `polyrefuse drift` writes."""

GEOMETRY = "geometry"
"""The folder within a job's folder that `polyrefuse direction geometry` writes."""


def make_cards(
    study: StudySummary,
    reading: Reading,
    records: Sequence[Record],
    rows: Sequence[Row],
    warnings: Sequence[RateWarning],
    names: Names,
) -> list[Card]:
    """Make a card for each model of a study, in the study's order.

    Args:
        study: the study. Reports that lm-eval's results files do not contain, such as the transfer
            matrix, are read from the folders of its jobs.
        reading: all results.
        records: the records made from the results.
        rows: the rows of the table of models made from the records.
        warnings: the warnings of these rates.
        names: the names of models, as `model_names.read_names` returns them.
    """
    called = slugs(study.models)
    return [
        _card(study, model, called[model], reading, records, rows, warnings, names)
        for model in study.models
    ]


def _card(
    study: StudySummary,
    model: str,
    slug: str,
    reading: Reading,
    records: Sequence[Record],
    rows: Sequence[Row],
    warnings: Sequence[RateWarning],
    names: Names,
) -> Card:
    of_model = measured(study, model, reading, records, rows)
    answers = [job.results for job in study.finished(model, "answers")]
    problems = _problems_of(reading, study.finished(model, "answers", "capability"))
    transfers = []
    for job in study.finished(model, "transfer"):
        found, wrong = read_transfers([job.folder], names)
        transfers += found
        problems += wrong if found or wrong else [f"{job.name}: its folder has no transfer.json."]
    drifts = {}
    for job in study.finished(model, "drift"):
        drift, problem = read_drift(job.folder / DRIFT)
        if drift is None:
            problems.append(f"{job.name}: {problem}")
        else:
            drifts[job.condition or drift.condition] = drift
    geometries = []
    for job in study.finished(model, "geometry"):
        laid, problem = read_geometry(job.folder / GEOMETRY)
        if laid is None:
            problems.append(f"{job.name}: {problem}")
        else:
            geometries.append((f"{job.place}/{GEOMETRY}/{GEOMETRY_FILE}", laid))
    agreed, wrong = agreement.section(answers, of_model.names)
    problems += wrong

    def hide(said: str) -> str:
        return hide_paths(said, names)

    sections = [
        safety.glance(of_model),
        safety.by_language(of_model),
        safety.loopholes(of_model),
        universality.section(transfers),
        geometry.section(geometries),
        side_effects.section(of_model, drifts),
        agreed,
    ]
    missing = unmeasured.section(
        study,
        model,
        of_model,
        sections=sections,
        left_out=problems,
        hide=hide,
    )
    cautions = care.section(of_model, warnings, transfers)
    shown = [section for section in (*sections, cautions) if section.tables or section.items]
    commands = repeat.section(study, model, of_model, hide)
    return Card(
        model=model,
        slug=slug,
        study=study.study,
        sections=(*shown, missing, safety.how_to_read(of_model), commands),
        results=model_index.results(of_model),
    )


def _problems_of(reading: Reading, jobs: Sequence[StudyJob]) -> list[str]:
    """Return the reading's sentences about those files of some jobs that could not be read."""
    folders = [f"{job.results.name}/" for job in jobs]
    return [one for one in reading.problems if any(folder in one for folder in folders)]
