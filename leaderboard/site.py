"""Write the folder of `build` and `published`: pages, tables and pictures.

The folder may be a checkout, a mount point, or a folder that other programs write to. It stays
where it is, and all files in it that are not a leaderboard's stay as they are. Everything is first
written into a draft in the folder, and then moved to its place file by file, `leaderboard.json`
last. If a build is killed in between, the next build finds the draft or `leaderboard.json`, and
writes every file again.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from polyrefuse_leaderboard import stranded
from polyrefuse_leaderboard.card.html import to_html
from polyrefuse_leaderboard.card.markdown import to_markdown as card_markdown
from polyrefuse_leaderboard.card.parts import Card
from polyrefuse_leaderboard.contents import Contents
from polyrefuse_leaderboard.latex import to_latex
from polyrefuse_leaderboard.markdown import to_markdown
from polyrefuse_leaderboard.our_files import CARDS, FOLDERS, MARK, SAMPLES, is_ours, names_of_ours
from polyrefuse_leaderboard.page.html import Link
from polyrefuse_leaderboard.page.paging import write_pages
from polyrefuse_leaderboard.picture import save
from polyrefuse_leaderboard.records import to_csv, to_json
from polyrefuse_leaderboard.table import sort_key, subject_of, tabulate

from polyrefuse_shared.drafts import PATTERN, draft, is_draft, locked
from polyrefuse_shared.writing import CannotWrite, cannot_write, put, write_whole

PATIENCE = 60.0
"""The seconds that a build waits for another build of the same folder."""


def require_writable(folder: Path) -> None:
    """Refuse a folder that has files but no leaderboard.

    Raises:
        CannotWrite: the path is not a folder, the folder cannot be read, or it is neither empty nor
            a leaderboard's.
    """
    try:
        if folder.is_dir():
            # Another build may be moving its files here. They are listed first, so that a build
            # that has moved some of them is still seen.
            others = any(not is_draft(path.name) for path in folder.iterdir())
            if others and not _is_leaderboard(folder):
                raise CannotWrite(
                    f"{folder} has other files and no leaderboard; name a new folder or an empty "
                    "one."
                )
        elif os.path.lexists(folder):
            raise CannotWrite(f"{folder} is not a folder; name another.")
    except OSError as error:
        raise cannot_write(folder, error) from error


def _is_leaderboard(folder: Path) -> bool:
    # A build that was killed before it moved its last file left that file in its draft. A build
    # that goes on moves it from there to the folder, which is therefore looked at last.
    return any(is_ours(place / MARK) for place in (*folder.glob(PATTERN), folder))


def write_site(folder: Path, contents: Contents) -> list[str]:
    """Write a leaderboard into a folder.

    An older leaderboard in the folder is replaced. Other files and folders stay as they are.

    Returns:
        The files, relative to the folder, sorted.

    Raises:
        CannotWrite: as in `require_writable`; or another program's file has a name that the
            leaderboard needs, or the disk cannot be written to.
        Busy: another process has been writing to the folder for longer than `PATIENCE`.
    """
    require_writable(folder)
    made = not os.path.exists(folder)
    try:
        with draft(folder, Path.mkdir) as new:
            _write(new, contents)
            files = sorted(names_of_ours(new))
            with locked(folder, patience=PATIENCE):
                stranded.recover(folder)
                _publish(new, folder, files)
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        if made:
            # This removes the empty folder of a failed build. `rmdir` removes no other folder.
            with suppress(OSError):
                folder.rmdir()
    return files


def _publish(new: Path, folder: Path, files: list[str]) -> None:
    """Move each file to its place, and remove the other files of an older leaderboard."""
    _refuse_others(folder, files)
    first = not is_ours(folder / MARK)
    try:
        for name in files:
            if name != MARK:
                (folder / name).parent.mkdir(exist_ok=True)
                _move(new / name, folder / name)
        _remove_ours(folder, but=files)
        _move(new / MARK, folder / MARK)
    except BaseException:
        if first:
            # Without `leaderboard.json` nothing would mark the files as a leaderboard's.
            _remove_ours(folder, but=())
            for name in FOLDERS:
                with suppress(OSError):
                    (folder / name).rmdir()
        raise


def _refuse_others(folder: Path, files: Collection[str]) -> None:
    """Refuse to replace files that are not a leaderboard's.

    Raises:
        CannotWrite: another program's file or folder is in the place of one of the files.
    """
    for path in (folder / name for name in files):
        place = path.parent
        if os.path.lexists(place) and not place.is_dir():
            path = place
        elif not os.path.lexists(path) or is_ours(path):
            continue
        raise CannotWrite(
            f"{path} is in the way and was not written by this tool; move it, or name another "
            "folder."
        )


def _remove_ours(folder: Path, but: Collection[str]) -> None:
    for name in names_of_ours(folder):
        if name not in but and is_ours(folder / name):
            (folder / name).unlink()


def _move(file: Path, target: Path) -> None:
    try:
        put(file, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # `figures` is a mount point, or a link to elsewhere.
        write_whole(target, file.read_bytes())


def _write(new: Path, contents: Contents) -> None:
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
        # The text of the CSV already has line endings, which must not be translated.
        (new / name).write_text(text(), encoding="utf-8", newline="")
    links = [Link(MARK, "JSON"), Link("leaderboard.csv", "CSV"), Link("leaderboard.md", "Markdown")]
    links.append(Link("leaderboard.tex", "LaTeX"))
    if contents.samples is not None:
        with open(new / SAMPLES, "w", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n" for row in contents.samples)
        if not (new / SAMPLES).stat().st_size:
            # Later builds could not distinguish an empty file from a user's file.
            (new / SAMPLES).unlink()
    for number, bare in enumerate(contents.cards, 1):
        card = _with_pictures(new, bare, number)
        (new / CARDS).mkdir(exist_ok=True)
        (new / CARDS / f"{card.slug}.html").write_text(to_html(card), encoding="utf-8")
        (new / CARDS / f"{card.slug}.md").write_text(card_markdown(card), encoding="utf-8")
    write_pages(new, contents, tables, links)


def _with_pictures(new: Path, card: Card, number: int) -> Card:
    """Write the pictures of a card, and return the card with the places of their files."""
    sections = (
        replace(
            section,
            pictures=tuple(
                save(new, f"card-{number}-{picture.name}", picture) for picture in section.pictures
            ),
        )
        for section in card.sections
    )
    return replace(card, sections=tuple(sections))
