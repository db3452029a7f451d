"""The page in a real browser: Debian's Chromium, driven by playwright, without a network."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from polyrefuse_leaderboard import model_rows
from polyrefuse_leaderboard.contents import Contents
from polyrefuse_leaderboard.published import Source
from polyrefuse_leaderboard.records import MEAN, Record
from polyrefuse_leaderboard.site import write_site
from polyrefuse_leaderboard.warnings import RateWarning

from tests.leaderboard.invented import board, record, wilson, with_means
from tests.leaderboard.invented_study import whole_study

CHROMIUM = shutil.which("chromium")
MARKUP = '<img src=x onerror="document.title=1"></script><b>&amp;"\''

pytest.importorskip("playwright", reason="playwright is not installed: pip install playwright")
if CHROMIUM is None:
    pytest.skip("no chromium on PATH: apt-get install chromium", allow_module_level=True)

from playwright.sync_api import Browser, Page, expect, sync_playwright  # noqa: E402

# Relative luminance and contrast, as WCAG 2.2 defines them, of everything that shows text.
CONTRASTS = """
() => {
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parts(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    const unseen = e.closest("svg, script, style, noscript, [hidden], .skip");
    if (!own || unseen || !e.getClientRects().length) continue;
    const ink = light(parts(getComputedStyle(e).color));
    const [a, b] = [ink, light(behind(e))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), e.tagName + " " + e.textContent.trim().slice(0, 40)]);
  }
  return found;
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            # CI runs as root, where Chromium's own sandbox does not start.
            executable_path=CHROMIUM, args=["--no-sandbox"],
        )  # fmt: skip
        yield launched
        launched.close()


@dataclass
class Opened:
    """A page, and what it said and asked for."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Any]:
    opened: list[Opened] = []

    def open_file(file: Path, *, width: int = 1600, scheme: Any = "light") -> Opened:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        one = Opened(page)
        page.on("console", lambda message: one.said.append(message.text))
        page.on("pageerror", lambda error: one.said.append(str(error)))
        page.on("request", lambda request: one.asked.append(request.url))
        page.goto(file.as_uri())
        opened.append(one)
        return one

    yield open_file
    for one in opened:
        assert one.said == []
        assert [url for url in one.asked if not url.startswith(("file:", "data:"))] == []
        assert len(one.asked) == 1, "the page is one file"
        one.page.close()


def written(folder: Path, records: list[Record], **more: Any) -> Path:
    shown = Contents("Invented", records, model_rows.rows(records), **more)
    write_site(folder / "site", shown)
    return folder / "site"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = board(models=4)
    # A second dataset and a second judge, of one model.
    records += with_means(
        record(language, 20 + step, 50, dataset="advbench", judge="wildguard")
        for step, language in enumerate(("de", "en", "zh"))
    )
    notes = ["an invented note"]
    return written(tmp_path_factory.mktemp("site"), records, problems=["bad.json"], notes=notes)


def column(page: Page, language: str) -> list[str]:
    """The rates of a language's column, from above."""
    heads = [head.strip() for head in page.locator("#rates thead th").all_inner_texts()]
    place = next(at for at, head in enumerate(heads) if head == language)
    return page.eval_on_selector_all(
        "#rates tbody tr",
        "(rows, place) => rows.map((row) => row.children[place].querySelector('b').textContent)",
        place,
    )


def rows(page: Page) -> list[tuple[str, str]]:
    return [
        (row[0], row[1])
        for row in page.eval_on_selector_all(
            "#rates tbody tr",
            "(rows) => rows.map((row) => [...row.children].slice(0, 2).map((c) => c.textContent))",
        )
    ]


class TestRates:
    def test_cells_are_the_records(self, site: Path, open_page: Any) -> None:
        page = open_page(site / "index.html").page
        records = json.loads((site / "leaderboard.json").read_text(encoding="utf-8"))["records"]
        page.select_option("#metric", "asr")
        page.select_option("#dataset", "harmful")
        wanted = {
            (one["model"], one["condition"], one["language"]): one
            for one in records
            if one["metric"] == "asr" and one["dataset"] == "harmful"
        }
        heads = page.locator("#rates thead th").all_inner_texts()
        shown = page.eval_on_selector_all(
            "#rates tbody tr",
            """(rows) => rows.map((row) => [...row.children].map((cell) =>
                [...cell.querySelectorAll("b, small")].map((e) => e.textContent) ))""",
        )
        seen = 0
        for (model, condition), cells in zip(rows(page), shown, strict=True):
            for head, cell in list(zip(heads, cells, strict=True))[2:]:
                one = wanted[model, condition, head.strip()]
                value, low, high = (f"{100 * one[key]:.1f}" for key in ("value", "low", "high"))
                assert cell == [value, f"{low}–{high}", f"n {one['n']}"]
                seen += 1
        assert seen == len(wanted) == 4 * 3 * 4

    def test_sort_by_click_and_by_key(self, site: Path, open_page: Any) -> None:
        page = open_page(site / "index.html").page
        page.select_option("#dataset", "harmful")
        german = page.locator("#rates thead th", has_text=re.compile(r"^\s*de\s*$"))
        german.click()
        expect(german).to_have_attribute("aria-sort", "descending")
        values = [float(text) for text in column(page, "de")]
        assert values == sorted(values, reverse=True)
        german.locator("[role=button]").focus()
        page.keyboard.press("Enter")
        expect(german).to_have_attribute("aria-sort", "ascending")
        values = [float(text) for text in column(page, "de")]
        assert values == sorted(values)
        assert len(set(values)) > 1
        assert page.locator("#rates [aria-sort]").count() == 1

    def test_filters(self, site: Path, open_page: Any) -> None:
        page = open_page(site / "index.html").page
        page.select_option("#dataset", "harmful")
        assert len(rows(page)) == 12
        assert page.locator("#rates_info").inner_text() == "1 to 12 of 12 rows"
        assert page.locator("#rates_info").get_attribute("aria-live") == "polite"
        page.get_by_label("ablation", exact=True).uncheck()
        assert {condition for _, condition in rows(page)} == {"baseline", "mcd"}
        assert page.locator("#rates_info").inner_text() == "1 to 8 of 8 rows (of 12)"
        page.get_by_label("Model", exact=True).fill("MODEL-3")
        assert rows(page) == [("invented/model-3", "baseline"), ("invented/model-3", "mcd")]
        page.get_by_label("Model", exact=True).fill("none of them")
        assert page.locator("#rates tbody").inner_text().strip() == "No rows match the filters."

    def test_languages(self, site: Path, open_page: Any) -> None:
        page = open_page(site / "index.html").page
        page.select_option("#dataset", "harmful")

        def shown() -> list[str]:
            heads = page.locator("#rates thead th").all_inner_texts()
            return [head.strip() for head in heads][2:]

        # Chinese has no harmful prompts here, and so no column.
        assert shown() == [MEAN, "ar", "de", "en"]
        page.get_by_text("Languages (3 of 3)").click()
        page.get_by_label("Arabic (ar)").uncheck()
        assert shown() == [MEAN, "de", "en"]
        assert page.get_by_text("Languages (2 of 3)").is_visible()
        page.get_by_role("button", name="None").click()
        assert shown() == []
        page.get_by_role("button", name="All").click()
        assert shown() == [MEAN, "ar", "de", "en"]

    def test_metric_dataset_and_judge(self, site: Path, open_page: Any) -> None:
        page = open_page(site / "index.html").page
        caption = page.locator("#rates caption")

        def choices(name: str) -> list[str]:
            return page.locator(f"#{name} option").all_inner_texts()

        assert choices("metric") == ["Attack success rate", "False refusal rate"]
        assert choices("dataset") == ["advbench", "harmful"]
        assert choices("judge") == ["wildguard"]
        assert "dataset advbench, judge wildguard" in caption.inner_text()
        assert column(page, "zh") == ["44.0"]
        page.select_option("#metric", "false_refusal_rate")
        assert choices("dataset") == ["harmless"]
        assert choices("judge") == ["native"]
        assert caption.inner_text() == (
            "False refusal rate in percent, dataset harmless, judge native"
        )
        assert "harmless prompts refused" in page.locator("#metric-help").inner_text()
        assert len(rows(page)) == 12

    def test_hover_and_arrow_keys(self, site: Path, open_page: Any) -> None:
        page = open_page(site / "index.html").page
        page.select_option("#dataset", "harmful")
        tip = page.locator("#tip")
        assert tip.is_hidden()
        # The second row is the ablated model-0; 121 + 3 of 997 in German.
        page.locator("#rates tbody tr").nth(1).locator("td.rate").nth(2).hover()
        text = tip.inner_text()
        assert "invented/model-0, mcd" in text or "invented/model-0, ablation" in text
        assert "German" in text
        assert "(Wilson), n = 997" in text
        assert "invented/2026-01-01T00-00-00.000001" in text
        page.mouse.move(5, 5)
        assert tip.is_hidden()
        first = page.locator("#rates tbody td.rate").first
        first.focus()
        assert "mean of the languages" in tip.inner_text()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowRight")
        at = page.evaluate(
            "[document.activeElement.parentElement.rowIndex, document.activeElement.cellIndex]"
        )
        assert at == [2, 3]
        assert "Arabic" in tip.inner_text()
        assert page.locator("#rates tbody [tabindex='0']").count() == 1
        page.keyboard.press("Escape")
        assert tip.is_hidden()

    def test_focus_at_400_pixels_is_seen(self, site: Path, open_page: Any) -> None:
        page = open_page(site / "index.html", width=400).page
        page.select_option("#dataset", "harmful")
        page.locator("#rates tbody td.rate").first.focus()
        for key in ("ArrowDown",) * 8 + ("ArrowRight",) * 3 + ("ArrowLeft",):
            page.keyboard.press(key)
            cell, head, clear = page.evaluate(
                """() => { const e = document.activeElement, box = e.getBoundingClientRect();
                const head = e.parentElement.firstElementChild.getBoundingClientRect();
                const inside = box.right <= innerWidth && box.bottom <= innerHeight + 1;
                return [box.left, head.right, inside && box.top >= 0] }"""
            )
            # Not behind the column that stays, and not outside the window.
            assert cell >= head - 1
            assert clear
        expect(page.locator("#tip")).to_be_visible()


class TestModels:
    def test_balance_and_conditions(self, site: Path, open_page: Any) -> None:
        page = open_page(site / "index.html").page
        heads = [head.strip() for head in page.locator("#models thead th").all_inner_texts()]
        line = page.locator("#models tbody tr", has_text="invented/model-1").first
        cells = dict(zip(heads, line.locator("th, td").all_inner_texts(), strict=True))
        assert cells["Condition"] == "baseline"
        asr = sum((11 + 3 * step + 1) / 997 for step in range(3)) / 3
        frr = sum(((12 + 3 * step) * 7 % 400) / 401 for step in range(3)) / 3
        ablated = sum((131 + 3 * step + 1) / 997 for step in range(3)) / 3
        assert cells["ASR"].startswith(f"{100 * asr:.1f}")
        assert cells["FRR"].startswith(f"{100 * frr:.1f}")
        assert cells["ASR, ablation"].startswith(f"{100 * ablated:.1f}")
        balanced = 2 * (1 - asr) * (1 - frr) / (2 - asr - frr)
        assert cells["Balanced score"] == f"{100 * balanced:.1f}"
        assert cells["ASR gap"] == f"{100 * 6 / 997:.1f}"
        assert cells["Worst language"] == "English"
        assert (
            "2 (1 - ASR) (1 - FRR) / ((1 - ASR) + (1 - FRR))" in page.locator("main").inner_text()
        )

    def test_harmful_answers_stand_beside_asr(self, tmp_path: Path, open_page: Any) -> None:
        """By each judge of harm, its name as text; sorted by number, of the first judge."""
        records = []
        for model, hits in (("a", 9), ("b", 40), ("c", 5)):
            records += with_means([record("de", 50, 100, model=model)])
            for judge, more in ((MARKUP, 0), ("polyguard", 1)):
                one = record("de", hits + more, 100, model=model, metric="asr_harmful", judge=judge)
                records += with_means([one])
        page = open_page(written(tmp_path, records) / "index.html").page
        page.select_option("#model-judge", "native")
        heads = page.locator("#models thead th")
        texts = [head.strip() for head in heads.all_inner_texts()]
        place = texts.index("Harmful ASR")
        assert texts[place - 1] == "ASR"
        heads.nth(place).click()
        # The table sorts behind the click.
        expect(heads.nth(place)).to_have_attribute("aria-sort", "descending")
        cells = page.locator(f"#models tbody tr td:nth-child({place + 1})").all_inner_texts()
        assert [cell.split()[0] for cell in cells] == ["40.0", "9.0", "5.0"]
        low, high = (f"{100 * end:.1f}" for end in wilson(40, 100))
        assert cells[0].split("\n")[:2] == ["40.0", f"{low}–{high}, n 100, {MARKUP}"]
        assert "41.0" in cells[0]
        assert cells[0].endswith("n 100, polyguard")
        expect(page.locator("#columns dt", has_text="Harmful ASR")).to_be_visible()

    def test_filters(self, tmp_path: Path, open_page: Any) -> None:
        more = with_means([record("de", 5, dataset="advbench", judge="wildguard", model="Other")])
        site = written(tmp_path, [*board(models=2), *more])
        page = open_page(site / "index.html").page

        def models_shown() -> list[tuple[str, str]]:
            return page.eval_on_selector_all(
                "#models tbody tr",
                "(rows) => rows.map((row) => [row.children[0].textContent, "
                "row.children[1].textContent])",
            )

        assert len(models_shown()) == 7
        page.get_by_label("Its condition").select_option("mcd")
        assert models_shown() == [["invented/model-0", "mcd"], ["invented/model-1", "mcd"]]
        page.get_by_label("Model name").fill("MODEL-1")
        assert models_shown() == [["invented/model-1", "mcd"]]
        page.get_by_label("Model name").fill("")
        page.get_by_label("Its condition").select_option("any")
        page.get_by_label("Its judge").select_option("wildguard")
        assert models_shown() == [["Other", "baseline"]]
        page.get_by_label("Its dataset").select_option("harmful")
        assert page.locator("#models tbody").inner_text().strip() == "No rows match the filters."

    def test_no_word_of_columns_that_are_not_there(self, tmp_path: Path, open_page: Any) -> None:
        page = open_page(written(tmp_path, with_means([record("de", 5)])) / "index.html").page
        assert page.locator("#columns dt:visible").all_inner_texts() == ["ASR"]
        # What all rows have in common is said once.
        assert (
            page.locator("#models caption").inner_text().endswith(", dataset harmful, judge native")
        )
        assert page.get_by_label("Its dataset").is_hidden()

    def test_rows_with_warnings_say_so(self, tmp_path: Path, open_page: Any) -> None:
        records = with_means([record("de", 3), record("de", 3, dataset="advbench")])
        first = records[0]
        warned = RateWarning(
            first.model, first.revision, first.condition, first.intervention, (first.generation,),
            ("harmful",), ("de",), (first.run,), "An <i>invented</i> reason to take care.",
        )  # fmt: skip
        other = replace(warned, datasets=(), languages=(), text="Another.")
        again = replace(other, condition="ablation")
        shown = written(tmp_path, records, warnings=[warned, other, again])
        page = open_page(shown / "index.html").page
        one, several = page.locator("#warnings-heading ~ ul > li").all()
        assert one.inner_text().splitlines() == [
            warned.text,
            "Where it applies (1)",
            f"{first.model}, {first.condition}, harmful in de ({first.run})",
        ]
        # The places of a warning that many rows have do not push the tables down the page.
        assert several.inner_text().splitlines() == ["Another.", "Where it applies (2)"]
        several.locator("summary").click()
        assert several.locator("li").all_inner_texts() == [
            f"{first.model}, {condition} ({first.run})"
            for condition in (first.condition, "ablation")
        ]
        page.select_option("#dataset", "harmful")
        assert page.locator("#rates .seen").all_inner_texts() == ["1 warning above"]
        page.locator("#rates td.rate").first.hover()
        assert f"Warning: {warned.text}" in page.locator("#tip").inner_text()
        page.select_option("#dataset", "advbench")
        assert page.locator("#rates .seen").count() == 0
        assert page.locator("#models .seen").all_inner_texts() == ["1 warning above"]

    @pytest.mark.parametrize("width", [400, 1600])
    def test_rows_that_a_prompt_was_trained_on(
        self, tmp_path: Path, open_page: Any, width: int
    ) -> None:
        records = board(models=1)
        overlap = {"harmful": 3, "multijail": None}
        rows = [
            replace(row, overlap=overlap if row.condition == "mcd" else {})
            for row in model_rows.rows(records)
        ]
        write_site(tmp_path / "site", Contents("Invented", records, rows))
        page = open_page(tmp_path / "site/index.html", width=width).page
        for table in ("#rates", "#models"):
            (said,) = page.locator(f"{table} .seen").all()
            assert said.inner_text() == "trained on 3 of these prompts"
            assert "mcd" in said.locator("xpath=../..").inner_text()
            # In sight without scrolling sideways.
            box = said.bounding_box()
            assert 0 <= box["x"] <= box["x"] + box["width"] <= width
        page.locator("#rates td.rate").nth(4).hover()
        assert "Safety prompt: trained on 3 of these prompts" in page.locator("#tip").inner_text()
        assert "harmful: 3, multijail: not known" in page.locator("#models").inner_text()
        page.select_option("#metric", "false_refusal_rate")
        assert page.locator("#rates .seen").count() == 0


class TestPrint:
    def test_all_columns_and_colours(self, tmp_path: Path, open_page: Any) -> None:
        languages = ("ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "ru", "th", "yo")
        site = written(tmp_path, board(models=2, languages=languages))
        # A4 across, without its margins.
        page = open_page(site / "index.html", width=1046, scheme="dark").page
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("document.documentElement.scrollWidth") <= 1046
        for table in ("#rates", "#models"):
            assert page.locator(table).bounding_box()["width"] <= 1046
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)"
        )
        cell = page.locator("#rates td.rate").first
        assert cell.evaluate("(e) => getComputedStyle(e).printColorAdjust") == "exact"


class TestLook:
    @pytest.mark.parametrize("width", [400, 1600])
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_contrast_and_width(self, site: Path, open_page: Any, width: int, scheme: str) -> None:
        page = open_page(site / "index.html", width=width, scheme=scheme).page
        page.select_option("#dataset", "harmful")
        # Nothing is wider than the window: tables and pictures scroll in boxes of their own.
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 100
        assert [low for low in contrasts if low[0] < 4.5] == []

    def test_dark_by_the_system_and_by_the_switch(self, site: Path, open_page: Any) -> None:
        dark = "getComputedStyle(document.body).backgroundColor"
        page = open_page(site / "index.html", scheme="dark").page
        switch = page.get_by_role("button", name="Dark")
        assert page.evaluate(dark) == "rgb(22, 24, 27)"
        assert switch.get_attribute("aria-pressed") == "true"
        switch.click()
        assert page.evaluate(dark) == "rgb(255, 255, 255)"
        assert switch.get_attribute("aria-pressed") == "false"
        page = open_page(site / "index.html", scheme="light").page
        switch = page.get_by_role("button", name="Dark")
        switch.focus()
        page.keyboard.press("Enter")
        assert page.evaluate(dark) == "rgb(22, 24, 27)"

    def test_picture_takes_the_pages_ink(self, site: Path, open_page: Any) -> None:
        page = open_page(site / "index.html", scheme="dark").page
        ink = page.eval_on_selector("figure svg text", "(text) => getComputedStyle(text).fill")
        assert ink == "rgb(233, 234, 236)"


class TestKeyboard:
    def test_every_control_is_reached_and_seen(self, site: Path, open_page: Any) -> None:
        page = open_page(site / "index.html").page
        reached = []
        for _ in range(60):
            page.keyboard.press("Tab")
            here = page.evaluate(
                """() => { const e = document.activeElement, s = getComputedStyle(e);
                const name = e.id || e.className || e.tagName;
                return [name, s.outlineStyle, parseFloat(s.outlineWidth)] }"""
            )
            if here[0] == "BODY":
                break
            assert (here[1], here[2] >= 2) == ("solid", True), here
            reached.append(here[0])
        wanted = {"skip", "theme", "metric", "dataset", "judge", "search", "dt-column-order"}
        assert wanted <= set(reached)
        assert any("scroll" in name for name in reached)
        assert any(name.startswith("rate") for name in reached), "the cells are one stop"


class TestScreenReader:
    def test_names_and_roles(self, site: Path, open_page: Any) -> None:
        page = open_page(site / "index.html").page
        for table in ("#rates", "#models"):
            assert page.locator(f"{table} caption").inner_text()
            assert page.locator(f"{table} thead th:not([scope=col])").count() == 0
            heads = page.locator(f"{table} tbody tr > :first-child")
            assert heads.count() == page.locator(f"{table} tbody th[scope=row]").count() > 0
        unnamed = page.evaluate(
            """[...document.querySelectorAll("select, input, button, [role=button]")].filter(
                (e) => !(e.labels?.length || e.textContent.trim() || e.ariaLabel)).length"""
        )
        assert unnamed == 0
        pictures = page.locator("figure [role=img]")
        assert pictures.count() > 0
        for place in range(pictures.count()):
            assert pictures.nth(place).get_attribute("aria-label")
        ids = page.eval_on_selector_all("[id]", "(all) => all.map((e) => e.id)")
        assert len(ids) == len(set(ids))


class TestWords:
    def test_a_newcomer_is_told(self, site: Path, tmp_path: Path, open_page: Any) -> None:
        page = open_page(site / "index.html").page
        words = page.locator("section[aria-labelledby=terms-heading]").inner_text()
        for term in ("baseline", "ablation+mcd", "95% interval", "native", "substring"):
            assert term in words
        assert page.get_by_text("Measured with lm-eval-polyrefuse").is_visible()
        assert page.locator("#rates thead th[title='German']").inner_text().strip() == "de"
        assert "whose n is the sum of the languages' n" in page.locator("main").inner_text()

    def test_numbers_of_others_are_not_ours(self, tmp_path: Path, open_page: Any) -> None:
        source = Source("a place", "https://example.org", "of numbers")
        page = open_page(written(tmp_path, board(), sources=[source]) / "index.html").page
        intro = page.locator("header").inner_text()
        assert "Measured with" not in intro
        assert "Others measured these numbers: where they come from." in intro


class TestRuns:
    def test_several_runs_are_of_the_row(self, tmp_path: Path, open_page: Any) -> None:
        cells = with_means([record("de", 1, run="a/1"), record("en", 2, run="b/2")])
        page = open_page(written(tmp_path, cells) / "index.html").page
        page.locator("#rates td.rate").nth(1).hover()
        assert "Runs of this row: a/1, b/2" in page.locator("#tip").inner_text()


class TestMarkup:
    def test_names_are_text(self, tmp_path: Path, open_page: Any) -> None:
        records = with_means(
            record(
                language, 3, model=f"{MARKUP}/{condition}", dataset=MARKUP, judge=MARKUP,
                run=MARKUP, condition=condition, revision=MARKUP,
            )
            for language in ("en", MARKUP)
            for condition in ("baseline", MARKUP)
        )  # fmt: skip
        site = written(tmp_path, records, problems=[MARKUP], notes=[MARKUP])
        page = open_page(site / "index.html").page
        assert page.title() == "Invented"
        assert page.locator("img, b img, main script").count() == 0
        texts = page.locator("#rates tbody th").all_text_contents()
        assert sorted(texts) == sorted([f"{MARKUP}/baseline", f"{MARKUP}/{MARKUP}"])
        assert MARKUP in page.locator("#rates caption").inner_text()
        page.locator("#rates td.rate").first.hover()
        assert MARKUP in page.locator("#tip").inner_text()
        assert page.locator("li.problem").inner_text() == MARKUP


class TestPages:
    def test_index_leads_to_the_pages(self, tmp_path: Path, open_page: Any) -> None:
        records = with_means(
            record(language, number % 90, 97, model=f"invented/model-{number:03}")
            for number in range(201)
            for language in ("de", "en")
        )
        site = written(tmp_path, records)
        assert sorted(file.name for file in site.glob("*.html")) == [
            "index.html", "page-1.html", "page-2.html",
        ]  # fmt: skip
        opened = open_page(site / "index.html")
        page = opened.page
        assert page.locator("#rates").is_hidden()
        assert page.locator("#models_info").inner_text() == "1 to 25 of 201 rows"
        link = page.locator("#models tbody th a").first
        assert link.get_attribute("href") == "page-1.html"
        assert [link.inner_text() for link in page.locator("nav[aria-label^=Pages] a").all()] == [
            "invented/model-000 to invented/model-199",
            "invented/model-200 to invented/model-200",
        ]
        second = open_page(site / "page-2.html").page
        assert rows(second) == [("invented/model-200", "baseline")]
        first = open_page(site / "page-1.html").page
        assert first.locator("#rates_info").inner_text() == "1 to 25 of 200 rows"
        first.get_by_role("link", name="Next").first.click()
        assert first.locator("#rates_info").inner_text() == "26 to 50 of 200 rows"


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_safety_card(open_page: Any, tmp_path: Path, width: int, scheme: str) -> None:
    page = open_page(whole_study(tmp_path), width=width, scheme=scheme).page
    expect(page.get_by_role("heading", level=1)).to_have_text("Safety card of chat")
    fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert page.evaluate(fits), "the page itself does not scroll sideways"
    assert min(page.evaluate(CONTRASTS)) >= [4.5]
    # Every link of the contents leads to a heading of the page.
    for link in page.get_by_role("navigation").get_by_role("link").all():
        heading = page.locator(link.get_attribute("href"))
        expect(heading).to_have_text(link.inner_text())
    pictures = page.locator("figure .picture > svg").all()
    assert len(pictures) == 4
    for picture in pictures:
        box = picture.bounding_box()
        assert box["width"] > 200 and box["height"] > 100
    # The heads of a table's rows stay in sight while it is scrolled.
    region = page.get_by_role("region", name="Attack success rate: harmful, judge native")
    region.scroll_into_view_if_needed()
    before = region.locator("tbody th").first.bounding_box()
    region.evaluate("(element) => { element.scrollLeft = 1000 }")
    assert region.locator("tbody th").first.bounding_box()["x"] == before["x"]


@pytest.mark.parametrize("width", [400, 1600])
def test_capability_stands_beside_the_rates(open_page: Any, tmp_path: Path, width: int) -> None:
    rates = with_means([record("de", 3, 10), record("en", 1, 10)])
    fallen = replace(
        rates[0], kind="capability", language="", judge="", dataset="mmlu", metric="acc",
        value=0.4, low=0.3, high=0.5, n=100, higher_is_better=True, difference=-0.2,
        difference_low=-0.3, difference_high=-0.1, pairs=100,
    )  # fmt: skip
    page = open_page(written(tmp_path, [*rates, fallen]) / "index.html", width=width).page
    heads = [head.strip() for head in page.locator("#models thead th").all_inner_texts()]
    cell = page.locator("#models tbody tr").first.locator("td, th").nth(heads.index("mmlu acc"))
    expect(cell).to_contain_text("0.4 (0.3 to 0.5), n = 100")
    expect(cell).to_contain_text("-0.2 (-0.3 to -0.1), 100 pairs: ▼ worse")
    expect(page.locator("#columns [data-column=capability]")).to_be_visible()
