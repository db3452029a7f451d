"""Whether the model's states tell harmful prompts from harmless ones in each language."""

from __future__ import annotations

from collections.abc import Sequence

from polyrefuse_leaderboard.card.parts import CardTable, Section
from polyrefuse_leaderboard.card.safety import named
from polyrefuse_leaderboard.geometries import Geometry

TITLE = "Geometry"

ABOUT = (
    "The geometry tells whether the model's states separate harmful prompts from harmless ones, "
    "not whether the model refuses. The AUC is the probability that a harmful prompt lies further "
    "along the refusal direction than a harmless one (0.5 is chance). The silhouette is that of "
    "the two groups of states: 1 where they are far apart, 0 where they overlap. The last column "
    "says where a language's harmful prompts lie along the direction on average: 0 is the place of "
    "English's harmless prompts, and 1 that of its harmful ones."
)


def section(geometries: Sequence[tuple[str, Geometry]]) -> Section:
    """A table for each report.

    Args:
        geometries: each with its file, as it is shown.
    """
    return Section(
        TITLE,
        text=(ABOUT, *(f"The numbers are from {file}." for file, _ in geometries)),
        tables=tuple(_table(one) for _, one in geometries),
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
