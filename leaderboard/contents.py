"""The contents of a leaderboard before it is written."""

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
        title: the heading of the pages.
        records: the records and their means over languages.
        rows: the rows of the table of models, in any order.
        transfers: the transfer reports, which become pictures.
        sources: where the numbers come from.
        warnings: the warnings of the rates.
        problems: sentences about what was left out, and why.
        notes: sentences about how the results were read.
        cards: the safety cards of a study.
        samples: the answers for a file beside the pages; None if there is no such file.
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
