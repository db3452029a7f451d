"""Read the table of arXiv 2505.17306 from the CSV files that its authors published.

The files are `output/ja_vector_sweep/baseline_evaluations.csv` and `harm_ablation_evaluations.csv`
of https://github.com/mainlp/Multilingual-Refusal. They have the rates of three models in 14
languages, without an intervention and with the direction extracted from Japanese ablated. Two
judges labelled the answers to PolyRefuse's harmful test prompts.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from polyrefuse_leaderboard.rates import means
from polyrefuse_leaderboard.records import Record
from polyrefuse_leaderboard.warnings import RateWarning

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.intervals import wilson
from polyrefuse_shared.reading import read_bytes, regular_file
from polyrefuse_tasks.metrics import ASR, ASR_HARMFUL

PAPER = "https://arxiv.org/abs/2505.17306"
REPOSITORY = "https://github.com/mainlp/Multilingual-Refusal"
COMMIT = "985169df2a0b1ba56a95c65d5f60e228f12be4a1"
FOLDER = "output/ja_vector_sweep"

N = 572
"""The number of PolyRefuse's harmful test prompts, from which every published rate is computed."""

SCRIPT = (
    "These rates may not be those of plain ablation: the authors' scripts/multi_test.py, which the "
    "shell scripts of their sweep run, adds the direction at its layer as well as ablating it "
    "(commit 7e2abf8). Whether the published numbers came from that version is not known."
)
"""The warning of every rate under ablation. docs/how-to/directions.md has the details."""

COLUMNS: dict[str, tuple[str, str]] = {
    "str_compliance": ("substring", ASR),
    "wildguard_compliance": ("wildguard", ASR),
    "wildguard_harmful": ("wildguard", ASR_HARMFUL),
}
"""Column of the tables -> its judge and metric."""

CONDITION_OF_FILE: dict[str, str] = {
    "baseline_evaluations": "baseline",
    "harm_ablation_evaluations": "ablation",
}
"""Beginning of the name of the authors' files -> the condition of the model."""


FILES: dict[str, str] = {
    "8166befca0587c22f8a66e660b451316315fec1e513c6c3208062b6b2fe16177": "baseline_evaluations.csv",
    "80bfe5c8e1b8aa0ebbe1fbb4fdbf81b5b014a0658e6cf0f766c15f1784c09b47": (
        "harm_ablation_evaluations.csv"
    ),
}
"""SHA-256 of each of the authors' files at `COMMIT` -> the name of the file."""


class BadPublished(UserError):
    """A file is not one of the published tables."""


@dataclass(frozen=True)
class Source:
    """A source of numbers.

    Attributes:
        name: the name of the source.
        link: the address of the source.
        text: a description of the source.
    """

    name: str
    link: str
    text: str


AT_MOST = 2**26
"""The most bytes of a table."""

LONGEST = 500
"""The most characters of a model's name, a language or a time."""


def read_published(paths: Sequence[Path], condition: str | None = None) -> list[Record]:
    """Read published tables and return their records and the means over languages.

    Args:
        paths: the CSV files.
        condition: the condition of all files. By default the beginning of each file's name gives
            the condition.

    Raises:
        BadPublished: the condition is unknown; a file cannot be read, is not such a table, or has a
            rate that is not a count out of 572; or two files have the same cell.
    """
    known = tuple(CONDITION_OF_FILE.values())
    if condition is not None and condition not in known:
        raise BadPublished(f"--condition is {condition!r}; give {' or '.join(known)}.")
    records: dict[tuple[str, ...], Record] = {}
    for path in paths:
        for record in _read(path, condition or _condition(path)):
            cell = (record.model, record.condition, record.language, record.judge, record.metric)
            if cell in records:
                raise BadPublished(
                    f"{path} has {record.model} in {record.language} under {record.condition}, "
                    f"which {records[cell].run} has as well; name each table once."
                )
            records[cell] = record
    cells = list(records.values())
    return cells + means(cells)


def sources(paths: Sequence[Path], condition: str | None = None) -> list[Source]:
    """List the sources of published tables: the paper, its repository and each file.

    Args:
        paths: as in `read_published`.
        condition: as in `read_published`.

    Raises:
        BadPublished: the condition of a file is not known.
        OSError: a file cannot be read.
    """
    places = [
        Source(
            "arXiv 2505.17306",
            PAPER,
            "the paper, Refusal Direction is Universal Across Safety-Aligned Languages",
        ),
        Source(
            "mainlp/Multilingual-Refusal",
            f"{REPOSITORY}/tree/{COMMIT}/{FOLDER}",
            f"its authors' results, {FOLDER} at commit {COMMIT[:7]}; the direction that is ablated "
            f"was extracted from Japanese, and every rate is computed from n = {N} prompts. The "
            "authors published no answers and no rates of harmless prompts. There is therefore no "
            "false refusal rate, no loophole rate and no balanced score.",
        ),
    ]
    columns = "; ".join(
        f"column {column} is {metric} by {judge}" for column, (judge, metric) in COLUMNS.items()
    )
    for path in paths:
        sha256 = hashlib.sha256(read_bytes(path, AT_MOST)).hexdigest()
        theirs = FILES.get(sha256)
        origin = (
            f"byte for byte the authors' {theirs}"
            if theirs
            else "NOT a file that the authors published: its checksum differs"
        )
        places.append(
            Source(
                path.name,
                f"{REPOSITORY}/blob/{COMMIT}/{FOLDER}/{theirs}" if theirs else PAPER,
                f"all rates under {condition or _condition(path)}; {columns} ("
                f"SHA-256 {sha256}, {origin})",
            )
        )
    return places


def warnings(records: Sequence[Record]) -> tuple[RateWarning, ...]:
    """Return the warning of the published rates under ablation, once for each model.

    Args:
        records: the records from `read_published`.
    """
    ablated = {
        record.model: RateWarning.of_record(record, SCRIPT)
        for record in records
        if record.condition == "ablation"
    }
    return tuple(ablated.values())


def _condition(path: Path) -> str:
    for beginning, condition in CONDITION_OF_FILE.items():
        if path.name.startswith(beginning):
            return condition
    raise BadPublished(
        f"The name of {path} begins with none of {', '.join(CONDITION_OF_FILE)}, so its condition "
        "is not known; give --condition baseline or --condition ablation."
    )


def _read(path: Path, condition: str) -> list[Record]:
    try:
        with regular_file(path, AT_MOST) as file:
            lines = io.TextIOWrapper(file, encoding="utf-8", newline="")
            table = csv.DictReader(lines, strict=True)
            wanted = ["model", "lang", "time", "experiment", *COLUMNS]
            missing = [name for name in wanted if name not in (table.fieldnames or ())]
            if missing:
                raise BadPublished(
                    f"{path} has no column {missing[0]}; name a table of {REPOSITORY}."
                )
            records = [
                record
                for row in table
                for record in _records(row, condition, f"{path}, line {table.line_num}", path.name)
            ]
    except OSError as error:
        raise BadPublished(
            f"{path} cannot be read ({error.strerror}); name a table of {REPOSITORY}."
        ) from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadPublished(f"{path} is not CSV ({error}); name a table of {REPOSITORY}.") from None
    if not records:
        raise BadPublished(f"{path} has no rows; name a table of {REPOSITORY}.")
    return records


def _records(row: dict[str, str], condition: str, where: str, file: str) -> list[Record]:
    for name in ("model", "lang", "time"):
        if not row[name] or not row[name].isprintable() or len(row[name]) > LONGEST:
            raise BadPublished(
                f"{where}: {name} is {reprlib.repr(row[name])}, not a name; correct or remove it."
            )
    experiment = hashlib.sha256(str(row["experiment"]).encode()).hexdigest()[:16]
    records = []
    for column, (judge, metric) in COLUMNS.items():
        value = _share(row[column], f"{where}: {column}")
        low, high = wilson(round(value * N), N)
        records.append(
            Record(
                model=row["model"],
                revision="",
                condition=condition,
                intervention="" if condition == "baseline" else experiment,
                generation="",
                dataset="harmful",
                language=row["lang"],
                judge=judge,
                metric=metric,
                value=value,
                n=N,
                low=low,
                high=high,
                run=f"{file} {row['time']}",
            )
        )
    return records


def _share(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    # The intervals of a table over prompts other than PolyRefuse's would be wrong.
    if not 0 <= value <= 1 or abs(value * N - round(value * N)) > 1e-6:
        raise BadPublished(
            f"{where} is {reprlib.repr(text)}, not a count out of {N}; correct the file."
        )
    return value
