"""List what a study did not measure of a model, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from polyrefuse_leaderboard.card import agreement, geometry, universality
from polyrefuse_leaderboard.card.parts import Section, join
from polyrefuse_leaderboard.card.safety import named
from polyrefuse_leaderboard.card.study import StudyJob, StudySummary
from polyrefuse_leaderboard.card.subjects import Measured
from polyrefuse_leaderboard.model_rows import DIRECTED
from polyrefuse_leaderboard.records import CAPABILITY
from polyrefuse_leaderboard.table import CONDITIONS as STANDARD

from polyrefuse_tasks.languages import POLYREFUSE
from polyrefuse_tasks.metrics import ASR_HARMFUL, LOOPHOLE

CONDITIONS = {
    "baseline": "how the untouched model answers",
    "ablation": "how the model answers without its refusal direction",
    "addition": "what the model refuses with its refusal direction added",
    "mcd": "how much a learned safety prompt repairs",
}
"""Condition that every card should have -> what is not known without it."""


def section(
    study: StudySummary,
    model: str,
    measured: Measured,
    *,
    sections: Sequence[Section],
    left_out: Sequence[str],
    hide: Callable[[str], str],
) -> Section:
    """List what is not known.

    Args:
        study: the study.
        model: the study's name for the model.
        measured: what was measured of the model.
        sections: the sections of the card; nothing was measured for one without tables.
        left_out: whole sentences about what could not be read.
        hide: removes the paths of this machine from a sentence.
    """
    return Section(
        "What was not measured, and why",
        items=tuple(
            hide(item)
            for item in (
                *_jobs(study.of(model)),
                *_unread(study.of(model, "answers", "capability"), measured),
                *dict.fromkeys(left_out),
                *_conditions(study.of(model, "answers"), measured),
                *_side_effects(study, model, measured),
                *_without(study, model, {one.title for one in sections if not one.tables}),
                *_prompts(measured),
            )
        ),
    )


_WITHOUT = {
    universality.TITLE: (
        "transfer",
        "Universality: the study has no transfer matrix; list languages under directions.transfer "
        "in the study's file.",
    ),
    geometry.TITLE: (
        "geometry",
        "Geometry: the study does not measure it; list languages under directions.geometry in the "
        "study's file.",
    ),
}
"""Title of a section -> the kind of job that it needs, and the sentence if there is none."""


def _jobs(jobs: Sequence[StudyJob]) -> Iterator[str]:
    for job in jobs:
        if job.state == "failed":
            yield f"The job {job.name} failed: {job.why.rstrip('.')}."
        elif not job.is_finished:
            yield f"The job {job.name} was not started: {job.why.rstrip('.')}."


def _unread(jobs: Sequence[StudyJob], measured: Measured) -> Iterator[str]:
    for job in jobs:
        if job.is_finished and not measured.has(job):
            yield f"The job {job.name} has finished, but none of its results could be used."


def _without(study: StudySummary, model: str, empty: Collection[str]) -> Iterator[str]:
    for title, (kind, said) in _WITHOUT.items():
        if title in empty and not study.of(model, kind):
            yield said
    if agreement.TITLE in empty:
        asked = study.of(model, "judging")
        more = "" if asked else "; list others under judges in the study's file"
        yield (
            f"{agreement.TITLE}: no two judges that measure the same labelled these answers, so "
            f"the rates depend on a single judge{more}."
        )


def _conditions(jobs: Sequence[StudyJob], measured: Measured) -> Iterator[str]:
    there = {record.condition for record in measured.safety}
    without = {job.condition for job in jobs if not measured.has(job)}
    # If a job has no results, only the study's own name for its condition is known. The name says
    # which condition it is only if it is a standard one.
    all_standard = without <= STANDARD.keys()
    for name, unknown in CONDITIONS.items():
        if name not in there:
            asked = name in without or not all_standard
            why = "there are no results" if asked else "the study does not have this condition"
            yield f"Condition {name} shows {unknown}: {why}."
    effects = there.intersection(DIRECTED)
    controls = {f"random-{name}" for name in effects} - there
    if controls:
        yield (
            f"Control {join(sorted(controls))}: there are no results, so the effect of the refusal "
            "direction is not compared with that of a random one."
        )


def _side_effects(study: StudySummary, model: str, measured: Measured) -> Iterator[str]:
    asked = study.of(model, "capability")
    if not any(record.kind == CAPABILITY for record in measured.records):
        yield (
            "Capability: no value of another task of lm-eval could be used."
            if asked
            else "Capability: the study runs no other task of lm-eval; list some under capability "
            "in the study's file, such as mmlu."
        )
    if not study.of(model, "drift"):
        yield (
            "KL divergence on harmless prompts: no job measures it. A study measures it if it has "
            "harmless prompts, a condition beside the baseline, and the engine hf."
        )


def _prompts(measured: Measured) -> Iterator[str]:
    if not measured.safety:
        return
    metrics = {record.metric for record in measured.safety}
    if ASR_HARMFUL not in metrics:
        yield (
            "Harmful attack success rate: no harm judge labelled the answers, and the attack "
            "success rate counts compliance, not harm."
        )
    if LOOPHOLE not in metrics:
        yield (
            "Loopholes: the loophole rate needs answers to the same harmful prompts in English and "
            "in another language."
        )
    asked = {record.language for record in measured.safety}
    missing = [named(language) for language in POLYREFUSE if language not in asked]
    if missing:
        yield f"Languages of PolyRefuse that were not asked: {join(missing)}."
