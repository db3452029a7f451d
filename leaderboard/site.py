"""The folder that `build` and `published` write: pages, tables, pictures, all or none."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from polyrefuse_leaderboard.contents import Contents
from polyrefuse_leaderboard.latex import to_latex
from polyrefuse_leaderboard.markdown import to_markdown
from polyrefuse_leaderboard.page.html import Link
from polyrefuse_leaderboard.page.paging import write_pages
from polyrefuse_leaderboard.records import to_csv, to_json
from polyrefuse_leaderboard.table import sort_key, subject_of, tabulate

from polyrefuse_shared.writing import CannotWrite, replaced_folder

MARK = "leaderboard.json"
"""The file by which a folder is known as one of ours."""

SAMPLES = "samples.jsonl"

_OURS = re.compile(
    r"leaderboard\.(json|csv|md|tex)|index\.html|page-\d+\.html|samples\.jsonl"
    r"|figures/(page-\d+-)?(scatter|bars|transfer|cosine)-\d+\.svg"
)
"""Names of the files that this module writes, relative to the folder."""


def require_writable(folder: Path) -> None:
    """Refuse a folder with something else in it than a leaderboard.

    Raises:
        CannotWrite: it is no folder, or neither empty nor one of ours.
    """
    if folder.is_dir():
        if any(folder.iterdir()) and not _is_leaderboard(folder):
            raise CannotWrite(
                f"{folder} has other things in it than a leaderboard; name a new folder, or an "
                "empty one."
            )
    elif folder.is_symlink() or folder.exists():
        raise CannotWrite(f"{folder} is not a folder; name another.")


def _is_leaderboard(folder: Path) -> bool:
    # Another program may call a file so.
    begins = b'{"schema": '
    try:
        with open(folder / MARK, "rb") as file:
            return file.read(len(begins)) == begins
    except OSError:
        return False


def write_site(folder: Path, contents: Contents) -> list[str]:
    """Write a leaderboard into a folder; an older one there is replaced, and other files are kept.

    Returns:
        The files, relative to the folder, sorted.

    Raises:
        CannotWrite: as `require_writable`, or the disk refuses.
    """
    require_writable(folder)
    with replaced_folder(folder, kept=_files_of_others) as draft:
        _write(draft, contents)
        return sorted(
            file.relative_to(draft).as_posix() for file in draft.rglob("*") if file.is_file()
        )


def _files_of_others(folder: Path) -> Iterator[Path]:
    """Files and folders in a leaderboard's folder that this module did not write."""
    for path in (*folder.iterdir(), *folder.glob("figures/*")):
        name = path.relative_to(folder).as_posix()
        if name != "figures" and not _OURS.fullmatch(name):
            yield path


def _write(draft: Path, contents: Contents) -> None:
    rows = sorted(contents.rows, key=lambda row: sort_key(subject_of(row)))
    contents = replace(contents, rows=rows)
    tables = tabulate(contents.records)
    texts = {
        MARK: lambda: to_json(contents.records, [asdict(one) for one in contents.warnings]),
        "leaderboard.csv": lambda: to_csv(contents.records),
        "leaderboard.md": lambda: to_markdown(
            contents.title,
            tables,
            rows,
            warnings=contents.warnings,
            sources=contents.sources,
            left_out=[*contents.problems, *contents.notes],
        ),
        "leaderboard.tex": lambda: to_latex(tables, rows, contents.warnings),
    }
    for name, text in texts.items():
        # The CSV has line ends of its own.
        (draft / name).write_text(text(), encoding="utf-8", newline="")
    links = [Link(MARK, "JSON"), Link("leaderboard.csv", "CSV"), Link("leaderboard.md", "Markdown")]
    links.append(Link("leaderboard.tex", "LaTeX"))
    if contents.samples is not None:
        with open(draft / SAMPLES, "w", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n" for row in contents.samples)
    write_pages(draft, contents, tables, links)
