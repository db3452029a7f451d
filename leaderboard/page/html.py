"""One self-contained HTML page: what it shows is JSON within it, and nothing is ever fetched."""

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
from polyrefuse_leaderboard.warnings import RateWarning

from polyrefuse_shared.colours import heat_colours
from polyrefuse_shared.intervals import wilson
from polyrefuse_tasks.languages import NAMES

if TYPE_CHECKING:
    from jinja2 import Template


MOST = 100
"""Problems of a page, and notes, at most: thousands would be more than a page may have."""


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
    """The page's HTML.

    Args:
        title: its heading.
        data: of its tables, as `embed` made it.
        pictures: in order.
        sources: where the numbers come from.
        warnings: what its rates must not be read without.
        problems: what was left out, and why.
        notes: what else a reader should know of how the results were read.
        files: the same leaderboard in other forms.
        pages: the others of this leaderboard.
        cards: safety cards of its models.
        contrasts: the cells of the table of contrast sets, as `contrast_cells` makes them.
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
        warnings=_by_heading(warnings[:MOST]),
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
    """A line of the table of contrast sets for each record of discrimination, without means."""
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


def _by_heading(warnings: Iterable[RateWarning]) -> dict[str, list[str]]:
    """Heading -> the warnings below it; headings stand in the order of their first warnings."""
    headings: dict[str, list[str]] = {}
    for warning in warnings:
        headings.setdefault(warning.heading, []).append(warning.below)
    return headings


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
    """The hash by which the page's Content-Security-Policy allows a script; it allows no other."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def embed(
    tables: Sequence[Table],
    rows: Sequence[Row],
    names: dict[Subject, tuple[str, str]],
    page_of: dict[str, str],
    warnings: Sequence[RateWarning] = (),
) -> str:
    """The JSON of a page's tables, which nothing in a name can break out of.

    Args:
        tables: those whose rates it shows; none where it is the index of other pages.
        rows: of its table of models.
        names: what each subject of both is called, as model and condition.
        page_of: model -> the file of the page with its rates, where that is another page.
        warnings: what the rates must not be read without.
    """
    document = _data(tables, rows, names, page_of, warnings)
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # Where the script element would end, or a comment open.
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


class _Texts:
    """Texts by number, since most of them stand in a page many times."""

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
    """The data that script.js shows; the comment at its top has the shape of each part."""
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
    """A row's n and runs, which most of its cells have in common, and the cells."""
    first = next(iter(row.values()))
    runs = sorted({texts.number(record.run) for record in row.values()})
    return (
        first.n,
        runs,
        [_cell(row[language], first.n) if language in row else None for language in languages],
    )


def _cell(record: Record, n: int) -> Any:
    """Hits where the interval is Wilson's, which the script knows; with n where it is another."""
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
"""Many cells of a page are the same count out of the same number of prompts."""


def _whole(record: Record) -> list[Any]:
    value, low, high = (_rounded(share) for share in (record.value, record.low, record.high))
    return [value, low, high, record.n]


def _rounded(share: float | None) -> float | None:
    """With the fewest decimals, from four on, that are shown as the share itself is."""
    if share is None:
        return None
    return next(
        short
        for short in (round(share, decimals) for decimals in range(4, 20))
        if all(f"{100 * short:.{places}f}" == f"{100 * share:.{places}f}" for places in (1, 2))
    )
