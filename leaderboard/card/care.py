"""List the warnings that belong to the rates of a card."""

from __future__ import annotations

from collections.abc import Sequence

from polyrefuse_leaderboard.card.parts import Section, join
from polyrefuse_leaderboard.card.subjects import Measured, date_of
from polyrefuse_leaderboard.transfers import Transfer
from polyrefuse_leaderboard.warnings import RateWarning


def section(
    measured: Measured, warnings: Sequence[RateWarning], transfers: Sequence[Transfer]
) -> Section:
    """List each warning of a model's rates once, with its conditions and datasets.

    Args:
        measured: what was measured of the model.
        warnings: the warnings of the whole leaderboard.
        transfers: the transfer reports of the model, which have warnings of their own.
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
