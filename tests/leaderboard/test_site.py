"""`leaderboard/site.py`: what is in the folder, what stays in it, and what a failure leaves."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from polyrefuse_leaderboard import model_rows
from polyrefuse_leaderboard.contents import Contents
from polyrefuse_leaderboard.page import paging
from polyrefuse_leaderboard.site import write_site

from polyrefuse_shared.writing import CannotWrite
from tests.leaderboard.invented import board, record, with_means
from tests.leaderboard.pages import contents, embedded


class TestFolder:
    def test_files(self, tmp_path: Path) -> None:
        records = board()
        files = write_site(tmp_path / "a/site", contents(records))
        assert files == [
            "figures/bars-1.svg", "figures/scatter-1.svg", "index.html", "leaderboard.csv",
            "leaderboard.json", "leaderboard.md", "leaderboard.tex",
        ]  # fmt: skip
        folder = tmp_path / "a/site"
        document = json.loads((folder / "leaderboard.json").read_text(encoding="utf-8"))
        assert document["records"] == [asdict(one) for one in records]
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["site"]

    def test_rebuilt_in_place(self, tmp_path: Path) -> None:
        folder = tmp_path / "site"
        folder.mkdir()
        write_site(folder, contents(board(), samples=[{"response": "invented"}]))
        assert (folder / "samples.jsonl").exists()
        (folder / "CNAME").write_text("example.org")
        (folder / ".git").mkdir()
        write_site(folder, contents([record("de", 3)]))
        assert sorted(path.name for path in folder.iterdir()) == [
            ".git", "CNAME", "index.html", "leaderboard.csv", "leaderboard.json",
            "leaderboard.md", "leaderboard.tex",
        ]  # fmt: skip
        assert [path.name for path in tmp_path.iterdir()] == ["site"]

    def test_others_folders_are_left_alone(self, tmp_path: Path) -> None:
        folder = tmp_path / "site"
        folder.mkdir()
        (folder / "thesis.tex").write_text("mine")
        with pytest.raises(CannotWrite, match="has other things in it than a leaderboard"):
            write_site(folder, contents(board()))
        assert [path.name for path in folder.iterdir()] == ["thesis.tex"]
        with pytest.raises(CannotWrite, match="is not a folder"):
            write_site(folder / "thesis.tex", contents(board()))

    def test_pictures_of_others_are_kept(self, tmp_path: Path) -> None:
        folder = tmp_path / "site"
        write_site(folder, contents(board()))
        (folder / "figures/logo.png").write_bytes(b"mine")
        (folder / "figures/bars-9.svg").write_text("of an older leaderboard")
        for _ in range(2):
            write_site(folder, contents([record("de", 3)]))
            assert [path.name for path in (folder / "figures").iterdir()] == ["logo.png"]
        assert (folder / "figures/logo.png").read_bytes() == b"mine"

    def test_a_leaderboard_of_another_program(self, tmp_path: Path) -> None:
        for text in ('[{"player": 1}]', ""):
            (tmp_path / "leaderboard.json").write_text(text)
            (tmp_path / "index.html").write_text("mine")
            with pytest.raises(CannotWrite, match="has other things in it"):
                write_site(tmp_path, contents(board()))
            assert (tmp_path / "index.html").read_text() == "mine"

    def test_the_older_one_comes_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "site"
        write_site(folder, contents(board()))
        (folder / "CNAME").write_text("example.org")
        before = {path: path.read_bytes() for path in folder.rglob("*.*")}
        rename = os.replace

        def once(source: Path, target: Path) -> None:
            if str(source).endswith(".partial"):
                raise OSError(16, "Device or resource busy")
            rename(source, target)

        monkeypatch.setattr(os, "replace", once)
        with pytest.raises(CannotWrite, match="Device or resource busy"):
            write_site(folder, contents([record("de", 3)]))
        assert [path.name for path in tmp_path.iterdir()] == ["site"]
        assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before
        assert (folder / "CNAME").exists()

    def test_whole_or_not_at_all(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_site(tmp_path / "site", contents(board()))
        before = {path: path.read_bytes() for path in (tmp_path / "site").rglob("*.*")}

        def full(*_: Any, **__: Any) -> str:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(paging, "render_page", full)
        for name in ("site", "new"):
            with pytest.raises(CannotWrite, match="No space left on device"):
                write_site(tmp_path / name, contents([record("de", 3)]))
        assert [path.name for path in tmp_path.iterdir()] == ["site"]
        assert {path: path.read_bytes() for path in (tmp_path / "site").rglob("*.*")} == before


class TestAnchors:
    """Rows of a test set that a safety prompt was trained on are said beside its rates."""

    @pytest.fixture
    def shown(self) -> Contents:
        prompt: dict[str, Any] = {"condition": "mcd", "intervention": "ab" * 8}
        records = with_means(
            record(language, 3, dataset=dataset, **about)
            for dataset in ("harmful", "multijail", "advbench")
            for language in ("de", "en")
            for about in ({}, prompt)
        )
        records += with_means(
            record(language, 2, dataset="harmless", metric="false_refusal_rate", **about)
            for language in ("de", "en")
            for about in ({}, prompt)
        )
        overlap = {"multijail": 2, "advbench": None}
        rows = [
            replace(row, overlap=overlap if row.condition == "mcd" else {})
            for row in model_rows.rows(records)
        ]
        return Contents("Invented", records, rows)

    def test_in_the_tables_of_that_test_set(self, shown: Contents, tmp_path: Path) -> None:
        write_site(tmp_path / "site", shown)
        text = (tmp_path / "site/leaderboard.md").read_text(encoding="utf-8")
        tables = re.split(r"^## ", text, flags=re.MULTILINE)
        for dataset, said in (
            ("multijail", "| mcd (trained on 2 of these prompts) |"),
            ("advbench", "| mcd (perhaps trained on these prompts) |"),
            ("harmful", "| mcd |"),
        ):
            (found,) = [one for one in tables if one.startswith(f"Attack success: {dataset},")]
            assert said in found
            assert found.count("trained on") == (dataset != "harmful")
        tex = (tmp_path / "site/leaderboard.tex").read_text(encoding="utf-8")
        assert "& mcd (trained on 2 of these prompts) &" in tex
        assert tex.count("trained on") == 2

    def test_under_the_scatter(self, shown: Contents, tmp_path: Path) -> None:
        files = write_site(tmp_path / "site", shown)
        drawn = [
            (tmp_path / "site" / file).read_text(encoding="utf-8")
            for file in files
            if "scatter" in file
        ]
        assert len(drawn) == 3
        assert sum("mcd, trained on 2 of these prompts" in svg for svg in drawn) == 1

    def test_in_the_data(self, shown: Contents, tmp_path: Path) -> None:
        write_site(tmp_path / "site", shown)
        document = embedded((tmp_path / "site/index.html").read_text(encoding="utf-8"))
        anchors = {subject[2]: subject[7] for subject in document["subjects"]}
        assert anchors == {"baseline": [], "mcd": [["multijail", 2], ["advbench", None]]}
