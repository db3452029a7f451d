"""`leaderboard/transfers.py`: reports that are read, broken ones, and the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from polyrefuse_leaderboard.site import write_site
from polyrefuse_leaderboard.transfers import read_transfers

from tests.leaderboard.invented import board
from tests.leaderboard.pages import contents
from tests.leaderboard.result_files import transfer_report


class TestTransfers:
    def test_read(self, tmp_path: Path) -> None:
        (tmp_path / "deep/er").mkdir(parents=True)
        (tmp_path / "deep/er/transfer.json").write_text(json.dumps(transfer_report()))
        (found,), problems = read_transfers([tmp_path, tmp_path / "deep/er/transfer.json"])
        assert problems == []
        assert (found.baseline, found.asr) == ((0.25,), ((0.5,), (0.75,)))
        assert found.cosine == ((1.0, 0.5), (0.5, 1.0))
        assert (found.refusals, found.warnings) == (((2, 4),), ())
        assert found.explained is None  # which schema 1 does not say
        later = transfer_report() | {"schema": 2, "explained_by_one": 0.97}
        (tmp_path / "deep/er/transfer.json").write_text(json.dumps(later))
        (found,), problems = read_transfers([tmp_path])
        assert (found.explained, problems) == (0.97, [])

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("{", "is not JSON"),
            ("[]", "is not a transfer report"),
            (json.dumps(transfer_report() | {"schema": 3}), "schema 3"),
            (json.dumps(transfer_report() | {"schema": 2}), "it has no 'explained_by_one'"),
            (
                json.dumps(transfer_report() | {"schema": 2, "explained_by_one": 1.5}),
                "1.5 is not from 0 to 1",
            ),
            (json.dumps(transfer_report() | {"cells": []}), "is not a transfer report"),
            (json.dumps(transfer_report() | {"cosine": [[1, 2], [2, 1]]}), "2 is not from"),
            (json.dumps(transfer_report() | {"cosine": [[1, None], [2, 1]]}), "None is not a"),
            (json.dumps(transfer_report() | {"targets": ["yo", "yo"]}), "targets has 'yo' twice"),
            (json.dumps(transfer_report() | {"directions": {}}), "it has no 'de'"),
            (json.dumps(transfer_report(refused=-1)), "are not counts out of 4"),
            (json.dumps(transfer_report(n=0)), "are not counts out of 0"),
            (json.dumps(transfer_report(n=True)), "are not counts out of True"),
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
        files = write_site(tmp_path / "site", contents(board(), transfers=found))
        assert {"figures/transfer-1.svg", "figures/cosine-1.svg"} <= set(files)
        html = (tmp_path / "site/index.html").read_text(encoding="utf-8")
        assert "Cosine between the languages&#39; directions at position -1, layer 2" in html
