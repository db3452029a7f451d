"""Show whether the model's states separate harmful from harmless prompts in each language."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from polyrefuse_leaderboard.card.parts import CardTable, Section
from polyrefuse_leaderboard.card.safety import named, share
from polyrefuse_leaderboard.geometries import Answered, Geometry, Monitor, Share
from polyrefuse_leaderboard.table import percent

TITLE = "Geometry"

ABOUT = (
    "The geometry shows whether the model's states separate harmful prompts from harmless ones, "
    "not whether the model refuses. The AUC is the probability that a harmful prompt lies further "
    "along the refusal direction than a harmless prompt (0.5 is chance). The silhouette compares "
    "the two groups of states: it is 1 where they are far apart and 0 where they overlap. The last "
    "column shows where the harmful prompts of a language lie along the direction on average: 0 is "
    "the place of the harmless English prompts, and 1 that of the harmful English prompts."
)

ABOUT_MONITOR = (
    "The monitor raises an alarm for a prompt whose projection at its last token lies above a "
    "threshold. The threshold was set on harmless prompts, which do not count in its rates."
)

ABOUT_ANSWERED = (
    "The AUC of refused against complied is the probability that a harmful prompt that the model "
    "refused lies further along the direction than a harmful prompt that it complied with. A "
    "language with too few prompts of either kind is left out."
)


def section(geometries: Sequence[tuple[str, Geometry]]) -> Section:
    """Make the tables of each report.

    Args:
        geometries: the name of each file, as it is shown, and its report.
    """
    reports = [one for _, one in geometries]
    about = [ABOUT]
    about += [ABOUT_MONITOR] * any(one.monitor for one in reports)
    about += [ABOUT_ANSWERED] * any(one.answered for one in reports)
    return Section(
        TITLE,
        text=(*about, *(f"The numbers are from {file}." for file, _ in geometries)),
        tables=tuple(table for one in reports for table in _tables(one)),
    )


def _tables(one: Geometry) -> Iterator[CardTable]:
    yield _table(one)
    if one.monitor is not None:
        yield _watched(one.monitor)
    if one.answered is not None:
        yield _refused(one.answered)


def _watched(monitor: Monitor) -> CardTable:
    return CardTable(
        f"Monitor, calibrated on {monitor.calibration_prompts} harmless prompts in "
        f"{named(monitor.calibrated_in)} for at most {percent(monitor.allowed)}% false alarms",
        ("language", "false alarms (%)", "harmful prompts detected (%)"),
        tuple(
            (named(language), _share(false_alarms), _share(detected))
            for language, (false_alarms, detected) in monitor.languages.items()
        ),
    )


def _share(found: Share | None) -> str:
    return "-" if found is None else share(found.rate, found.low, found.high, found.n)


def _refused(answered: Answered) -> CardTable:
    return CardTable(
        f"Refused against complied harmful prompts in the condition {answered.condition}, judge "
        f"{answered.judge}",
        ("language", "AUC (95% interval)", "refused", "complied"),
        tuple(
            (named(language), f"{auc:.3f} ({low:.3f} to {high:.3f})", str(refused), str(complied))
            for language, (auc, low, high, refused, complied) in answered.languages.items()
        ),
    )


def _table(one: Geometry) -> CardTable:
    return CardTable(
        f"Harmful and harmless prompts at position {one.position}, layer {one.layer}: "
        f"{one.dataset}",
        (
            "language",
            "AUC (95% interval)",
            "silhouette",
            "harmful prompts",
            "harmless prompts",
            "place of the harmful",
        ),
        tuple(
            (
                named(language),
                f"{apart.auc:.3f} ({apart.low:.3f} to {apart.high:.3f})",
                f"{apart.silhouette:.2f}",
                str(apart.harmful),
                str(apart.harmless),
                "-" if apart.against_english is None else f"{apart.against_english:.2f}",
            )
            for language, apart in one.languages.items()
        ),
    )
