"""What a study did not measure of a model, and why; and what its rates must not be read without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from polyrefuse_leaderboard.card.parts import Section, join
from polyrefuse_leaderboard.card.safety import named
from polyrefuse_leaderboard.card.study import StudyJob, StudySummary
from polyrefuse_leaderboard.card.subjects import Measured
from polyrefuse_leaderboard.records import CAPABILITY
from polyrefuse_leaderboard.warnings import RateWarning

from polyrefuse_tasks.languages import POLYREFUSE
from polyrefuse_tasks.metrics import ASR_HARMFUL, LOOPHOLE

CONDITIONS = {
    "baseline": "how the model answers untouched",
    "ablation": "how the model answers without its refusal direction",
    "addition": "what the model refuses with its refusal direction added",
    "mcd": "how much a learned safety prompt repairs",
}
"""Conditions that every card has, and what is not known without each."""


def section(
    study: StudySummary,
    model: str,
    measured: Measured,
    *,
    sections: Sequence[Section],
    warnings: Sequence[RateWarning],
    left_out: Sequence[str],
) -> Section:
    """What is not known, and what is to be read with care.

    Args:
        study: which.
        model: what it calls the model.
        measured: of the model.
        sections: of the card; one without tables has measured nothing.
        warnings: of all rates of the leaderboard.
        left_out: what could not be read, in whole sentences.
    """
    return Section(
        "What was not measured, and why",
        items=(
            *_jobs(study.of(model)),
            *_conditions(study, model, measured),
            *_side_effects(study.of(model, "drift"), measured),
            *(_WITHOUT[one.title] for one in sections if one.title in _WITHOUT and not one.tables),
            *_prompts(measured),
            *left_out,
            *_care(measured, warnings),
        ),
    )


_WITHOUT = {
    "Universality of the refusal direction": (
        "Universality: no transfer matrix was measured; list languages under transfer in the "
        "directions of the study."
    ),
    "Agreement of the judges": (
        "Agreement of the judges: no two judges that measure the same labelled these answers, so "
        "the rates rest on one judge; list others under judges in the study."
    ),
}
"""Title of a section -> what is said of it where it has no tables."""


def _jobs(jobs: Sequence[StudyJob]) -> Iterator[str]:
    for job in jobs:
        if job.state == "failed":
            yield f"The job {job.name} failed: {job.why.rstrip('.')}."
        elif not job.is_finished:
            yield f"The job {job.name} was not begun: {job.why.rstrip('.')}."


def _conditions(study: StudySummary, model: str, measured: Measured) -> Iterator[str]:
    there = {record.condition for record in measured.records}
    asked = " ".join(job.name for job in study.of(model, "answers"))
    for name, unknown in CONDITIONS.items():
        if name not in there:
            why = "its job has not finished" if f"/{name}" in asked else "the study does not ask it"
            yield f"Condition {name}, {unknown}: {why}."
    effects = there & {"ablation", "addition"}
    controls = {f"random-{name}" for name in effects} - there
    if controls:
        yield (
            f"Control {join(sorted(controls))}: not asked, so the effect of the refusal direction "
            "is not compared with that of a random one."
        )


def _side_effects(drifts: Sequence[StudyJob], measured: Measured) -> Iterator[str]:
    if not any(record.kind == CAPABILITY for record in measured.records):
        yield (
            "Capability: the study names no other tasks of lm-eval, or none has finished; list "
            "some under capability in the study, such as mmlu."
        )
    if not drifts:
        yield (
            "KL divergence on harmless prompts: no job measures it; a study does so where it has "
            "harmless prompts, a condition beside the baseline, and transformers runs the model."
        )


def _prompts(measured: Measured) -> Iterator[str]:
    metrics = {record.metric for record in measured.records}
    if measured.records and ASR_HARMFUL not in metrics:
        yield (
            "Harmful answers: no judge of harm labelled the answers, and attack success counts "
            "compliance, not harm."
        )
    if measured.records and LOOPHOLE not in metrics:
        yield (
            "Loopholes: they need the answers to the same harmful prompts in English and in "
            "another language."
        )
    asked = {record.language for record in measured.records}
    missing = [named(language) for language in POLYREFUSE if language not in asked]
    if missing and measured.records:
        yield f"Languages of PolyRefuse that were not asked: {join(missing)}."


def _care(measured: Measured, warnings: Sequence[RateWarning]) -> Iterator[str]:
    about: dict[str, dict[str, dict[str, None]]] = {}
    for one in warnings:
        for run in one.runs:
            name = measured.names.get(run.rpartition("/")[2])
            if name is not None:
                about.setdefault(one.text, {}).setdefault(name, {}).update(
                    dict.fromkeys(one.datasets)
                )
    for text, conditions in about.items():
        sets = dict.fromkeys(name for names in conditions.values() for name in names)
        where = f"{join([*conditions])}; {join([*sets])}"
        yield f"Read with care ({where}): {text}"
