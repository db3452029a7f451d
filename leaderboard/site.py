"""The folder that `build` and `published` write: pages, tables, pictures, all or none."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from leaderboard import figures, table
from leaderboard.files import CannotWrite
from leaderboard.models import ATTACKS, Row
from leaderboard.page.page import Link, Picture, embed, render_page
from leaderboard.published import Source
from leaderboard.records import MEAN, Record, to_csv, to_json
from leaderboard.table import Table
from leaderboard.transfers import Transfer

PAGE = 200
"""Models on a page, at most."""

LIMIT = 2_000_000
"""Bytes of a page, at most; where so many models would need more, a page has fewer."""

PANELS = 4
"""Models in one picture of bars, at most."""

PICTURES = 4
"""Data sets and judges with a picture of a kind, at most; one where there are several pages."""

ROOM = 350_000
"""Bytes of a page that are neither its data nor its models' pictures: the library, notes, links."""

MARK = "leaderboard.json"
"""The file by which a folder is known as one of ours."""

SAMPLES = "samples.jsonl"

_OURS = re.compile(
    r"leaderboard\.(json|csv|md|tex)|index\.html|page-\d+\.html|figures|samples\.jsonl"
)


@dataclass(frozen=True)
class Leaderboard:
    """What is to be shown.

    Attributes:
        title: heading of the pages.
        records: with their means.
        rows: of the table of models.
        transfers: of which there are pictures.
        sources: where the numbers come from.
        problems: what was left out, and why.
        notes: what else is to be said.
        samples: answers, for a file beside the pages; None where there is to be none.
    """

    title: str
    records: Sequence[Record]
    rows: Sequence[Row]
    transfers: Sequence[Transfer] = ()
    sources: Sequence[Source] = ()
    problems: Sequence[str] = ()
    notes: Sequence[str] = ()
    samples: Iterable[dict[str, Any]] | None = None


def require_writable(folder: Path) -> None:
    """Refuse a folder with something else in it than a leaderboard.

    Raises:
        CannotWrite: it is no folder, or neither empty nor one of ours.
    """
    if folder.is_dir():
        if any(folder.iterdir()) and not (folder / MARK).is_file():
            raise CannotWrite(
                f"{folder} has other things in it than a leaderboard; name a new folder, or an "
                "empty one."
            )
    elif folder.is_symlink() or folder.exists():
        raise CannotWrite(f"{folder} is not a folder; name another.")


def write_site(folder: Path, shown: Leaderboard) -> list[str]:
    """Write a leaderboard into a folder; an older one there is replaced, and other files are kept.

    Returns:
        The files, relative to the folder, sorted.

    Raises:
        CannotWrite: as `require_writable`, or the disk refuses.
    """
    require_writable(folder)
    folder = folder.resolve()
    draft, old = (
        folder.with_name(f".{folder.name}.{os.getpid()}.{part}") for part in ("new", "old")
    )
    try:
        draft.mkdir(parents=True)
        _write(draft, shown)
        files = sorted(
            file.relative_to(draft).as_posix() for file in draft.rglob("*") if file.is_file()
        )
        if folder.exists():
            os.replace(folder, old)
        os.replace(draft, folder)
        if old.exists():
            for kept in old.iterdir():
                if not _OURS.fullmatch(kept.name):
                    os.replace(kept, folder / kept.name)
            shutil.rmtree(old)
    except OSError as error:
        raise CannotWrite(
            f"{folder} cannot be written ({error.strerror or error}); name another or make room."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return files


def _write(draft: Path, shown: Leaderboard) -> None:
    found = table.tables(shown.records)
    said = [*shown.problems, *shown.notes]
    texts = {
        MARK: lambda: to_json(shown.records),
        "leaderboard.csv": lambda: to_csv(shown.records),
        "leaderboard.md": lambda: table.to_markdown(
            shown.title, found, shown.rows, sources=shown.sources, said=said
        ),
        "leaderboard.tex": lambda: table.to_latex(found),
    }
    for name, text in texts.items():
        # The CSV has line ends of its own.
        (draft / name).write_text(text(), encoding="utf-8", newline="")
    links = [Link(MARK, "JSON"), Link("leaderboard.csv", "CSV"), Link("leaderboard.md", "Markdown")]
    links.append(Link("leaderboard.tex", "LaTeX"))
    if shown.samples is not None:
        with open(draft / SAMPLES, "w", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n" for row in shown.samples)
    _Pages(draft, shown, found, links).write()


@dataclass(frozen=True)
class _Part:
    """What a page shows: its models, the data of its tables, its pictures."""

    models: list[str]
    data: str
    pictures: list[Picture]


@dataclass
class _Pages:
    """The HTML of a leaderboard: one page, or an index and the pages of its models."""

    draft: Path
    shown: Leaderboard
    found: list[Table]
    links: list[Link]

    def __post_init__(self) -> None:
        self.names = table.names_of(table.together(self.found, self.shown.rows))
        self.rows = sorted(self.shown.rows, key=lambda row: table.order(table.subject(row)))
        self.models = sorted(
            {about.model for one in self.found for about in one.rows},
            key=lambda name: (name.casefold(), name),
        )

    def write(self) -> None:
        parts = list(self._parts())
        if len(parts) == 1:
            self._save("index.html", parts[0], extra=self._matrices())
            return
        pages = [
            Link(f"page-{number}.html", f"{part.models[0]} to {part.models[-1]}")
            for number, part in enumerate(parts, 1)
        ]
        for link, part in zip(pages, parts, strict=True):
            self._save(link.file, part, [Link("index.html", "All models"), *pages])
        page_of = {
            model: link.file
            for link, part in zip(pages, parts, strict=True)
            for model in part.models
        }
        data = embed((), self.rows, self.names, page_of)
        pictures = self._scatters(self.rows, 1)
        if len(data.encode()) > LIMIT - ROOM:
            # So many models that their table is left to their pages.
            data = embed((), (), self.names, {})
        self._save("index.html", _Part(self.models, data, pictures), pages, self._matrices())

    def _parts(self) -> Iterator[_Part]:
        """Models by page: so many that the page stays below the limit."""
        if len(self.models) <= PAGE:
            whole = self._part(self.models, PICTURES)
            if self._fits(whole):
                yield whole
                return
        todo = [self.models[start : start + PAGE] for start in range(0, len(self.models), PAGE)]
        while todo:
            models = todo.pop(0)
            part = self._part(models, 1)
            if self._fits(part) or len(models) == 1:
                yield part
            else:
                todo[:0] = _halves(models)

    def _part(self, models: list[str], most: int) -> _Part:
        found, rows = self._of(models)
        pictures = [*self._scatters(rows, most), *self._bars(found, most)]
        return _Part(models, embed(found, rows, self.names, {}), pictures)

    def _fits(self, part: _Part) -> bool:
        pictures = sum(len(picture.svg.encode()) for picture in part.pictures)
        return len(part.data.encode()) + pictures <= LIMIT - ROOM

    def _of(self, models: Sequence[str]) -> tuple[list[Table], list[Row]]:
        chosen = set(models)
        parts = (
            replace(
                one, rows={about: row for about, row in one.rows.items() if about.model in chosen}
            )
            for one in self.found
        )
        return (
            [part for part in parts if part.rows],
            [row for row in self.rows if row.model in chosen],
        )

    def _save(
        self,
        file: str,
        part: _Part,
        pages: Sequence[Link] = (),
        extra: Sequence[Picture] = (),
    ) -> None:
        prefix = "" if file == "index.html" else f"{file.removesuffix('.html')}-"
        pictures = [
            replace(picture, file=f"figures/{prefix}{picture.file}")
            for picture in (*part.pictures, *extra)
        ]
        for picture in pictures:
            path = self.draft / picture.file
            path.parent.mkdir(exist_ok=True)
            path.write_text(picture.svg, encoding="utf-8")
        page = render_page(
            self.shown.title,
            data=part.data,
            pictures=pictures,
            sources=self.shown.sources,
            problems=self.shown.problems,
            notes=self.shown.notes,
            files=self.links,
            pages=pages,
        )
        (self.draft / file).write_text(page, encoding="utf-8")

    def _scatters(self, rows: Sequence[Row], most: int) -> list[Picture]:
        """Safety against usefulness, by data set and judge."""
        made = []
        for number, (dataset, judge, group) in enumerate(_balanced(rows)[:most], 1):
            names = [", ".join(self.names[table.subject(row)]) for row in group]
            title = (
                f"Safety against usefulness: {dataset} and the harmless prompts that go with it, "
                f"judge {judge}"
            )
            svg = figures.scatter_svg(group, names)
            made.append(Picture(f"scatter-{number}.svg", title, svg))
        return made

    def _bars(self, found: Sequence[Table], most: int) -> list[Picture]:
        """Baseline and ablation by language, a picture a metric, data set and judge."""
        made: list[Picture] = []
        for one in found:
            panels = self._panels(one) if one.metric in ATTACKS else []
            if not panels or len(made) == most:
                continue
            title = (
                f"{table.title(one.metric)} by language, baseline against the direction ablated: "
                f"{one.dataset}, judge {one.judge}"
            )
            if len(panels) > PANELS:
                title += f"; the {PANELS} of {len(panels)} models where it rises most"
            svg = figures.bars_svg(panels[:PANELS])
            made.append(Picture(f"bars-{len(made) + 1}.svg", title, svg))
        return made

    def _panels(self, one: Table) -> list[tuple[str, dict[str, Record], dict[str, Record]]]:
        """Every model with a baseline and an ablated run; those that rise most are first."""
        baselines = {
            (about.model, about.revision, about.generation): row
            for about, row in one.rows.items()
            if about.condition == "baseline"
        }
        panels = []
        for about, row in one.rows.items():
            baseline = baselines.get((about.model, about.revision, about.generation))
            if about.condition == "ablation" and baseline:
                rise = row[MEAN].value - baseline[MEAN].value
                model, shown = self.names[about]
                title = model if shown == about.condition else f"{model}, {shown}"
                panels.append((-rise, title, baseline, row))
        panels.sort(key=lambda panel: panel[:2])
        return [(title, _apart(baseline), _apart(row)) for _, title, baseline, row in panels]

    def _matrices(self) -> list[Picture]:
        made = []
        for number, told in enumerate(self.shown.transfers, 1):
            said = f"{told.model}, {told.dataset}, judge {told.judge}"
            made += [
                Picture(
                    f"transfer-{number}.svg",
                    "Attack success in percent, by the language that the ablated direction is from "
                    f"and that of the prompts: {said}",
                    figures.transfer_svg(told),
                ),
                Picture(
                    f"cosine-{number}.svg",
                    f"Cosine between the languages' directions at position {told.position}, layer "
                    f"{told.layer}: {told.model}",
                    figures.cosine_svg(told),
                ),
            ]
        return made


def _halves(models: list[str]) -> list[list[str]]:
    middle = len(models) // 2
    return [models[:middle], models[middle:]]


def _balanced(rows: Iterable[Row]) -> list[tuple[str, str, list[Row]]]:
    """Rows that have both rates, by data set and judge."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.balanced is not None:
            found.setdefault((row.dataset, row.judge), []).append(row)
    return [(dataset, judge, group) for (dataset, judge), group in sorted(found.items())]


def _apart(row: dict[str, Record]) -> dict[str, Record]:
    return {language: record for language, record in row.items() if language != MEAN}
