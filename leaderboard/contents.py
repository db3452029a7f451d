"""What a leaderboard shows, before it is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from polyrefuse_leaderboard.card.parts import Card
from polyrefuse_leaderboard.model_rows import Row
from polyrefuse_leaderboard.published import Source
from polyrefuse_leaderboard.records import Record
from polyrefuse_leaderboard.transfers import Transfer
from polyrefuse_leaderboard.warnings import RateWarning


@dataclass(frozen=True)
class Contents:
    """Everything that the pages, tables and pictures of one leaderboard show.

    Attributes:
        title: heading of the pages.
        records: with their means.
        rows: of the table of models, in any order.
        transfers: of which there are pictures.
        sources: where the numbers come from.
        warnings: what the rates must not be read without.
        problems: what was left out, and why.
        notes: what else a reader should know of how the results were read.
        cards: of the models of a study.
        samples: answers, for a file beside the pages; None where there is to be none.
    """

    title: str
    records: Sequence[Record]
    rows: Sequence[Row]
    transfers: Sequence[Transfer] = ()
    sources: Sequence[Source] = ()
    warnings: Sequence[RateWarning] = ()
    problems: Sequence[str] = ()
    notes: Sequence[str] = ()
    cards: Sequence[Card] = ()
    samples: Iterable[dict[str, Any]] | None = None
