"""Render one self-contained HTML page, which holds its data as JSON and fetches nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from polyrefuse_leaderboard.contrasts import discriminations
from polyrefuse_leaderboard.model_rows import Row
from polyrefuse_leaderboard.page import charts
from polyrefuse_leaderboard.picture import Picture
from polyrefuse_leaderboard.published import Source
from polyrefuse_leaderboard.records import MEAN, Record
from polyrefuse_leaderboard.table import (
    ABOUT_ASR,
    ABOUT_HARM,
    ABOUT_RATES,
    CONDITIONS,
    FORMULA,
    HEADINGS,
    Subject,
    Table,
    capability_columns,
    collect_overlaps,
    describe_controls,
    describe_difference,
    describe_undecided,
    describe_value,
    group_warnings,
    languages_of,
    overlap_of,
    percent,
    position_in,
    subject_of,
    warnings_of,
)
from polyrefuse_leaderboard.warnings import RateWarning, by_text

from polyrefuse_shared.colours import heat_colours
from polyrefuse_shared.intervals import wilson
from polyrefuse_tasks.languages import NAMES

if TYPE_CHECKING:
    from jinja2 import Template


MOST = 100
"""The most problems, and the most notes, warnings and contrast sets, that a page lists."""


@dataclass(frozen=True)
class Link:
    """A link to another page of the leaderboard, or to a file beside it."""

    file: str
    text: str


def render_page(
    title: str,
    *,
    data: str,
    pictures: Sequence[Picture] = (),
    sources: Sequence[Source] = (),
    warnings: Sequence[RateWarning] = (),
    problems: Sequence[str] = (),
    notes: Sequence[str] = (),
    files: Sequence[Link] = (),
    pages: Sequence[Link] = (),
    cards: Sequence[Link] = (),
    contrasts: Sequence[Sequence[str]] = (),
) -> str:
    """Return the HTML of the page.

    Args:
        title: the heading of the page.
        data: the data of its tables, as `embed` returns them.
        pictures: the pictures, in order.
        sources: the sources of the numbers.
        warnings: the warnings of the rates.
        problems: sentences about what was left out, and why.
        notes: other sentences about how the results were read.
        files: links to the same leaderboard in other formats.
        pages: links to the other pages of this leaderboard.
        cards: links to the safety cards of its models.
        contrasts: the cells of the table of contrast sets, as `contrast_cells` returns them.
    """
    return _template().render(
        title=title,
        style=_read("style.css"),
        library=_read("vendor/dataTables.min.js"),
        script=_read("script.js"),
        hashes=[_hash(_read(name)) for name in ("vendor/dataTables.min.js", "script.js")],
        data=data,
        formula=FORMULA,
        reading=ABOUT_RATES,
        metrics=HEADINGS,
        conditions=CONDITIONS,
        pictures=[
            (picture, charts.inline(picture.svg, f"p{number}") if picture.svg else "")
            for number, picture in enumerate(pictures)
        ],
        sources=sources,
        attack=ABOUT_ASR,
        harm=ABOUT_HARM,
        warnings=by_text(warnings[:MOST]),
        more_warnings=max(0, len(warnings) - MOST),
        problems=problems[:MOST],
        notes=notes[:MOST],
        more_sentences=max(0, len(problems) - MOST) + max(0, len(notes) - MOST),
        files=files,
        pages=pages,
        cards=cards,
        contrasts=contrasts[:MOST],
        more_contrasts=max(0, len(contrasts) - MOST),
        palette=heat_colours(),
    )


def contrast_cells(
    records: Iterable[Record], names: dict[Subject, tuple[str, str]]
) -> list[tuple[str, ...]]:
    """Return a row of the table of contrast sets for each discrimination rate of a language.

    Args:
        records: the records. Those of other metrics and the means are left out.
        names: the model and the condition of each subject, as the page shows them.
    """
    return [
        (
            *names[subject_of(record)],
            record.dataset,
            record.judge,
            record.language,
            f"{percent(record.value)}% ({percent(record.low)} to {percent(record.high)}), "
            f"n = {record.n} pairs",
            describe_difference(record) or "-",
        )
        for record in discriminations(records)
    ]


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_read("template.html"))


@cache
def _read(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """Return the hash with which the page's Content-Security-Policy allows only this script."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def embed(
    tables: Sequence[Table],
    rows: Sequence[Row],
    names: dict[Subject, tuple[str, str]],
    page_of: dict[str, str],
    warnings: Sequence[RateWarning] = (),
) -> str:
    """Return the JSON of a page's tables, escaped so that no name can end the script element.

    Args:
        tables: the tables whose rates the page shows; empty for the index of other pages.
        rows: the rows of its table of models.
        names: the model and the condition of each subject, as the page shows them.
        page_of: model -> the file of the page with its rates, if that is another page.
        warnings: the warnings of the rates.
    """
    document = _data(tables, rows, names, page_of, warnings)
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A "<" could end the script element or open a comment.
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


class _Texts:
    """The texts of a page, each with a number, because most texts occur many times."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers))


def _data(
    tables: Sequence[Table],
    rows: Sequence[Row],
    names: dict[Subject, tuple[str, str]],
    page_of: dict[str, str],
    warnings: Sequence[RateWarning],
) -> dict[str, Any]:
    """Return the data that script.js shows. The comment at its top describes each part."""
    texts = _Texts()
    overlaps = collect_overlaps(rows)
    grouped_warnings = group_warnings(warnings)
    subjects: dict[Subject, int] = {}

    def number_of(subject: Subject) -> int:
        return subjects.setdefault(subject, len(subjects))

    languages = languages_of(language for table in tables for language in table.languages)
    rates = [
        {
            "metric": table.metric,
            "dataset": table.dataset,
            "judge": table.judge,
            "rows": [
                [number_of(subject), *_cells(row, languages, texts)]
                for subject, row in table.rows.items()
            ],
        }
        for table in tables
    ]
    tasks = capability_columns(rows)
    models = [
        [
            number_of(subject_of(row)),
            texts.number(row.dataset),
            texts.number(row.judge),
            *(
                None if record is None else _whole(record)
                for record in (
                    row.asr,
                    row.under.get("ablation"),
                    row.under.get("mcd"),
                    row.false_refusal,
                    row.degenerate,
                    row.undecided,
                    row.loophole,
                )
            ),
            _rounded(row.balanced),
            _rounded(row.language_gap),
            row.worst_language,
            describe_controls(row.controls) or None,
            [
                [judge, _whole(one.rate), describe_undecided(one)]
                for judge, one in row.harmful.items()
            ]
            or None,
            [
                None
                if (one := row.capability.get(task)) is None
                else [one.value, describe_value(one), describe_difference(one)]
                for task in tasks
            ],
        ]
        for row in rows
    ]
    return {
        "mean": MEAN,
        "languages": languages,
        "names": NAMES,
        "metrics": HEADINGS,
        "conditions": sorted(
            {subject.condition for subject in subjects},
            key=lambda name: (position_in(name, CONDITIONS), name),
        ),
        "subjects": [
            [
                *names[subject],
                subject.condition,
                subject.revision,
                subject.intervention,
                subject.generation,
                page_of.get(subject.model, ""),
                list(overlap_of(overlaps, subject).items()),
            ]
            for subject in subjects
        ],
        "rates": rates,
        "models": models,
        "tasks": [" ".join(task) for task in tasks],
        "warnings": [
            [number, [texts.number(name) for name in warning.datasets], texts.number(warning.text)]
            for subject, number in subjects.items()
            for warning in warnings_of(grouped_warnings, subject)
        ],
        "texts": list(texts.numbers),
    }


def _cells(
    row: dict[str, Record], languages: Iterable[str], texts: _Texts
) -> tuple[int, list[int], list[Any]]:
    """Return the n that most cells of a row share, the runs of the row, and its cells."""
    first = next(iter(row.values()))
    runs = sorted({texts.number(record.run) for record in row.values()})
    return (
        first.n,
        runs,
        [_cell(row[language], first.n) if language in row else None for language in languages],
    )


def _cell(record: Record, n: int) -> Any:
    """Return a cell in the shortest form that script.js can read.

    If the interval is Wilson's, which the script computes, the cell has the hits, and its n if it
    differs from the row's `n`. Otherwise it has the value, the interval and n.
    """
    hits = round(record.value * record.n)
    low, high = _wilson_of(hits, record.n)
    if (
        abs(hits / record.n - record.value) > 1e-9
        or abs(low - record.low) > 1e-9
        or abs(high - record.high) > 1e-9
    ):
        return _whole(record)
    return hits if record.n == n else [hits, record.n]


_wilson_of = cache(wilson)
"""`wilson` with a cache, because many cells of a page have the same count and the same n."""


def _whole(record: Record) -> list[Any]:
    value, low, high = (_rounded(share) for share in (record.value, record.low, record.high))
    return [value, low, high, record.n]


def _rounded(share: float | None) -> float | None:
    """Round a share to the fewest decimals, at least four, that do not change how it is shown."""
    if share is None:
        return None
    return next(
        short
        for short in (round(share, decimals) for decimals in range(4, 20))
        if all(f"{100 * short:.{places}f}" == f"{100 * share:.{places}f}" for places in (1, 2))
    )
