"""`leaderboard/page/html.py` and what lies beside it: one page, without a browser."""

from __future__ import annotations

import configparser
import hashlib
import re
from pathlib import Path

import pytest
from polyrefuse_leaderboard.page.html import _rounded
from polyrefuse_leaderboard.published import Source
from polyrefuse_leaderboard.site import write_site

from tests.conftest import ROOT
from tests.leaderboard.invented import board, record, with_means
from tests.leaderboard.pages import contents, embedded

PAGE = ROOT / "leaderboard/page"


class TestVendor:
    def test_the_note_fits_the_files(self) -> None:
        note = (PAGE / "vendor/README.md").read_text(encoding="utf-8")
        checksums = dict(re.findall(r"^\| (\S+) \| ([0-9a-f]{64}) \|$", note, flags=re.MULTILINE))
        assert set(checksums) | {"README.md"} == {file.name for file in (PAGE / "vendor").iterdir()}
        for name, sha256 in checksums.items():
            assert hashlib.sha256((PAGE / "vendor" / name).read_bytes()).hexdigest() == sha256
        licence = (PAGE / "vendor/LICENSE.txt").read_text(encoding="utf-8")
        assert licence.startswith("The MIT License (MIT)")
        (version,) = re.findall(r"DataTables (\S+) as published", note)
        library = (PAGE / "vendor/dataTables.min.js").read_text(encoding="utf-8")
        assert library.startswith(f"/*! DataTables {version}\n")

    def test_every_file_is_in_the_package(self) -> None:
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg")
        globs = [
            glob.strip()
            for glob in setup["options.package_data"]["polyrefuse_leaderboard.page"].split(",")
        ]
        packed = {file for glob in globs for file in PAGE.glob(glob)}
        wanted = {
            file
            for file in PAGE.rglob("*")
            if file.is_file() and file.suffix != ".py" and "__pycache__" not in file.parts
        }
        assert packed == wanted
        assert "polyrefuse_leaderboard.page" in setup["options"]["packages"].split()


class TestPage:
    def test_nothing_is_fetched(self, tmp_path: Path) -> None:
        write_site(tmp_path / "site", contents(board()))
        html = (tmp_path / "site/index.html").read_text(encoding="utf-8")
        assert not re.search(r"<(?:script|img|iframe|link|source)[^>]*\s(?:src|srcset)=", html)
        assert re.findall(r"<link[^>]*>", html) == ['<link rel="icon" href="data:,">']
        assert not re.search(
            r"@import|url\((?!#|\"#)", re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
        )
        (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
        assert policy.startswith("default-src 'none'; ")
        assert "connect-src" not in policy
        (scripts,) = re.findall(r"script-src ([^;]*);", policy)
        assert all(source.startswith("'sha256-") for source in scripts.split())

    def test_names_cannot_leave_the_data(self, tmp_path: Path) -> None:
        for name in ("</script><script>alert(1)</script>", "<!--<script>", "\u2028\u2029", "]]>"):
            records = with_means([record("de", 3, model=name, dataset=name, judge=name)])
            write_site(tmp_path / "site", contents(records, problems=[name], notes=[name]))
            html = (tmp_path / "site/index.html").read_text(encoding="utf-8")
            document = embedded(html)
            assert document["subjects"][0][0] == name
            # The library looks for that word in a pattern of its own.
            bare = html.replace((PAGE / "vendor/dataTables.min.js").read_text(encoding="utf-8"), "")
            assert bare.count("<script") == html.count("</script") == 3
            assert html.count("<!--") == 0

    def test_cells_are_exact(self, tmp_path: Path) -> None:
        records = with_means([record("de", 1, 3), record("en", 2, 7)])
        write_site(tmp_path / "site", contents(records))
        document = embedded((tmp_path / "site/index.html").read_text(encoding="utf-8"))
        assert document["languages"] == ["mean", "de", "en"]
        (table,) = document["rates"]
        subject, n, runs, (mean, german, english) = table["rows"][0]
        assert (n, german, english) == (3, 1, [2, 7])
        assert mean[0] == pytest.approx((1 / 3 + 2 / 7) / 2, abs=5e-5)
        assert mean[3] == 10
        assert [document["texts"][run] for run in runs] == [records[0].run]

    def test_a_short_number_is_shown_as_the_long_one(self) -> None:
        for share in (0.157499999, 0.15750001, 0.9999499, 0.00005, 1 / 3, 0.0, 1.0):
            short = _rounded(share)
            assert short is not None
            assert f"{100 * short:.1f}" == f"{100 * share:.1f}"
            assert f"{100 * short:.2f}" == f"{100 * share:.2f}"
        assert _rounded(1 / 3) == 0.3333

    def test_what_was_left_out(self, tmp_path: Path) -> None:
        shown = contents(
            board(models=1),
            problems=["a/results.json is not JSON."],
            notes=["old.json is left out."],
            sources=[Source("a place", "https://example.org/a?b&c", "of numbers")],
        )
        write_site(tmp_path / "site", shown)
        html = (tmp_path / "site/index.html").read_text(encoding="utf-8")
        assert '<li class="problem">a/results.json is not JSON.</li>' in html
        assert "<li>old.json is left out.</li>" in html
        assert '<a href="https://example.org/a?b&amp;c" rel="noreferrer">a place</a>' in html
        markdown = (tmp_path / "site/leaderboard.md").read_text(encoding="utf-8")
        assert "- a/results.json is not JSON." in markdown
        assert "- [a place](<https://example.org/a?b&c>): of numbers" in markdown
