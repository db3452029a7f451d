"""`leaderboard/page/gallery.py`: which pictures there are."""

from __future__ import annotations

from polyrefuse_leaderboard.page import gallery
from polyrefuse_leaderboard.table import name_subjects, tabulate

from tests.leaderboard.invented import record, with_means


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
