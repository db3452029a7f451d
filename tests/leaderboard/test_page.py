"""`leaderboard/page/` and `leaderboard/site.py`: what is in the files, without a browser."""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from polyrefuse_leaderboard import model_rows
from polyrefuse_leaderboard.contents import Contents
from polyrefuse_leaderboard.page import gallery, paging
from polyrefuse_leaderboard.page.html import _rounded
from polyrefuse_leaderboard.published import Source
from polyrefuse_leaderboard.site import write_site
from polyrefuse_leaderboard.table import name_subjects, tabulate
from polyrefuse_leaderboard.transfers import read_transfers

from polyrefuse_shared.writing import CannotWrite
from tests.conftest import ROOT
from tests.leaderboard.invented import board, record, with_means
from tests.leaderboard.result_files import transfer_report

PAGE = ROOT / "leaderboard/page"
LANGUAGES = ("ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "ru", "th", "yo", "zh")


def leaderboard(records: list[Any], **more: Any) -> Contents:
    return Contents("Invented", records, model_rows.rows(records), **more)


def data(html: str) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html)
    return json.loads(text)


class TestVendor:
    def test_the_note_fits_the_files(self) -> None:
        note = (PAGE / "vendor/README.md").read_text(encoding="utf-8")
        told = dict(re.findall(r"^\| (\S+) \| ([0-9a-f]{64}) \|$", note, flags=re.MULTILINE))
        assert set(told) | {"README.md"} == {file.name for file in (PAGE / "vendor").iterdir()}
        for name, sha256 in told.items():
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
        write_site(tmp_path / "site", leaderboard(board()))
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
            write_site(tmp_path / "site", leaderboard(records, problems=[name], notes=[name]))
            html = (tmp_path / "site/index.html").read_text(encoding="utf-8")
            told = data(html)
            assert told["subjects"][0][0] == name
            # The library looks for that word in a pattern of its own.
            bare = html.replace((PAGE / "vendor/dataTables.min.js").read_text(encoding="utf-8"), "")
            assert bare.count("<script") == html.count("</script") == 3
            assert html.count("<!--") == 0

    def test_cells_are_exact(self, tmp_path: Path) -> None:
        records = with_means([record("de", 1, 3), record("en", 2, 7)])
        write_site(tmp_path / "site", leaderboard(records))
        told = data((tmp_path / "site/index.html").read_text(encoding="utf-8"))
        assert told["languages"] == ["mean", "de", "en"]
        (table,) = told["rates"]
        subject, n, runs, (mean, german, english) = table["rows"][0]
        assert (n, german, english) == (3, 1, [2, 7])
        assert mean[0] == pytest.approx((1 / 3 + 2 / 7) / 2, abs=5e-5)
        assert mean[3] == 10
        assert [told["texts"][run] for run in runs] == [records[0].run]

    def test_a_short_number_is_shown_as_the_long_one(self) -> None:
        for share in (0.157499999, 0.15750001, 0.9999499, 0.00005, 1 / 3, 0.0, 1.0):
            short = _rounded(share)
            assert short is not None
            assert f"{100 * short:.1f}" == f"{100 * share:.1f}"
            assert f"{100 * short:.2f}" == f"{100 * share:.2f}"
        assert _rounded(1 / 3) == 0.3333

    def test_what_was_left_out(self, tmp_path: Path) -> None:
        shown = leaderboard(
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


class TestPages:
    def test_of_200_models_and_below_the_limit(self, tmp_path: Path) -> None:
        records = with_means(
            record(
                language, (number * 31 + place * 7) % 573, 572, dataset=dataset,
                model=f"m-{number:03}",
            )
            for number in range(401)
            for place, (dataset, language) in enumerate(
                (dataset, language) for dataset in ("harmful", "advbench") for language in LANGUAGES
            )
        )  # fmt: skip
        files = write_site(tmp_path / "site", leaderboard(records))
        found = [file for file in files if re.fullmatch(r"page-\d+\.html", file)]
        assert found == ["page-1.html", "page-2.html", "page-3.html"]
        seen = []
        for file in ("index.html", *found):
            path = tmp_path / "site" / file
            assert path.stat().st_size < 2_000_000
            told = data(path.read_text(encoding="utf-8"))
            if file != "index.html":
                names = {one[0] for one in told["subjects"]}
                assert len(names) <= 200
                seen += sorted(names)
            else:
                assert told["rates"] == []
                assert len(told["models"]) == 802
                links = {one[0]: one[6] for one in told["subjects"]}
        assert seen == [f"m-{number:03}" for number in range(401)]
        assert links["m-000"] == "page-1.html"
        assert links["m-400"] == "page-3.html"

    def test_fewer_models_where_they_would_not_fit(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(paging, "LIMIT", paging.ROOM + 2_500)
        records = with_means(
            record(language, number, 572, model=f"m-{number}")
            for number in range(8)
            for language in LANGUAGES
        )
        files = write_site(tmp_path / "site", leaderboard(records))
        several = [file for file in files if file.startswith("page-")]
        assert len(several) > 1
        found = []
        for file in several:
            html = (tmp_path / "site" / file).read_text(encoding="utf-8")
            assert len(html.encode()) < paging.LIMIT
            found += [one[0] for one in data(html)["subjects"]]
        assert found == [f"m-{number}" for number in range(8)]

    def test_thousands_of_problems(self, tmp_path: Path) -> None:
        said = [f"{'folder/' * 30}results-{number}.json is not JSON." for number in range(9_000)]
        write_site(tmp_path / "site", leaderboard(board(), problems=said, notes=said))
        html = (tmp_path / "site/index.html").read_text(encoding="utf-8")
        assert len(html.encode()) < 2_000_000
        assert html.count("is not JSON.") == 200
        assert "17800 more: leaderboard.md has all of them" in html
        markdown = (tmp_path / "site/leaderboard.md").read_text(encoding="utf-8")
        assert markdown.count("is not JSON.") == 18_000

    def test_more_matrices_than_a_page_has_room_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "transfer.json").write_text(json.dumps(transfer_report()))
        (one,), _ = read_transfers([tmp_path])
        monkeypatch.setattr(paging, "LIMIT", 450_000)
        files = write_site(tmp_path / "site", leaderboard(board(), transfers=[one] * 8))
        html = (tmp_path / "site/index.html").read_text(encoding="utf-8")
        assert len(html.encode()) < 450_000
        assert 0 < html.count("<svg") < 18
        for file in files:
            assert not file.startswith("figures/") or f'<a href="{file}">SVG</a>' in html

    def test_rows_are_in_one_order_everywhere(self, tmp_path: Path) -> None:
        records = [
            *board(models=2),
            *with_means([record("de", 3, model="Zeta"), record("de", 3, model="alpha")]),
        ]
        write_site(tmp_path / "site", leaderboard(records))
        told = data((tmp_path / "site/index.html").read_text(encoding="utf-8"))
        page = [tuple(told["subjects"][row[0]][:2]) for row in told["models"]]
        text = (tmp_path / "site/leaderboard.md").read_text(encoding="utf-8")
        section = text.partition("## Models")[2].partition("\n## ")[0]
        lines = [
            tuple(line.strip("| ").split(" | ")[:2])
            for line in section.splitlines()
            if "| native |" in line
        ]
        assert lines == page
        assert (page[0][0], page[-1][0]) == ("alpha", "Zeta")
        assert [condition for _, condition in page][1:4] == ["baseline", "mcd", "ablation"]


class TestPictures:
    def test_rise_is_over_languages_that_both_have(self) -> None:
        cells = with_means(
            [
                *(record(code, 5, model="a") for code in ("de", "en")),
                *(record(code, 7, model="a", condition="ablation") for code in ("de", "en")),
                record("de", 0, model="b"),
                record("en", 8, model="b"),
                record("en", 9, model="b", condition="ablation"),
            ]
        )
        found = tabulate(cells)
        # Of b the means are .4 and .9, but English alone rose, by .1.
        titles = [
            title for title, _, _ in gallery._panels(found[0], name_subjects([found[0].rows]))
        ]
        assert titles == ["a", "b"]


class TestFolder:
    def test_files(self, tmp_path: Path) -> None:
        records = board()
        files = write_site(tmp_path / "a/site", leaderboard(records))
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
        write_site(folder, leaderboard(board(), samples=[{"response": "invented"}]))
        assert (folder / "samples.jsonl").exists()
        (folder / "CNAME").write_text("example.org")
        (folder / ".git").mkdir()
        write_site(folder, leaderboard([record("de", 3)]))
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
            write_site(folder, leaderboard(board()))
        assert [path.name for path in folder.iterdir()] == ["thesis.tex"]
        with pytest.raises(CannotWrite, match="is not a folder"):
            write_site(folder / "thesis.tex", leaderboard(board()))

    def test_pictures_of_others_are_kept(self, tmp_path: Path) -> None:
        folder = tmp_path / "site"
        write_site(folder, leaderboard(board()))
        (folder / "figures/logo.png").write_bytes(b"mine")
        (folder / "figures/bars-9.svg").write_text("of an older leaderboard")
        for _ in range(2):
            write_site(folder, leaderboard([record("de", 3)]))
            assert [path.name for path in (folder / "figures").iterdir()] == ["logo.png"]
        assert (folder / "figures/logo.png").read_bytes() == b"mine"

    def test_a_leaderboard_of_another_program(self, tmp_path: Path) -> None:
        for text in ('[{"player": 1}]', ""):
            (tmp_path / "leaderboard.json").write_text(text)
            (tmp_path / "index.html").write_text("mine")
            with pytest.raises(CannotWrite, match="has other things in it"):
                write_site(tmp_path, leaderboard(board()))
            assert (tmp_path / "index.html").read_text() == "mine"

    def test_the_older_one_comes_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "site"
        write_site(folder, leaderboard(board()))
        (folder / "CNAME").write_text("example.org")
        before = {path: path.read_bytes() for path in folder.rglob("*.*")}
        rename = os.replace

        def once(source: Path, target: Path) -> None:
            if str(source).endswith(".partial"):
                raise OSError(16, "Device or resource busy")
            rename(source, target)

        monkeypatch.setattr(os, "replace", once)
        with pytest.raises(CannotWrite, match="Device or resource busy"):
            write_site(folder, leaderboard([record("de", 3)]))
        assert [path.name for path in tmp_path.iterdir()] == ["site"]
        assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before
        assert (folder / "CNAME").exists()

    def test_whole_or_not_at_all(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_site(tmp_path / "site", leaderboard(board()))
        before = {path: path.read_bytes() for path in (tmp_path / "site").rglob("*.*")}

        def full(*_: Any, **__: Any) -> str:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(paging, "render_page", full)
        for name in ("site", "new"):
            with pytest.raises(CannotWrite, match="No space left on device"):
                write_site(tmp_path / name, leaderboard([record("de", 3)]))
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
        told = data((tmp_path / "site/index.html").read_text(encoding="utf-8"))
        anchors = {subject[2]: subject[7] for subject in told["subjects"]}
        assert anchors == {"baseline": [], "mcd": [["multijail", 2], ["advbench", None]]}


class TestTransfers:
    def test_read(self, tmp_path: Path) -> None:
        (tmp_path / "deep/er").mkdir(parents=True)
        (tmp_path / "deep/er/transfer.json").write_text(json.dumps(transfer_report()))
        (found,), problems = read_transfers([tmp_path, tmp_path / "deep/er/transfer.json"])
        assert problems == []
        assert (found.baseline, found.asr) == ((0.25,), ((0.5,), (0.75,)))
        assert found.cosine == ((1.0, 0.5), (0.5, 1.0))
        assert (found.refusals, found.warnings) == (((2, 4),), ())

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("{", "is not JSON"),
            ("[]", "is no transfer report"),
            (json.dumps(transfer_report() | {"schema": 2}), "schema 2"),
            (json.dumps(transfer_report() | {"cells": []}), "is no transfer report"),
            (json.dumps(transfer_report() | {"cosine": [[1, 2], [2, 1]]}), "2 is not from"),
            (json.dumps(transfer_report() | {"cosine": [[1, None], [2, 1]]}), "None is not a"),
            (json.dumps(transfer_report(refused=-1)), "are no counts out of 4"),
            (json.dumps(transfer_report(n=0)), "are no counts out of 0"),
            (json.dumps(transfer_report(n=True)), "are no counts out of True"),
        ],
    )  # fmt: skip
    def test_bad(self, tmp_path: Path, text: str, said: str) -> None:
        (tmp_path / "transfer.json").write_text(text)
        found, (problem,) = read_transfers([tmp_path])
        assert found == []
        assert said in problem
        assert "transfer.json" in problem

    def test_on_the_page(self, tmp_path: Path) -> None:
        (tmp_path / "transfer.json").write_text(json.dumps(transfer_report()))
        found, _ = read_transfers([tmp_path])
        files = write_site(tmp_path / "site", leaderboard(board(), transfers=found))
        assert {"figures/transfer-1.svg", "figures/cosine-1.svg"} <= set(files)
        html = (tmp_path / "site/index.html").read_text(encoding="utf-8")
        assert "Cosine between the languages&#39; directions at position -1, layer 2" in html
