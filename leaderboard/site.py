"""The folder that `build` and `published` write: pages, tables, pictures, all or none."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

from polyrefuse_leaderboard import table
from polyrefuse_leaderboard.latex import to_latex
from polyrefuse_leaderboard.markdown import to_markdown
from polyrefuse_leaderboard.page.html import Link
from polyrefuse_leaderboard.page.paging import Leaderboard, write_pages
from polyrefuse_leaderboard.records import to_csv, to_json

from polyrefuse_shared.writing import CannotWrite

MARK = "leaderboard.json"
"""The file by which a folder is known as one of ours."""

SAMPLES = "samples.jsonl"

_OURS = re.compile(
    r"leaderboard\.(json|csv|md|tex)|index\.html|page-\d+\.html|samples\.jsonl"
    r"|figures/(page-\d+-)?(scatter|bars|transfer|cosine)-\d+\.svg"
)
"""What is written, relative to the folder."""


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
            _replace(folder, draft, old)
        else:
            os.replace(draft, folder)
    except OSError as error:
        raise CannotWrite(
            f"{folder} cannot be written ({error.strerror or error}); name another or make room."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return files


def _replace(folder: Path, draft: Path, old: Path) -> None:
    """Put a draft in the place of a folder, with those files of the folder that are not ours."""
    os.replace(folder, old)
    try:
        os.replace(draft, folder)
    except BaseException:
        os.replace(old, folder)
        raise
    for kept in (*old.iterdir(), *old.glob("figures/*")):
        name = kept.relative_to(old).as_posix()
        if name != "figures" and not _OURS.fullmatch(name):
            (folder / name).parent.mkdir(exist_ok=True)
            os.replace(kept, folder / name)
    shutil.rmtree(old)


def _write(draft: Path, shown: Leaderboard) -> None:
    shown = replace(shown, rows=sorted(shown.rows, key=lambda row: table.order(table.subject(row))))
    found = table.tables(shown.records)
    said = [*shown.problems, *shown.notes]
    texts = {
        MARK: lambda: to_json(shown.records, [asdict(one) for one in shown.warnings]),
        "leaderboard.csv": lambda: to_csv(shown.records),
        "leaderboard.md": lambda: to_markdown(
            shown.title,
            found,
            shown.rows,
            warnings=shown.warnings,
            sources=shown.sources,
            said=said,
        ),
        "leaderboard.tex": lambda: to_latex(found, shown.rows, shown.warnings),
    }
    for name, text in texts.items():
        # The CSV has line ends of its own.
        (draft / name).write_text(text(), encoding="utf-8", newline="")
    links = [Link(MARK, "JSON"), Link("leaderboard.csv", "CSV"), Link("leaderboard.md", "Markdown")]
    links.append(Link("leaderboard.tex", "LaTeX"))
    if shown.samples is not None:
        with open(draft / SAMPLES, "w", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n" for row in shown.samples)
    write_pages(draft, shown, found, links)
