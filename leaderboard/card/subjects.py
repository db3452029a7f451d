"""Find the runs of one model of a study, and the study's name for each condition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from polyrefuse_leaderboard.card.study import StudyJob, StudySummary
from polyrefuse_leaderboard.model_rows import Row
from polyrefuse_leaderboard.reading.runs import Reading, Run
from polyrefuse_leaderboard.records import SAFETY, Record
from polyrefuse_leaderboard.table import CONDITIONS, position_in


@dataclass(frozen=True)
class Measured:
    """What was measured of a model.

    Attributes:
        model: the study's name for it.
        runs: its results files.
        records: their rates.
        rows: its rows of the table of models.
        names: date of a results file -> the study's name for its condition.
    """

    model: str
    runs: Sequence[Run]
    records: Sequence[Record]
    rows: Sequence[Row]
    names: dict[str, str]

    @property
    def safety(self) -> list[Record]:
        """The rates of this package's tasks."""
        return [record for record in self.records if record.kind == SAFETY]

    def has(self, job: StudyJob) -> bool:
        """Return whether a job has results."""
        return not {date_of(run.run) for run in self.runs}.isdisjoint(job.dates())

    def column(self, of: Record | Row) -> str:
        """Return a card's name for the condition of a rate."""
        name = self.names.get(date_of(of.run), of.condition)
        return name if name == of.condition else f"{name} ({of.condition})"

    def columns(self, records: Iterable[Record]) -> list[str]:
        """Return the conditions of some rates, in the order of tables."""
        order = {self.column(one): position_in(one.condition, CONDITIONS) for one in records}
        return sorted(order, key=lambda name: (order[name], name))


def measured(
    study: StudySummary,
    model: str,
    reading: Reading,
    records: Sequence[Record],
    rows: Sequence[Row],
) -> Measured:
    """Collect what a study measured of one of its models.

    Args:
        study: the study.
        model: the study's name for the model.
        reading: all results.
        records: the records made from the results.
        rows: the rows made from the records.
    """
    names = {
        date: job.condition
        for job in study.of(model, "answers", "capability")
        for date in job.dates()
    }
    return Measured(
        model=model,
        runs=[run for run in reading.runs if date_of(run.run) in names],
        records=[record for record in records if date_of(record.run) in names],
        rows=[row for row in rows if date_of(row.run) in names],
        names=names,
    )


def date_of(run: str) -> str:
    """Return the date of a run, whose name is that of its folder and its date."""
    return run.rpartition("/")[2]
