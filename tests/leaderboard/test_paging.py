"""`leaderboard/page/paging.py`: which models are on which page, and how large pages get."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from polyrefuse_leaderboard.page import paging
from polyrefuse_leaderboard.site import write_site
from polyrefuse_leaderboard.transfers import read_transfers

from tests.leaderboard.invented import board, record, with_means
from tests.leaderboard.pages import contents, embedded
from tests.leaderboard.result_files import transfer_report

LANGUAGES = ("ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "ru", "th", "yo", "zh")


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
        files = write_site(tmp_path / "site", contents(records))
        found = [file for file in files if re.fullmatch(r"page-\d+\.html", file)]
        assert found == ["page-1.html", "page-2.html", "page-3.html"]
        seen = []
        for file in ("index.html", *found):
            path = tmp_path / "site" / file
            assert path.stat().st_size < 2_000_000
            document = embedded(path.read_text(encoding="utf-8"))
            if file != "index.html":
                names = {one[0] for one in document["subjects"]}
                assert len(names) <= 200
                seen += sorted(names)
            else:
                assert document["rates"] == []
                assert len(document["models"]) == 802
                links = {one[0]: one[6] for one in document["subjects"]}
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
        files = write_site(tmp_path / "site", contents(records))
        several = [file for file in files if file.startswith("page-")]
        assert len(several) > 1
        found = []
        for file in several:
            html = (tmp_path / "site" / file).read_text(encoding="utf-8")
            assert len(html.encode()) < paging.LIMIT
            found += [one[0] for one in embedded(html)["subjects"]]
        assert found == [f"m-{number}" for number in range(8)]

    def test_thousands_of_problems(self, tmp_path: Path) -> None:
        said = [f"{'folder/' * 30}results-{number}.json is not JSON." for number in range(9_000)]
        write_site(tmp_path / "site", contents(board(), problems=said, notes=said))
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
        files = write_site(tmp_path / "site", contents(board(), transfers=[one] * 8))
        html = (tmp_path / "site/index.html").read_text(encoding="utf-8")
        assert len(html.encode()) < 450_000
        assert 0 < html.count("<svg") < 18
        for file in files:
            if file.startswith("figures/"):
                assert f'<a href="{file}">{Path(file).suffix[1:].upper()}</a>' in html

    def test_rows_are_in_one_order_everywhere(self, tmp_path: Path) -> None:
        records = [
            *board(models=2),
            *with_means([record("de", 3, model="Zeta"), record("de", 3, model="alpha")]),
        ]
        write_site(tmp_path / "site", contents(records))
        document = embedded((tmp_path / "site/index.html").read_text(encoding="utf-8"))
        page = [tuple(document["subjects"][row[0]][:2]) for row in document["models"]]
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
