"""Safety cards of studies that are named badly, broken, or not what they say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from polyrefuse_leaderboard.card.html import unbroken
from polyrefuse_leaderboard.card.model_index import results
from polyrefuse_leaderboard.card.parts import slugs
from polyrefuse_leaderboard.card.study import BadSummary, read_study
from polyrefuse_leaderboard.card.subjects import Measured
from polyrefuse_leaderboard.page.charts import conditions_figure

from polyrefuse_shared.pictures import svg
from tests.commands import assert_one_sentence
from tests.leaderboard.invented import record
from tests.leaderboard.invented_study import build, job, write_study
from tests.leaderboard.result_files import transfer_report

Change = Callable[[dict[str, Any]], object]


def changed(folder: Path, change: Change, transfer: dict[str, Any] | None = None) -> Path:
    """A study's summary.json, changed."""
    summary = write_study(folder, transfer)
    document = json.loads(summary.read_text(encoding="utf-8"))
    change(document)
    summary.write_text(json.dumps(document), encoding="utf-8")
    return summary


def built(folder: Path, summary: Path) -> str:
    """The Markdown of the model's card."""
    code, _, err = build(folder, "--study", summary)
    assert code == 0, err
    return (folder / "site" / "cards" / "chat.md").read_text(encoding="utf-8")


def section(markdown: str, title: str) -> str:
    return markdown.split(f"## {title}\n\n")[1].split("\n\n## ")[0]


class TestNamesOfFiles:
    def test_models_whose_names_differ_in_marks_have_files_of_their_own(self) -> None:
        names = ("chat 7b", "chat-7b", "CHAT-7B", "chat.7b", "other")
        found = slugs(names)
        assert len({slug.casefold() for slug in found.values()}) == len(names)
        # A name that tells the model from all others is the file's.
        assert (found["chat.7b"], found["other"]) == ("chat.7b", "other")
        assert slugs(names[::-1]) == found

    @pytest.mark.parametrize("name", ["w" * 300, "ж" * 300, "..", "/", "...hidden", "-x"])
    def test_any_name_makes_a_file_that_is_not_hidden(self, name: str, tmp_path: Path) -> None:
        (slug,) = slugs([name]).values()
        (tmp_path / f"{slug}-01234567.html").write_text("")
        assert re.match(r"\w", slug)

    def test_every_model_of_a_study_has_a_card(self, tmp_path: Path) -> None:
        def twice(document: dict[str, Any]) -> None:
            for entry in document["jobs"]:
                entry["model"] = "chat a"
            document["jobs"] += [
                entry | {"model": "chat-a", "name": f"chat-a/{entry['condition']}{number}"}
                for number, entry in enumerate(document["jobs"])
            ]

        code, _, err = build(tmp_path, "--study", changed(tmp_path, twice))
        assert code == 0, err
        cards = sorted((tmp_path / "site/cards").glob("*.md"))
        assert {ModelCard.load(card).data.model_name for card in cards} == {"chat a", "chat-a"}
        index = (tmp_path / "site/index.html").read_text(encoding="utf-8")
        linked = re.findall(r'href="(cards/[^"]*)"', index)
        assert sorted(linked) == sorted(f"cards/{card.stem}.html" for card in cards)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"folder": "/etc"}, "the folder of job 1 is '/etc', which is not in the study's own"),
        ({"results": "../../elsewhere"}, "'../../elsewhere', which is not in the study's own"),
        ({"model": ""}, "model of job 1 is '', not a name"),
        ({"model": "chat\x1b[2J"}, "not a name"),
        ({"condition": "a\nb"}, "condition of job 1 is 'a\\\\nb', not a name"),
        ({"condition": ["a"]}, "condition of job 1 is ['a'], not a name"),
        ({"model": "m" * 501}, "has 501 characters, of which 500 can be shown"),
        ({"state": "dreaming"}, "state of job 1 is 'dreaming', not one of finished, failed"),
        ({"rests_on": "weights"}, "rests_on of job 1 is 'weights', not an object"),
        ({"command": None}, "command of job 1 is None, not a text"),
        ({"name": "chat/half"}, "it has 2 jobs called chat/half"),
    ],
)
def test_a_job_that_no_study_has(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    summary = changed(tmp_path, lambda document: document["jobs"][0].update(change))
    with pytest.raises(BadSummary) as caught:
        read_study(summary)
    assert said.replace("\\\\", "\\") in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(summary))
    assert_one_sentence(build(tmp_path, "--study", summary), "is not the summary of a study")
    assert not (tmp_path / "site").exists()


def test_a_summary_without_what_it_needs_says_what(tmp_path: Path) -> None:
    for key in ("study", "versions", "jobs"):
        summary = changed(tmp_path / key, lambda document, key=key: document.pop(key))
        with pytest.raises(BadSummary, match=rf"\({key} is None, not "):
            read_study(summary)


class TestWhatWentWrong:
    def test_the_reason_of_a_failure_shows_no_path_and_steers_no_terminal(
        self, tmp_path: Path
    ) -> None:
        said = "Loading\nNo file \x1b[31m/home/invented/secret/weights.bin\x1b[0m was found ü"

        def fail(document: dict[str, Any]) -> None:
            document["jobs"][2]["said"] = said
            document["jobs"][3] |= {"state": "failed", "said": "x " * 10**5, "because": ""}

        markdown = built(tmp_path, changed(tmp_path, fail))
        html = (tmp_path / "site/cards/chat.html").read_text(encoding="utf-8")
        for text in (markdown, html):
            assert "/home/invented" not in text and "\x1b" not in text
            assert "weights.bin" in text and "was found ü." in text
        items = section(markdown, "What was not measured, and why").splitlines()
        assert max(map(len, items)) < 700

    def test_a_damaged_file_costs_a_sentence_and_no_card(self, tmp_path: Path) -> None:
        summary = write_study(tmp_path)
        (samples,) = (tmp_path / "jobs/chat-half.0123").rglob("samples_*_harmful_de_*")
        samples.write_text("{")
        items = section(built(tmp_path, summary), "What was not measured, and why")
        assert "samples\\_polyrefuse\\_harmful\\_de" in items
        assert "chat-baseline.0123" not in items

    def test_results_that_cannot_be_used_are_not_called_unfinished(self, tmp_path: Path) -> None:
        summary = write_study(tmp_path)
        (results,) = (tmp_path / "jobs/chat-half.0123").rglob("results_*")
        results.write_text("{")
        items = section(built(tmp_path, summary), "What was not measured, and why")
        assert "- The job chat/half has finished, but none of its results could be used." in items
        # What the study calls half may be any condition.
        assert (
            "- Condition ablation shows how the model answers without its refusal direction: "
            "there are no results." in items
        )

    @pytest.mark.parametrize("state", ["failed", "finished"])
    def test_what_the_study_asked_is_not_asked_for(self, tmp_path: Path, state: str) -> None:
        def ask(document: dict[str, Any]) -> None:
            document["jobs"] += [
                job(tmp_path, f"chat/{kind}", kind, state=state, said="No room.")
                for kind in ("transfer", "geometry", "judging", "drift", "capability")
            ]

        items = section(built(tmp_path, changed(tmp_path, ask)), "What was not measured, and why")
        assert "list " not in items
        if state == "failed":
            assert items.count("No room.") == 5
        else:
            for said in (
                "chat/transfer: its folder has no transfer.json.",
                "chat/drift: drift.json cannot be read",
                "chat/geometry: geometry.json cannot be read",
            ):
                assert said in items

    def test_warnings_of_directions_are_shown(self, tmp_path: Path) -> None:
        report = transfer_report(de=["The direction is weak"])
        markdown = built(tmp_path, changed(tmp_path, lambda _: None, report))
        warnings = section(markdown, "Warnings")
        assert "- transfer matrix: The direction from de: The direction is weak." in warnings


class TestMarkup:
    COMMAND = "lm_eval --system_instruction 'one  blank\n```\n</code></pre><script>x</script>'"

    def test_a_command_is_shown_as_it_is_typed(self, tmp_path: Path) -> None:
        markdown_it = pytest.importorskip("markdown_it", reason="rich brings markdown-it-py")

        def name(document: dict[str, Any]) -> None:
            # Behind the mark of a list four blanks would not make code.
            document["jobs"][0] |= {"name": "- <b>*chat*", "command": f"{self.COMMAND}\x1b[2J"}

        markdown = built(tmp_path, changed(tmp_path, name))
        tokens = markdown_it.MarkdownIt("commonmark").parse(markdown.split("\n---\n", 1)[1])
        shown = f"{self.COMMAND}\ufffd[2J\n"
        assert shown in [token.content for token in tokens if token.type == "fence"]
        kinds = {token.type for block in tokens for token in (block, *(block.children or ()))}
        assert not kinds & {"html_block", "html_inline", "code_block", "link_open", "image"}
        html = (tmp_path / "site/cards/chat.html").read_text(encoding="utf-8")
        assert "<script" not in html and "\x1b" not in html
        assert escape(shown.strip(), quote=False).replace("'", "&#39;") in html

    def test_names_of_conditions_are_text(self, tmp_path: Path) -> None:
        mark = "<img src=x>|[a](http://b.c)`*"

        def name(document: dict[str, Any]) -> None:
            for entry in document["jobs"]:
                entry["condition"] = entry["condition"] and f"{mark}{entry['condition']}"

        summary = changed(tmp_path, name)
        markdown = built(tmp_path, summary)
        assert "<img" not in markdown and re.search(r"(?<!\\)[\[\]]", markdown) is None
        head = next(line for line in markdown.splitlines() if line.startswith("| language |"))
        assert len(re.findall(r"(?<!\\)\|", head)) == 4
        html = (tmp_path / "site/cards/chat.html").read_text(encoding="utf-8")
        assert "<img" not in html and escape(f"{mark}half (ablation)") in html


class TestGeometry:
    REPORT: dict[str, Any] = {
        "schema": 2,
        "dataset": "toyrefuse",
        "position": -2,
        "layer": 7,
        "languages": {
            language: {
                "harmful": {"n": 31}, "harmless": {"n": 29}, "auc": auc, "silhouette": -0.125,
                "harmful_against_english": against,
            }
            for language, auc, against in (("en", 0.98765, 1.0), ("yo", 0.5, None))
        },
    }  # fmt: skip

    NEWER: dict[str, Any] = {
        "monitor": {
            "calibrated_in": "en", "false_alarms": 0.1, "seed": 0, "calibration_prompts": 14,
            "threshold": 0.5,
            "languages": {
                "en": {
                    "false_alarms": {
                        "hits": 1, "n": 15, "rate": 1 / 15, "low": 0.0119, "high": 0.2982,
                    },
                    "detected": {
                        "hits": 28, "n": 31, "rate": 28 / 31, "low": 0.7510, "high": 0.9665,
                    },
                },
                "yo": {
                    "false_alarms": None,
                    "detected": {"hits": 15, "n": 30, "rate": 0.5, "low": 0.336, "high": 0.664},
                },
            },
        },
        "success": {
            "condition": "baseline", "judge": "native",
            "languages": {
                "en": {"auc": {"harmful": {
                    "auc": None, "low": None, "high": None, "refused": 31, "answered": 0,
                }}},
                "yo": {"auc": {"harmful": {
                    "auc": 0.875, "low": 0.612, "high": 0.969, "refused": 20, "answered": 11,
                }}},
            },
        },
    }  # fmt: skip

    def card(self, folder: Path, report: object) -> str:
        def ask(document: dict[str, Any]) -> None:
            document["jobs"].append(job(folder, "chat/geometry", "geometry"))
            place = folder / document["jobs"][-1]["folder"] / "geometry"
            place.mkdir()
            (place / "geometry.json").write_text(json.dumps(report))

        return built(folder, changed(folder, ask))

    def test_its_numbers_are_shown_with_their_file(self, tmp_path: Path) -> None:
        shown = section(self.card(tmp_path, self.REPORT), "Geometry")
        assert "The numbers are from jobs/chat-geometry.0123/geometry/geometry.json." in shown
        assert "**Harmful and harmless prompts at position -2, layer 7: toyrefuse**" in shown
        # Newcombe's intervals, which schema 2 does not have.
        assert "| English (en) | 0.988 (0.910 to 0.998) | -0.12 | 31 | 29 | 1.00 |" in shown
        assert "| Yoruba (yo) | 0.500 (0.360 to 0.640) | -0.12 | 31 | 29 | - |" in shown

    def test_a_report_with_intervals(self, tmp_path: Path) -> None:
        languages = {
            language: of | {"auc_low": 0.25, "auc_high": 0.75}
            for language, of in self.REPORT["languages"].items()
        }
        report = self.REPORT | {"schema": 3, "languages": languages} | self.NEWER
        shown = section(self.card(tmp_path, report), "Geometry")
        assert "| Yoruba (yo) | 0.500 (0.250 to 0.750) | -0.12 | 31 | 29 | - |" in shown

    def test_the_monitor_and_the_answers_of_a_run(self, tmp_path: Path) -> None:
        languages = {
            language: of | {"auc_low": 0.25, "auc_high": 0.75}
            for language, of in self.REPORT["languages"].items()
        }
        report = self.REPORT | {"schema": 4, "languages": languages} | self.NEWER
        shown = section(self.card(tmp_path, report), "Geometry")
        assert (
            "**Monitor, calibrated on 14 harmless prompts in English (en) for at most 10.0% false "
            "alarms**"
        ) in shown
        assert "| English (en) | 6.7 (1.2 to 29.8), n = 15 | 90.3 (75.1 to 96.7), n = 31 |" in shown
        assert "| Yoruba (yo) | - | 50.0 (33.6 to 66.4), n = 30 |" in shown
        assert (
            "**Refused against complied harmful prompts in the condition baseline, judge native**"
        ) in shown
        assert "| Yoruba (yo) | 0.875 (0.612 to 0.969) | 20 | 11 |" in shown
        # Too few of its prompts were complied with.
        assert shown.count("| English (en) |") == 2

    def test_without_a_threshold_and_without_answers_there_is_no_table(
        self, tmp_path: Path
    ) -> None:
        languages = {
            language: of | {"auc_low": 0.25, "auc_high": 0.75}
            for language, of in self.REPORT["languages"].items()
        }
        silent = self.NEWER["monitor"] | {"threshold": None}
        newer = {"monitor": silent, "success": None}
        report = self.REPORT | {"schema": 4, "languages": languages} | newer
        shown = section(self.card(tmp_path, report), "Geometry")
        assert "onitor" not in shown and "complied" not in shown

    def test_a_broken_monitor_is_told(self, tmp_path: Path) -> None:
        languages = {
            language: of | {"auc_low": 0.25, "auc_high": 0.75}
            for language, of in self.REPORT["languages"].items()
        }
        broken = self.NEWER["monitor"] | {"false_alarms": 1.5}
        report = self.REPORT | {"schema": 4, "languages": languages} | self.NEWER
        markdown = self.card(tmp_path, report | {"monitor": broken})
        items = section(markdown, "What was not measured, and why")
        assert "1.5 is not a number from 0 to 1" in items

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"schema": 9}, "(schema 9)"),
            ({"schema": 3}, "(it has no 'auc\\_low')"),
            ({"languages": {}}, "(languages is {})"),
            ({"layer": 2.5}, "(2.5 is not the position or layer of a direction)"),
            ({"dataset": "a\nb"}, "not a name"),
            ({"languages": {"en": {}}}, "(it has no 'harmful\\_against\\_english')"),
        ],
    )
    def test_a_report_that_is_none(self, tmp_path: Path, change: Any, said: str) -> None:
        markdown = self.card(tmp_path, self.REPORT | change)
        assert "## Geometry" not in markdown
        items = section(markdown, "What was not measured, and why")
        assert said.replace("{", "\\{").replace("}", "\\}") in items

    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            ("auc", 1.5, "1.5 is not a number from 0 to 1"),
            ("silhouette", float("nan"), "nan is not a number from -1 to 1"),
            ("harmful", {"n": 0}, "0 is not a number of prompts"),
            ("harmless", {"n": 10**30}, "is not a number of prompts"),
        ],
    )
    def test_a_number_that_is_none(self, tmp_path: Path, key: str, value: Any, said: str) -> None:
        entry = self.REPORT["languages"]["en"] | {key: value}
        markdown = self.card(tmp_path, self.REPORT | {"languages": {"en": entry}})
        assert said in section(markdown, "What was not measured, and why")


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("25.0 (4.6 to 69.9), n = 4", "25.0 (4.6~to~69.9), n~=~4"),
        ("+2 (-0.5 to +3e+02), 50 pairs", "+2 (-0.5~to~+3e+02), 50 pairs"),
        ("half (like ablation)", "half (like ablation)"),
    ],
)
def test_lines_of_a_cell_break_between_its_parts(cell: str, shown: str) -> None:
    assert unbroken(cell).replace("\xa0", "~") == shown


def test_a_hub_is_told_the_rates_of_the_baseline_alone() -> None:
    half = "m/2026-01-02T00-00-00.000001"
    records = [record("de", 3), record("de", 9, run=half)]
    names = {"2026-01-01T00-00-00.000001": "baseline", half.split("/")[1]: "half"}
    told = results(Measured("chat", [], records, [], names))
    assert [one.metric_value for one in told] == [30.0]
    # Whatever the study calls it, where it has one alone.
    told = results(Measured("chat", [], records[1:], [], names))
    assert [one.metric_value for one in told] == [90.0]


class TestPicture:
    def test_it_is_as_wide_whatever_it_shows(self) -> None:
        def size(conditions: int, languages: int) -> tuple[float, float]:
            codes = [f"l{number}" for number in range(languages)]
            rates = {
                f"condition {place}": {code: record(code, place + 1) for code in codes}
                for place in range(conditions)
            }
            drawn = svg(conditions_figure(rates, "Attack success"))
            found = re.search(r'viewBox="0 0 (\S+) (\S+)"', drawn)
            assert found is not None
            return float(found[1]), float(found[2])

        few, many = size(2, 3), size(8, 15)
        assert few[0] == many[0] < 400
        assert many[1] > 3 * few[1]
