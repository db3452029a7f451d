"""What the rates of a card must not be read without."""

from __future__ import annotations

from collections.abc import Sequence

from polyrefuse_leaderboard.card.parts import Section, join
from polyrefuse_leaderboard.card.subjects import Measured, date_of
from polyrefuse_leaderboard.transfers import Transfer
from polyrefuse_leaderboard.warnings import RateWarning


def section(
    measured: Measured, warnings: Sequence[RateWarning], transfers: Sequence[Transfer]
) -> Section:
    """The warnings of a model's rates, each once, with the conditions and data sets that it is of.

    Args:
        measured: of the model.
        warnings: of all rates of the leaderboard.
        transfers: of the model; they have warnings of their own.
    """
    about: dict[str, dict[str, dict[str, None]]] = {}
    for one in warnings:
        for run in one.runs:
            name = measured.names.get(date_of(run))
            if name is not None:
                about.setdefault(one.text, {}).setdefault(name, {}).update(
                    dict.fromkeys(one.datasets)
                )
    items = []
    for text, conditions in about.items():
        sets = dict.fromkeys(name for names in conditions.values() for name in names)
        where = "; ".join(filter(None, (join([*conditions]), join([*sets]))))
        items.append(f"{where}: {text}")
    items += [f"transfer matrix: {text}" for one in transfers for text in one.warnings]
    return Section("Warnings", items=tuple(items))
