"""One self-contained HTML page: what it shows is JSON within it, and nothing is ever fetched."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from polyrefuse_leaderboard import table
from polyrefuse_leaderboard.model_rows import Row
from polyrefuse_leaderboard.page import charts as figures
from polyrefuse_leaderboard.published import Source
from polyrefuse_leaderboard.records import MEAN, Record
from polyrefuse_leaderboard.table import Subject, Table
from polyrefuse_leaderboard.warnings import Warned

from polyrefuse_shared.intervals import wilson
from polyrefuse_tasks.languages import NAMES

if TYPE_CHECKING:
    from jinja2 import Template


MOST = 100
"""Problems of a page, and notes, at most: thousands would be more than a page may have."""


@dataclass(frozen=True)
class Picture:
    """A picture of the page.

    Attributes:
        file: beside the page, as `figures/scatter.svg`.
        title: what it shows, for its caption and for those who cannot see it.
        svg: as a function of `figures` drew it; "" where the page only has a link to it.
    """

    file: str
    title: str
    svg: str


@dataclass(frozen=True)
class Link:
    """To another page of the leaderboard, or to a file beside it."""

    file: str
    text: str


def render_page(
    title: str,
    *,
    data: str,
    pictures: Sequence[Picture] = (),
    sources: Sequence[Source] = (),
    warnings: Sequence[Warned] = (),
    problems: Sequence[str] = (),
    notes: Sequence[str] = (),
    files: Sequence[Link] = (),
    pages: Sequence[Link] = (),
) -> str:
    """The page's HTML.

    Args:
        title: its heading.
        data: of its tables, as `embed` made it.
        pictures: in order.
        sources: where the numbers come from.
        warnings: what its rates must not be read without.
        problems: what was left out, and why.
        notes: what else is to be said of the reading.
        files: the same leaderboard in other forms.
        pages: the others of this leaderboard.
    """
    return _template().render(
        title=title,
        style=_read("style.css"),
        library=_read("vendor/dataTables.min.js"),
        script=_read("script.js"),
        hashes=[_hash(_read(name)) for name in ("vendor/dataTables.min.js", "script.js")],
        data=data,
        formula=table.FORMULA,
        reading=table.READING,
        metrics=table.HEADINGS,
        conditions=table.CONDITIONS,
        pictures=[
            (picture, figures.inline(picture.svg, f"p{number}") if picture.svg else "")
            for number, picture in enumerate(pictures)
        ],
        sources=sources,
        attack=table.ATTACK,
        warnings=_by_heading(warnings[:MOST]),
        unwarned=max(0, len(warnings) - MOST),
        problems=problems[:MOST],
        notes=notes[:MOST],
        unsaid=max(0, len(problems) - MOST) + max(0, len(notes) - MOST),
        files=files,
        pages=pages,
        palette=figures.palette(),
    )


def _by_heading(warnings: Iterable[Warned]) -> dict[str, list[str]]:
    """What stands below each heading, in the order of the first of its warnings."""
    found: dict[str, list[str]] = {}
    for one in warnings:
        found.setdefault(one.heading, []).append(one.below)
    return found


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
    """By which the page's policy knows a script as its own, and runs no other."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def embed(
    found: Sequence[Table],
    rows: Sequence[Row],
    names: dict[Subject, tuple[str, str]],
    page_of: dict[str, str],
    warnings: Sequence[Warned] = (),
) -> str:
    """The JSON of a page's tables, which nothing in a name can break out of.

    Args:
        found: the tables whose rates it shows; none where it is the index of other pages.
        rows: of its table of models.
        names: what each subject of both is called, as model and condition.
        page_of: model -> the file of the page with its rates, where that is another page.
        warnings: what the rates must not be read without.
    """
    document = _data(found, rows, names, page_of, warnings)
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # Where the script element would end, or a comment open.
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


class _Texts:
    """Texts by number, since most of them are said many times."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers))


def _data(
    found: Sequence[Table],
    rows: Sequence[Row],
    names: dict[Subject, tuple[str, str]],
    page_of: dict[str, str],
    warnings: Sequence[Warned],
) -> dict[str, Any]:
    """What script.js shows; the shapes of its parts are said there."""
    texts = _Texts()
    overlap = table.overlaps(rows)
    warned = table.by_model(warnings)
    subjects: dict[Subject, int] = {}

    def of(about: Subject) -> int:
        return subjects.setdefault(about, len(subjects))

    languages = table.languages_of(language for one in found for language in one.languages)
    rates = [
        {
            "metric": one.metric,
            "dataset": one.dataset,
            "judge": one.judge,
            "rows": [
                [of(about), *_cells(row, languages, texts)] for about, row in one.rows.items()
            ],
        }
        for one in found
    ]
    models = [
        [
            of(table.subject(row)),
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
        ]
        for row in rows
    ]
    return {
        "mean": MEAN,
        "languages": languages,
        "names": NAMES,
        "metrics": table.HEADINGS,
        "conditions": sorted(
            {about.condition for about in subjects},
            key=lambda name: (table.place(name, table.CONDITIONS), name),
        ),
        "subjects": [
            [
                *names[about],
                about.condition,
                about.revision,
                about.intervention,
                about.generation,
                page_of.get(about.model, ""),
                list(overlap.get(replace(about, generation=""), {}).items()),
            ]
            for about in subjects
        ],
        "rates": rates,
        "models": models,
        "warnings": [
            [number, [texts.number(name) for name in one.datasets], texts.number(one.text)]
            for about, number in subjects.items()
            for one in table.warned(warned, about)
        ],
        "texts": list(texts.numbers),
    }


def _cells(
    row: dict[str, Record], languages: Iterable[str], texts: _Texts
) -> tuple[int, list[int], list[Any]]:
    """What the cells of a row have in common, n and runs, and the cells."""
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
    low, high = _wilson(hits, record.n)
    if (
        abs(hits / record.n - record.value) > 1e-9
        or abs(low - record.low) > 1e-9
        or abs(high - record.high) > 1e-9
    ):
        return _whole(record)
    return hits if record.n == n else [hits, record.n]


@cache
def _wilson(hits: int, n: int) -> tuple[float, float]:
    return wilson(hits, n)


def _whole(record: Record) -> list[Any]:
    value, low, high = (_rounded(share) for share in (record.value, record.low, record.high))
    return [value, low, high, record.n]


def _rounded(share: float | None) -> float | None:
    """With the fewest decimals, from four on, that are shown as the share itself is."""
    if share is None:
        return None
    return next(
        short
        for short in (round(share, digits) for digits in range(4, 20))
        if all(f"{100 * short:.{shown}f}" == f"{100 * share:.{shown}f}" for shown in (1, 2))
    )
