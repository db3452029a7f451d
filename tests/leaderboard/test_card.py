"""Safety cards: what they say of a study, and what they must not show."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from polyrefuse_leaderboard.card.side_effects import section as section_of_effects
from polyrefuse_leaderboard.card.study import BadSummary, read_study
from polyrefuse_leaderboard.card.subjects import Measured
from polyrefuse_leaderboard.card.universality import section, universality
from polyrefuse_leaderboard.drifts import Divergence, Drift
from polyrefuse_leaderboard.records import Record
from polyrefuse_leaderboard.transfers import Transfer
from scipy.stats import binomtest

from tests.leaderboard.invented_study import MODEL, build, whole_study, write_study

LANGUAGES = ("de", "en", "yo")


def wilson(hits: int, n: int) -> tuple[float, float]:
    found = binomtest(hits, n).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def matrix(asr: list[list[float]], baseline: list[float], refused: list[int], n: int) -> Transfer:
    return Transfer(
        given="m", model="m", dataset="harmful", judge="native",
        sources=LANGUAGES, targets=LANGUAGES, baseline=tuple(baseline),
        refusals=tuple((count, n) for count in refused), asr=tuple(map(tuple, asr)),
        cosine=((1.0, 0.9, 0.7), (0.9, 1.0, 0.8), (0.7, 0.8, 1.0)), position=-1, layer=3,
        path="transfer.json",
    )  # fmt: skip


class TestUniversality:
    def test_a_direction_breaks_what_answers_half_of_the_refused(self) -> None:
        # 40 prompts: de refuses 40, en 36, yo 20 of them untouched.
        found = universality(
            matrix(
                [[1, 0.95, 0.75], [0.475, 1, 1], [0.5, 0.55, 0.1]],
                [0, 0.1, 0.5], [40, 36, 20], 40,
            )
        )  # fmt: skip
        # From de: en rises by 34 of 36, yo by 10 of 20: half, and above chance.
        # From en: de rises by 19 of 40, less than half; from yo: de by 20 of 40, en by 18 of 36.
        assert found.broken == {"de": ("en", "yo"), "en": ("yo",), "yo": ("de", "en")}
        assert found.resisted == {"de": (), "en": ("de",), "yo": ()}
        assert found.universal == ("de", "yo")
        assert found.nothing_to_break == ()

    def test_a_rise_that_chance_makes_breaks_nothing(self) -> None:
        # One more of two prompts: half of the refused, and within the interval of no difference.
        found = universality(matrix([[1, 0.5, 1]] * 3, [0, 0, 0], [2, 2, 2], 2))
        assert found.resisted["de"] == ("en",)

    def test_where_nothing_is_refused_nothing_is_counted(self) -> None:
        found = universality(matrix([[1, 1, 1]] * 3, [0, 1, 0], [40, 0, 40], 40))
        assert found.nothing_to_break == ("en",)
        assert found.broken == {"de": ("yo",), "en": ("de", "yo"), "yo": ("de",)}
        only = universality(matrix([[1, 1, 1]] * 3, [0, 1, 1], [40, 0, 0], 40))
        # The direction from de has no other language to break.
        assert only.counted == ("en", "yo")

    def test_the_share_has_its_interval_and_its_n(self) -> None:
        told = " ".join(
            section([matrix([[1, 1, 1], [1, 1, 1], [0, 1, 1]], [0, 0, 0], [30, 30, 30], 30)]).text
        )
        low, high = wilson(2, 3)
        assert (
            f"The directions of 2 of 3 languages break every other: 66.7% (95% interval "
            f"{100 * low:.1f} to {100 * high:.1f}, n = 3 languages" in told
        )
        assert "The direction from Yoruba (yo) does not break German (de)." in told
        assert "lie between 0.70 and 0.90 (mean 0.80, 3 pairs)" in told
        assert "One vector" not in told

    def test_the_share_that_one_vector_explains(self) -> None:
        one = replace(matrix([[1] * 3] * 3, [0] * 3, [30] * 3, 30), explained=0.9712)
        assert (
            "One vector explains 97.1% of the languages' directions (n = 3; if they were "
            "orthogonal, it would explain 33.3%)." in section([one]).text
        )


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_study(tmp_path_factory.mktemp("study"))


def table(markdown: str, caption: str) -> dict[str, dict[str, str]]:
    """Rows of a table of the Markdown, by their heads, by the heads of columns."""
    lines = markdown.split(f"**{caption}**\n\n")[1].split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    head, _, *rows = cells
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def capability(condition: str, **more: Any) -> Record:
    usual = {
        "model": "m", "revision": "", "intervention": "", "generation": "", "dataset": "mmlu",
        "language": "", "judge": "", "metric": "acc", "value": 0.5, "n": 100, "low": 0.4,
        "high": 0.6, "run": "m/2026-01-01T00-00-00", "kind": "capability",
        "higher_is_better": True,
    }  # fmt: skip
    return Record(**usual | {"condition": condition} | more)


class TestSideEffects:
    def test_what_was_lost_is_said_in_words(self) -> None:
        lost = {"difference": -0.1, "difference_low": -0.15, "difference_high": -0.05}
        records = [
            capability("ablation", value=0.4, pairs=100, **lost),
            capability("baseline"),
            # Of a perplexity less is better.
            capability("mcd", metric="word_perplexity", higher_is_better=False,
                       difference=2.0, difference_low=1.0, difference_high=3.0),
            capability("addition", difference=-0.1, difference_low=-0.2, difference_high=0.01),
        ]  # fmt: skip
        (found,) = section_of_effects(Measured("chat", [], records, [], {}), {}).tables
        assert [(row[2], row[4]) for row in found.rows] == [
            ("baseline", "-"),
            ("addition", "-0.1 (-0.2 to +0.01)"),
            ("ablation", "-0.1 (-0.15 to -0.05), 100 pairs: ▼ worse"),
            ("mcd", "+2 (+1 to +3): ▼ worse"),
        ]

    def test_divergences_by_language_and_condition(self) -> None:
        some = Divergence(8, 0.0123, 0.01, 0.02, 0.5, 0.75, 0.4, 0.93)
        drifts = {
            "half": Drift("ablation", "", "harmless", {"en": some}),
            "mcd": Drift("mcd", "", "harmless", {"yo": some}),
        }
        (found,) = section_of_effects(Measured("chat", [], [], [], {}), drifts).tables
        said = ("0.0123 (0.01 to 0.02), n = 8", "75.0 (40.0 to 93.0)")
        assert found.columns[1::2] == ("half (ablation)", "mcd")
        assert found.rows == (
            ("English (en)", *said, "-", "-"),
            ("Yoruba (yo)", "-", "-", *said),
        )


class TestCard:
    def test_rates_by_language_and_condition(self, card: Path) -> None:
        markdown = card.with_suffix(".md").read_text(encoding="utf-8")
        asr = table(markdown, "Attack success rate: harmful, judge native")
        low, high = wilson(1, 4)
        rate = f"25.0 ({100 * low:.1f} to {100 * high:.1f}), n = 4"
        # Columns have the study's own name of a condition.
        assert asr["English (en)"]["baseline"] == rate
        assert asr["German (de)"]["half (ablation)"].startswith("100.0 (")
        assert asr["mean"]["baseline"].startswith("37.5 (")
        refusal = table(markdown, "False refusal rate: harmless, judge native")
        assert refusal["English (en)"]["baseline"] == rate
        loophole = table(markdown, "Loophole rate: harmful, judge native")
        # One prompt is refused in English and answered in German: "rrrc" beside "rrcc".
        assert loophole["German (de)"]["baseline"] == rate

    def test_what_was_not_measured_and_why(self, card: Path) -> None:
        markdown = card.with_suffix(".md").read_text(encoding="utf-8")
        items = markdown.split("## What was not measured, and why\n\n")[1].split("\n\n")[0]
        for said in (
            "- The job chat/mcd failed: The disk is full.\n",
            "- The job chat/mcd-judged-by-other was not started: chat/mcd failed.\n",
            "- Condition addition shows what the model refuses with its refusal direction added: "
            "the study does not have this condition.\n",
            "- Condition mcd shows how much a learned safety prompt repairs: there are no "
            "results.\n",
            "- Control random-ablation: there are no results",
            "- Capability: the study runs no other task",
            "- Geometry: the study does not measure it",
            "- Agreement of the judges: no two judges",
            "- Harmful answers: no harm judge",
        ):
            assert said in items, said
        assert "Universality" not in items
        # A warning is of what was measured.
        warnings = markdown.split("## Warnings\n\n")[1].split("\n\n")[0]
        assert warnings == (
            "- baseline and half; harmful and harmless: Only the first 4 of 572 prompts were used "
            "(--limit 4)."
        )

    def test_how_to_repeat_it(self, card: Path) -> None:
        markdown = card.with_suffix(".md").read_text(encoding="utf-8")
        assert table(markdown, "Versions")["torch"]["version"] == "2.13.0"
        assert table(markdown, "Weights")["contents"]["checksum"] == "0123abcd"
        assert list(table(markdown, "Runs")) == ["baseline", "half"]
        assert "harmful/de.json" in table(markdown, "Prompts")
        assert "lm_eval --model_args pretrained=chat --output_path jobs/chat-half.0123" in markdown

    def test_no_answers_no_paths_and_no_scripts(self, card: Path) -> None:
        for file in (card, card.with_suffix(".md")):
            text = unescape(file.read_text(encoding="utf-8"))
            assert "invented prompt" not in text
            assert Path(MODEL).parent.as_posix() not in text
        page = _Text()
        page.feed(card.read_text(encoding="utf-8"))
        assert page.tags.isdisjoint({"script", "iframe", "img"})
        linked = re.findall(r'(?:href|src)="([^"#][^"]*)"', card.read_text(encoding="utf-8"))
        others = {link for link in linked if not link.startswith("../figures/card-1-")}
        assert sorted(others) == ["../index.html", "chat.md", "data:,"]

    def test_html_and_markdown_say_the_same(self, card: Path) -> None:
        page = _Text()
        page.feed(card.read_text(encoding="utf-8"))
        shown = {" ".join(part.split()) for part in page.text}
        markdown = card.with_suffix(".md").read_text(encoding="utf-8")
        for line in markdown.splitlines():
            if line.startswith("| ") and "---" not in line:
                for cell in line.strip("|").split(" | "):
                    plain = unescape(re.sub(r"\\(.)", r"\1", cell.strip()))
                    assert not plain or plain in shown, plain

    def test_a_hub_reads_the_results(self, card: Path) -> None:
        read = ModelCard.load(card.with_suffix(".md"), ignore_metadata_errors=False).data
        assert read.model_name == "chat"
        results = {(one.metric_type, one.dataset_config): one for one in read.eval_results}
        asr = results["asr", "en"]
        low, high = wilson(1, 4)
        assert asr.metric_value == 25.0
        assert asr.metric_args == {
            "judge": "native", "n": 4, "low": round(100 * low, 2), "high": round(100 * high, 2)
        }  # fmt: skip
        # What was done to the model in memory is no result of its weights.
        assert results["asr", "mean"].metric_value == 37.5
        order = [one.dataset_config for one in read.eval_results if one.metric_type == "asr"]
        assert order == ["mean", "de", "en"]

    def test_pictures_are_files_with_their_numbers(self, card: Path) -> None:
        """As those of the pages: the card links each as SVG, PNG and JSON."""
        html = card.read_text(encoding="utf-8")
        site = card.parent.parent
        linked = re.findall(r'href="\.\./(figures/[^"]+)"', html)
        assert linked == [
            f"figures/card-1-{name}.{ending}"
            for name in ("rates-1", "rates-2", "transfer-1", "cosine-1")
            for ending in ("svg", "png", "json")
        ]
        assert sorted(linked) == sorted(
            path.relative_to(site).as_posix() for path in site.glob("figures/card-*")
        )
        assert (site / "figures/card-1-rates-1.png").read_bytes().startswith(b"\x89PNG")
        drawn = (site / "figures/card-1-rates-1.svg").read_text(encoding="utf-8")
        assert ">chat: harmful, judge native<" in drawn
        assert ">n = 4 prompts; lines are 95% intervals<" in drawn
        numbers = json.loads((site / "figures/card-1-rates-1.json").read_bytes())
        assert numbers["metric"] == "asr"
        low, high = wilson(1, 4)
        assert numbers["conditions"]["baseline"]["en"] == {
            "value": 0.25, "low": pytest.approx(low), "high": pytest.approx(high), "n": 4
        }  # fmt: skip
        matrix = json.loads((site / "figures/card-1-transfer-1.json").read_bytes())
        assert {"sources", "targets", "baseline", "asr"} < matrix.keys()

    def test_the_leaderboard_links_it(self, card: Path) -> None:
        index = (card.parent.parent / "index.html").read_text(encoding="utf-8")
        assert '<a href="cards/chat.html">chat</a>' in index


def test_cards_come_and_go_with_the_study_and_leave_others_files(tmp_path: Path) -> None:
    cards = whole_study(tmp_path).parent
    own = cards / "mine.md"
    own.write_text("# Safety card of my own\n")
    assert build(tmp_path)[0] == 0
    assert sorted(path.name for path in cards.iterdir()) == ["mine.md"]
    assert not list(cards.parent.glob("figures/card-*"))
    assert build(tmp_path, "--study", tmp_path / "summary.json")[0] == 0
    assert sorted(path.name for path in cards.iterdir()) == ["chat.html", "chat.md", "mine.md"]
    (cards / "chat.md").write_text("# Somebody's\n")
    code, out, err = build(tmp_path, "--study", tmp_path / "summary.json")
    assert (code, out) == (2, "")
    assert "chat.md is in the way" in err.splitlines()[-1]
    assert (cards / "chat.md").read_text() == "# Somebody's\n"


def test_a_study_without_results_has_a_card_that_says_so(tmp_path: Path) -> None:
    summary = write_study(tmp_path)
    document = json.loads(summary.read_text())
    # A second model of which every job failed.
    lost = {"state": "failed", "said": "It cannot be loaded."}
    document["jobs"].append(dict(document["jobs"][0], name="lost/baseline", model="lost", **lost)
                            | {"folder": "jobs/none"})  # fmt: skip
    summary.write_text(json.dumps(document))
    code, _, err = build(tmp_path, "--study", summary)
    assert code == 0, err
    text = (tmp_path / "site/cards/lost.md").read_text()
    assert "The job lost/baseline failed: It cannot be loaded." in text
    assert "model-index" not in text
    ModelCard.load(tmp_path / "site/cards/lost.md")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not the summary of a study"),
        ("[]", "is not the summary of a study"),
        ("{}", "is not the summary of a study"),
        ('{"study": 3, "versions": {}, "jobs": [{}]}', "state of job 1 is None"),
        ('{"study": "a", "versions": [], "jobs": []}', "is not the summary of a study"),
        (
            '{"study": "a", "versions": {}, "jobs": [{"name": "m/b"}]}',
            "is not the summary of a study",
        ),
    ],
)
def test_a_file_that_is_no_summary(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "summary.json"
    file.write_text(text)
    with pytest.raises(BadSummary, match=re.escape(said)):
        read_study(file)
    with pytest.raises(BadSummary, match="cannot be read"):
        read_study(tmp_path / "none.json")


def test_sections_stand_in_the_order_of_the_questions(card: Path) -> None:
    markdown = card.with_suffix(".md").read_text(encoding="utf-8")
    titles = (
        *("At a glance", "By language", "Loopholes", "Universality of the refusal direction"),
        *(
            "Warnings",
            "What was not measured, and why",
            "How to read the rates",
            "How to repeat it",
        ),
    )
    places = [markdown.index(f"## {title}") for title in titles]
    assert all(one < other for one, other in pairwise(places))
