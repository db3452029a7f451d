"""Prompts, labels and descriptions that the measurements of a direction's effects share.

These measurements are `direction sweep`, `compare`, `rank`, `transfer` and `geometry`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polyrefuse_shared.errors import UserError
from polyrefuse_tasks import data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polyrefuse_models.directions.artifact import Direction
    from polyrefuse_tasks.data import Row
    from polyrefuse_tasks.judges import Label


def prompts_of(
    kind: str, languages: Sequence[str], limit: int | None
) -> tuple[list[Row], dict[str, str]]:
    """Load the first test prompts of each language, and the checksums of their files.

    Raises:
        UserError: a language is unknown, or has no test prompts.
    """
    rows: list[Row] = []
    sums: dict[str, str] = {}
    for language in languages:
        of_language = data.load(kind, language)[:limit]
        if not of_language:
            raise UserError(f"{kind} has no test prompts in {language}; leave that language out.")
        rows += of_language
        sums |= data.checksums(kind, language, "test")
    return rows, sums


def labels_in(language: str, rows: Sequence[Row], labels: Sequence[Label]) -> list[Label]:
    """Select the labels of the rows in one language."""
    return [label for row, label in zip(rows, labels, strict=True) if row.language == language]


def described(direction: Direction) -> dict[str, Any]:
    """Describe a direction for the JSON document."""
    names = ("recipe_sha256", "dataset", "source_lang", "seed", "rule", "position", "layer")
    control = ("control", "control_seed", "control_of")
    found = direction.metadata
    return {
        "sha256": direction.sha256,
        "norm": float(direction.direction.double().norm()),
        **{name: found.get(name) for name in names},
        **{name: found[name] for name in control if name in found},
        "warnings": found.get("warnings", []),
    }
