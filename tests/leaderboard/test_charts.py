"""`leaderboard/page/charts.py`: colours that everybody can tell apart, and SVG pictures."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from polyrefuse_leaderboard import model_rows
from polyrefuse_leaderboard.page import charts
from polyrefuse_leaderboard.transfers import Transfer

from polyrefuse_shared.colours import INK, heat_colours, luminance
from polyrefuse_shared.pictures import svg
from tests.leaderboard.invented import board, record, with_means

MARKUP = "<b>&</b> $\\frac{1} \"']]> $5 _x"
TEXT = "{http://www.w3.org/2000/svg}text"

TRANSFER = Transfer(
    given=MARKUP,
    model=MARKUP,
    dataset="toyrefuse",
    judge="native",
    sources=("de", "en"),
    targets=("ar", "de", "en"),
    baseline=(0.0, 0.01, 0.02),
    refusals=((100, 100), (99, 100), (98, 100)),
    asr=((0.91, 0.92, 0.93), (0.94, 0.95, 0.96)),
    cosine=((1.0, -0.75), (-0.75, 1.0)),
    position=-1,
    layer=2,
    path="transfer.json",
)

# Linear RGB as readers without red, green or blue cones see it (Vienot, Brettel and Mollon 1999;
# for blue, Machado, Oliveira and Fernandes 2009).
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
    "deuteranopia": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(colour: str) -> np.ndarray:
    parts = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lightness(colour: np.ndarray) -> float:
    return float(np.array([0.2126, 0.7152, 0.0722]) @ np.clip(colour, 0, 1))


def texts(drawn: str) -> list[str]:
    return ["".join(one.itertext()) for one in ElementTree.fromstring(drawn).iter(TEXT)]


def scatter_svg(*of: Any) -> str:
    return svg(charts.scatter_figure(*of))


def bars_svg(*of: Any) -> str:
    return svg(charts.bars_figure(*of))


def transfer_svg(transfer: Transfer) -> str:
    return svg(charts.transfer_figure(transfer))


def cosine_svg(transfer: Transfer) -> str:
    return svg(charts.cosine_figure(transfer))


class TestPalette:
    def test_contrast_of_text(self) -> None:
        for colour, ink in heat_colours():
            light, dark = sorted((lightness(linear(colour)), lightness(linear(ink))), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, colour

    def test_lightness_rises_for_every_reader(self) -> None:
        for blindness, seen in BLINDNESS.items():
            values = [lightness(np.array(seen) @ linear(colour)) for colour, _ in heat_colours()]
            assert all(np.diff(values) > 0), blindness

    def test_luminance(self) -> None:
        # WCAG 2.2: black, white and its primary colours.
        for colour, value in (("#000000", 0), ("#ffffff", 1), ("#ff0000", 0.2126)):
            assert abs(luminance(colour) - value) < 1e-9


class TestPictures:
    def test_scatter(self) -> None:
        rows = [row for row in model_rows.rows(board(models=2)) if row.balanced is not None]
        drawn = scatter_svg(rows, [f"{MARKUP} {place}" for place in range(len(rows))])
        said = texts(drawn)
        assert {"baseline", "ablation", "mcd"} <= set(said)
        assert any(MARKUP in text for text in said)
        assert "usefulness, 1 - FRR (%)" in said

    def test_no_interval_leaves_the_axes(self) -> None:
        one, other = record("en", 1, 10), record("en", 0, 10, metric="false_refusal_rate")
        rows = model_rows.rows(
            with_means([one, replace(other, dataset="harmless", value=0.1, low=0.02, high=0.4)])
        )
        drawn = scatter_svg(rows, ["a"])
        box = re.search(
            r'<g id="patch_2">\s*<path d="M ([\d.]+) ([\d.]+)\s+L ([\d.]+) [\d.]+\s+'
            r"L [\d.]+ ([\d.]+)", drawn,
        )  # fmt: skip
        assert box
        left, bottom, right, top = map(float, box.groups())
        lines = [
            [tuple(map(float, end)) for end in re.findall(r"[ML] ([\d.]+) ([\d.]+)", group)]
            for group in re.findall(r'<g id="LineCollection_\d+">(.*?)</g>', drawn, re.DOTALL)
        ]
        assert len(lines) == 2
        for ends in lines:
            assert len(ends) == 2
            for across, down in ends:
                assert left < across < right
                assert top < down < bottom

    def test_bars(self) -> None:
        baseline = {"de": record("de", 1), "en": record("en", 0)}
        ablation = {"de": record("de", 9), "en": record("en", 10)}
        drawn = bars_svg([(MARKUP, baseline, ablation)], "Harmful answers")
        said = texts(drawn)
        assert {MARKUP, "de", "en", "baseline", "ablation"} <= set(said)
        boxes = re.findall(
            r'<path d="M \S+ (\S+) \nL \S+ \S+ \nL \S+ (\S+) \nL \S+ \S+ \nz\n" clip-path', drawn
        )
        heights = [float(bottom) - float(top) for bottom, top in boxes]
        assert heights[0] > 0
        # 1 and 0 of 10 without ablation, 9 and 10 with it.
        assert [height / heights[0] for height in heights] == pytest.approx([1, 0, 9, 10], abs=1e-3)

    @pytest.mark.filterwarnings("error")
    def test_any_names_are_drawn_without_a_warning(self) -> None:
        languages = [letter * 9000 for letter in "ab中"]
        baseline = {name: record(name, 1) for name in languages}
        said = texts(bars_svg([("模型", baseline, baseline)], "Harmful answers"))
        assert {"模型", f"…{'a' * 11}", f"…{'中' * 11}"} <= set(said)
        rows = model_rows.rows(board(models=2))
        rows = [replace(row, condition="c" * 9000) for row in rows if row.balanced is not None]
        assert f"…{'c' * 63}" in texts(scatter_svg(rows, ["名"] * len(rows)))

    def test_transfer_and_cosine(self) -> None:
        said = texts(transfer_svg(TRANSFER))
        assert {"none", "de", "en", "ar", "91.0", "96.0", "0.0", "2.0"} <= set(said)
        assert {"1.00", "-0.75"} <= set(texts(cosine_svg(TRANSFER)))

    def test_the_same_again(self) -> None:
        assert transfer_svg(TRANSFER) == transfer_svg(TRANSFER)
        assert "http://www.w3.org/2000/svg" in transfer_svg(TRANSFER)

    def test_inline(self) -> None:
        part = charts.inline(cosine_svg(TRANSFER), "p1")
        root = ElementTree.fromstring(part)
        assert (root.get("width"), root.get("height")) == (None, None)
        assert root.get("viewBox")
        ids = re.findall(r'\bid="([^"]*)"', part)
        assert ids
        assert all(name.startswith("p1-") for name in ids)
        for target in re.findall(r'(?:href="#|url\(#)([^")]*)', part):
            assert target in ids
        assert INK not in part
        assert "currentColor" in part
        assert "<metadata" not in part
