"""Distribute the models over pages: one page, or an index and pages of at most 200 models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from polyrefuse_leaderboard.contents import Contents
from polyrefuse_leaderboard.model_rows import Row
from polyrefuse_leaderboard.our_files import CARDS
from polyrefuse_leaderboard.page import gallery
from polyrefuse_leaderboard.page.html import Link, contrast_cells, embed, render_page
from polyrefuse_leaderboard.picture import Picture, save
from polyrefuse_leaderboard.table import Table, name_subjects, subject_groups

PAGE = 200
"""The most models on a page."""

LIMIT = 2_000_000
"""The most bytes of a page. If a page would be larger, it gets fewer models."""

ROOM = 350_000
"""The bytes that a page needs besides its data and pictures: the library, notes and links."""

PICTURES = 4
"""The most pictures of each kind on a page, each for one dataset and judge. If there are several
pages, each has one picture of a kind."""


def write_pages(
    folder: Path, contents: Contents, tables: Sequence[Table], links: Sequence[Link]
) -> None:
    """Write `index.html`, further pages beside it if there are any, and their pictures.

    Args:
        folder: the folder of the pages.
        contents: the contents of the pages.
        tables: the tables of the contents.
        links: links to the same leaderboard in other formats.
    """
    _Pages(folder, contents, tables, links).write()


@dataclass(frozen=True)
class _Part:
    """The contents of one page: its models, the data of its tables and its pictures."""

    models: list[str]
    data: str
    pictures: list[Picture]


@dataclass
class _Pages:
    """The pages of a leaderboard: one page, or an index and the pages of its models."""

    folder: Path
    contents: Contents
    tables: Sequence[Table]
    links: Sequence[Link]

    def __post_init__(self) -> None:
        self.names = name_subjects(subject_groups(self.tables, self.contents.rows))
        self.models = sorted(
            {subject.model for table in self.tables for subject in table.rows},
            key=lambda name: (name.casefold(), name),
        )

    def write(self) -> None:
        parts = list(self._parts())
        if len(parts) == 1:
            self._save("index.html", parts[0], extra=gallery.matrices(self.contents.transfers))
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
        data = embed((), self.contents.rows, self.names, page_of, self.contents.warnings)
        scatters = gallery.scatters(self.contents.rows, self.names, 1)
        if len(data.encode()) > LIMIT - ROOM:
            # The table of so many models would not fit on the index. Each page has its own.
            data = embed((), (), self.names, {})
        index = _Part(self.models, data, scatters)
        self._save("index.html", index, pages, gallery.matrices(self.contents.transfers))

    def _parts(self) -> Iterator[_Part]:
        """Yield the parts, none with more models than fit on a page within `LIMIT`."""
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
        tables, rows = self._shown_of(models)
        pictures = [
            *gallery.scatters(rows, self.names, most),
            *gallery.bars(tables, self.names, most),
        ]
        return _Part(models, embed(tables, rows, self.names, {}, self.contents.warnings), pictures)

    def _fits(self, part: _Part) -> bool:
        drawings = sum(len(picture.svg.encode()) for picture in part.pictures)
        return len(part.data.encode()) + drawings <= LIMIT - ROOM

    def _shown_of(self, models: Sequence[str]) -> tuple[list[Table], list[Row]]:
        chosen = set(models)
        parts = (
            replace(
                table, rows={who: row for who, row in table.rows.items() if who.model in chosen}
            )
            for table in self.tables
        )
        return (
            [part for part in parts if part.rows],
            [row for row in self.contents.rows if row.model in chosen],
        )

    def _save(
        self,
        file: str,
        part: _Part,
        pages: Sequence[Link] = (),
        extra: Sequence[Picture] = (),
    ) -> None:
        prefix = "" if file == "index.html" else f"{file.removesuffix('.html')}-"
        left = LIMIT - ROOM - len(part.data.encode())
        pictures = []
        for picture in (*part.pictures, *extra):
            left -= len(picture.svg.encode())
            # If the page has no room for a picture, it only has links to the picture's files.
            svg = picture.svg if left >= 0 else ""
            saved = save(self.folder, f"{prefix}{picture.name}", picture)
            pictures.append(replace(saved, svg=svg))
        page = render_page(
            self.contents.title,
            data=part.data,
            pictures=pictures,
            sources=self.contents.sources,
            warnings=self.contents.warnings,
            problems=self.contents.problems,
            notes=self.contents.notes,
            files=self.links,
            pages=pages,
            contrasts=contrast_cells(
                (one for one in self.contents.records if one.model in part.models), self.names
            ),
            cards=[Link(f"{CARDS}/{card.slug}.html", card.model) for card in self.contents.cards],
        )
        (self.folder / file).write_text(page, encoding="utf-8")


def _halves(models: list[str]) -> list[list[str]]:
    middle = len(models) // 2
    return [models[:middle], models[middle:]]
