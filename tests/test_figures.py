"""Every figure that a command draws: complete, legible, and with its numbers beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from polyrefuse_models.directions import geometry_pictures, transfer_pictures
from polyrefuse_models.directions.marks import KNOWN, LINES, language_lines, readable
from polyrefuse_models.directions.planes import square_limits
from polyrefuse_models.directions.score_pictures import rejected, scores_figure
from polyrefuse_models.directions.select import DEFAULT, Candidate
from polyrefuse_models.mcd import training_pictures
from polyrefuse_shared import colours, pictures
from polyrefuse_shared.colours import DARK_INK, DARK_PAPER, INK, PAPER
from tests.invented_figures import LARGE, SMALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MODELS = {"large": LARGE, "small": SMALL}

TITLED = {"board-scatter"}
"""Figures of several models."""


@cache
def figures(size: str) -> dict[str, Figure]:
    drawn = MODELS[size].figures()
    with pictures.style():
        for figure in drawn.values():
            FigureCanvasAgg(figure).draw()
    return drawn


NAMES = (
    "scores", "geometry", "geometry_layers", "geometry_monitor", "geometry_harmfulness",
    "geometry_answers", "geometry_answers_layers", "transfer", "cosine", "universality", "sweep",
    "rank", "training", "states", "board-scatter", "board-bars", "board-conditions",
    "board-transfer", "board-cosine",
)  # fmt: skip


@pytest.fixture(scope="module", params=["small", pytest.param("large", marks=pytest.mark.slow)])
def size(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("name", NAMES)
class TestEveryFigure:
    def test_every_panel_has_data_labels_and_ticks(self, size: str, name: str) -> None:
        figure = figures(size)[name]
        whole = [text.get_text() for text in (figure._supxlabel, figure._supylabel) if text]  # type: ignore[attr-defined]
        for axis in figure.axes:
            if not axis.axison:
                # A table, or the place of a panel that is not needed: no empty frame is drawn.
                continue
            assert axis.has_data(), axis.get_title()
            for side, label in ((axis.xaxis, axis.get_xlabel()), (axis.yaxis, axis.get_ylabel())):
                shared = of_the_outermost(axis, side is axis.xaxis)
                assert label or shared or len(whole) == 2, axis.get_title()
                assert len(visible_ticks(axis, side)) >= 2, (axis.get_title(), label)

    def test_no_text_is_cut_off_or_lies_on_another(self, size: str, name: str) -> None:
        figure = figures(size)[name]
        texts = list(written(figure))
        whole = figure.bbox
        for text, box in texts:
            assert box.x0 >= -1 and box.y0 >= -1, text
            assert box.x1 <= whole.width + 1 and box.y1 <= whole.height + 1, text
        for (one, a), (other, b) in combinations(texts, 2):
            # A pixel of the boxes, which are higher than their letters.
            apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
            assert apart, (one, other)

    def test_the_model_has_its_short_name(self, size: str, name: str) -> None:
        figure = figures(size)[name]
        said = [text for text, _ in written(figure)]
        model = MODELS[size].model
        assert not any(model in text or "/" in text for text in said)
        if name not in TITLED:
            assert any(pictures.short_name(model) in text for text in said)

    def test_a_control_is_told(self, size: str, name: str) -> None:
        drawn = figures(size)[name]
        titles = " ".join(drawn.get_suptitle().split())
        if name.startswith("geometry"):
            told = "control: a random direction (seed 3) in place of the refusal direction"
            assert titles.endswith(told) == MODELS[size].control
        elif name == "sweep":
            assert ("random direction added" in titles) == MODELS[size].control

    def test_png_and_svg(self, size: str, name: str) -> None:
        files = pictures.files(name, figures(size)[name], {"a": 1})
        assert list(files) == [f"{name}.png", f"{name}.svg", f"{name}.json"]
        assert files[f"{name}.png"].startswith(b"\x89PNG")
        drawn = files[f"{name}.svg"].decode()
        root = ElementTree.fromstring(drawn)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        # No black on a dark page: what is neither ink nor data has the colour of a heat map's text.
        if name not in ("transfer", "cosine", "board-transfer", "board-cosine"):
            body = drawn.replace(pictures.DARK, "")
            assert not re.search(r"(fill|stroke): #000000", body)
            for style in re.findall(r'<text[^>]*style="([^"]*)"', body):
                assert "fill:" in style


def visible_ticks(axis: Axes, side: Any) -> list[float]:
    low, high = sorted(axis.get_xlim() if side is axis.xaxis else axis.get_ylim())
    return [tick for tick in side.get_majorticklocs() if low <= tick <= high]


def of_the_outermost(axis: Axes, across: bool) -> bool:
    """Whether an axis shares a scale with another panel, which has the label."""
    siblings = (axis.get_shared_x_axes() if across else axis.get_shared_y_axes()).get_siblings(axis)
    labels = [one.get_xlabel() if across else one.get_ylabel() for one in siblings]
    return any(labels)


def written(figure: Figure) -> Iterator[tuple[str, Any]]:
    """Every text that is seen, and its box in pixels; not those of a table or of a legend's box."""
    from matplotlib.text import Text

    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    hidden = {
        label
        for axis in figure.axes
        for side in (axis.xaxis, axis.yaxis)
        for tick in side.get_major_ticks()
        for label in (tick.label1, tick.label2)
        if not axis.axison or not label.get_visible()
        or not in_view(axis, side is axis.xaxis, tick.get_loc())
    }  # fmt: skip
    for text in figure.findobj(Text):
        if text in hidden or not text.get_visible() or not text.get_text().strip():
            continue
        yield text.get_text(), text.get_window_extent(renderer)


def in_view(axis: Axes, across: bool, at: float) -> bool:
    low, high = sorted(axis.get_xlim() if across else axis.get_ylim())
    slack = 1e-9 * (high - low)
    return low - slack <= at <= high + slack


class TestNumbers:
    """The JSON beside a figure: `NAME.json`, or the document whose name its name begins with."""

    def numbers_of(self, figure: str, files: set[str]) -> list[str]:
        return [name for name in files if figure.startswith(name.removesuffix(".json"))]

    def test_of_a_geometry(self) -> None:
        document = SMALL.geometry()
        files = geometry_pictures.pictures_of(document)
        names = {name.rpartition(".")[0] for name in files}
        assert names == {name for name in NAMES if name.startswith("geometry")}
        assert set(files) == {f"{name}.{ending}" for name in names for ending in ("png", "svg")}
        json.dumps(document, allow_nan=False)
        for name in names:
            assert self.numbers_of(name, {"geometry.json"})
        # What is drawn is what is written.
        panel = geometry_pictures.geometry_figure(document).axes[1]
        for kind, points in document["plane"]["de"].items():
            (drawn,) = (one for one in panel.collections if one.get_label() == kind)
            np.testing.assert_allclose(drawn.get_offsets(), points)

    def test_of_a_transfer(self) -> None:
        document = SMALL.transfer()
        files = transfer_pictures.pictures_of(document)
        assert set(files) | {"transfer.json"} == {
            f"{name}.{ending}"
            for name in ("transfer", "cosine", "universality")
            for ending in ("png", "svg", "json")
        }
        assert json.loads(files["cosine.json"])["cosine"] == document["cosine"]
        by_layer = json.loads(files["universality.json"])["explained_by_one_by_layer"]
        assert by_layer == document["explained_by_one_by_layer"]

    def test_of_a_training(self) -> None:
        trained = SMALL.trained()
        files = training_pictures.pictures_of(trained)
        assert set(files) == {
            f"{name}.{ending}"
            for name in ("training", "states")
            for ending in ("png", "svg", "json")
        }
        losses = json.loads(files["training.json"])["losses"]
        assert losses["refusal"] == [step.refusal for step in trained.losses]
        states = json.loads(files["states.json"])
        assert states["states"]["de"]["before"]["harmless"] == (
            trained.before["de"][trained.labels == 1].tolist()
        )
        assert states["probes"]["refusal"] == {"weight": [1.0, pytest.approx(0.2)], "bias": -4.0}


class TestScales:
    @pytest.mark.parametrize("name", ["geometry", "states"])
    def test_a_distance_is_as_long_in_both_directions(self, size: str, name: str) -> None:
        figure = figures(size)[name]
        for axis in figure.axes:
            if axis.axison:
                (x0, y0), (x1, y1) = axis.transData.transform([(0, 0), (1, 1)])
                assert x1 - x0 == pytest.approx(y1 - y0, rel=1e-3)

    def test_limits_hold_all_points(self) -> None:
        points = np.random.default_rng(3).normal(size=(50, 2)) * (100, 1) + (5, -7)
        (left, right), (bottom, top) = square_limits(points)
        assert right - left == pytest.approx(top - bottom)
        assert left < points[:, 0].min() and points[:, 0].max() < right
        assert bottom < points[:, 1].min() and points[:, 1].max() < top
        # One point has no extent, and its panel has.
        (left, right), _ = square_limits(points[:1])
        assert left < points[0, 0] < right


class TestRejected:
    def test_arrows_stand_at_the_limit(self) -> None:
        direction = LARGE.direction()
        panels = scores_figure(direction).axes
        axis = next(panel for panel in panels if panel.get_ylabel().startswith("KL"))
        _, chosen = LARGE.chosen
        arrows = [
            (x, y)
            for line in axis.lines
            if line.get_linestyle() == "None" and not isinstance(line.get_marker(), str)
            for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
        ]
        ranked = {
            (one.position, one.layer): one.refusal_score
            for one in direction.scores
            if one.refusal_score is not None
        }
        before = [place for place, score in ranked.items() if score < ranked[(-1, chosen)]]
        assert len(arrows) == len(before) > 20
        assert {y for _, y in arrows} == {DEFAULT.kl_limit}
        assert sorted(round(x) for x, _ in arrows) == sorted(layer for _, layer in before)
        low, high = axis.get_ylim()
        assert low < 0 < DEFAULT.kl_limit < high

    def test_where_none_is_within_the_limit_all_were_rejected(self) -> None:
        direction = SMALL.direction()
        scores = [
            Candidate(-1, 0, refusal_score=-3.0),
            Candidate(-1, 1, refusal_score=-2.0, kl_div_score=0.5),
            Candidate(-1, 2, refusal_score=-1.0),
        ]
        direction.metadata["layer"] = 1
        direction.scores[:] = scores
        assert rejected(direction, DEFAULT) == [scores[0], scores[2]]
        # A choice within the limit says nothing of those that come after it.
        scores[1] = direction.scores[1] = Candidate(-1, 1, -2.0, None, 0.1)
        assert rejected(direction, DEFAULT) == [scores[0]]


def test_angles_that_are_all_the_same_are_said_once() -> None:
    report = SMALL.transfer()
    assert "subspaces 21 degrees" in transfer_pictures.universality_figure(report).get_suptitle()
    report = LARGE.transfer()
    report["principal_angles"]["degrees"][0][1] = [7.0, 7.0]
    figure = transfer_pictures.universality_figure(report)
    assert "subspaces 7 to 21 degrees" in figure.get_suptitle()


class TestMarks:
    @pytest.mark.parametrize(
        ("token", "read"),
        [
            ("Ċ", r"\n"), ("ĊĊ", r"\n\n"), ("Ġassistant", "␣assistant"), ("<0x0A>", r"\n"),
            ("▁model", "␣model"), ("<|im_end|>", "<|im_end|>"), ("\t", r"\t"), ("å¥½", "好"),
            ("好", "好"), ("é", "é"),
        ],
    )  # fmt: skip
    def test_tokens(self, token: str, read: str) -> None:
        assert readable(token) == read

    def test_a_language_has_the_same_line_in_every_figure(self) -> None:
        alone, among = language_lines(["de"]), language_lines(["yo", "xx", "de", "en", "qq"])
        assert alone["de"] == among["de"]
        assert len({tuple(line.items()) for line in among.values()}) == 5
        everyone = language_lines(KNOWN)
        assert len({tuple(line.items()) for line in everyone.values()}) == len(KNOWN)
        assert list(among) == ["yo", "xx", "de", "en", "qq"]
        many = language_lines([f"x{place}" for place in range(40)])
        assert all(line in LINES for line in many.values())


class TestColours:
    def test_every_condition_has_a_style_of_its_own(self) -> None:
        from polyrefuse_leaderboard.table import CONDITIONS

        assert list(colours.CONDITIONS) == list(CONDITIONS)
        styles = [*colours.CONDITIONS.values(), colours.OTHER_CONDITION]
        assert len(set(styles)) == len(styles)
        assert colours.of_condition("ablation+system-prompt") == colours.OTHER_CONDITION

    def test_every_colour_is_seen_on_light_and_on_dark(self) -> None:
        """At a contrast of 2 to 1 at least, beside a marker or a line style of its own."""
        for colour in (*colours.PALETTE.values(), colours.GREY):
            for ground in (PAPER, DARK_PAPER):
                light, dark = sorted(map(colours.luminance, (colour, ground)), reverse=True)
                assert (light + 0.05) / (dark + 0.05) > 2, (colour, ground)

    def test_dark(self) -> None:
        """Each ink of the figure has a rule that exchanges it, and data keeps its colours."""
        drawn = pictures.svg(figures("small")["sweep"])
        assert drawn.count(pictures.DARK) == 1
        rules = re.findall(r'\[style\*="(\w+): (#\w+)"\] \{ \1: (#\w+) !important \}', drawn)
        assert {(light, dark) for _, light, dark in rules} == {(INK, DARK_INK), (PAPER, DARK_PAPER)}
        body = drawn.replace(pictures.DARK, "")
        for part, light, _ in rules:
            assert f"{part}: {light}" in body or (part, light) == ("stroke", PAPER)
        assert colours.REFUSED in body
