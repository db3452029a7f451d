"""Capability: other tasks of lm-eval beside the rates, and what a condition costs by them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest
from polyrefuse_leaderboard.reading.capability import BadCapability, Wanted, parse_wanted
from scipy.stats import binomtest, norm, ttest_rel

from tests.commands import assert_one_sentence, run_in_process
from tests.leaderboard.result_files import DIRECTION, ours, task, write_run

MODEL = "invented/model-1"
BETTER = {"acc": True, "acc_norm": True, "exact_match": True, "ppl": False}


def write_other(
    folder: Path,
    tasks: Mapping[str, Mapping[str, Sequence[float] | tuple[float, float]]],
    *,
    condition: str = "baseline",
    day: int = 1,
    groups: Mapping[str, Sequence[str]] | None = None,
    shots: int = 0,
    samples: bool = True,
    info: Mapping[str, Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    template: str | None = None,
) -> None:
    """A results file of other tasks, as lm-eval writes it.

    Args:
        tasks: task -> "metric,filter" -> what each document adds; a pair is a value and its
            standard error without samples of it.
        kwargs: the generation settings of each task.
        template: the chat template.
    """
    date = f"2026-02-{day:02}T00-00-00.000001"
    place = folder / MODEL.replace("/", "__")
    place.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    for name, metrics in tasks.items():
        results[name] = {"name": name, "alias": name}
        for key, values in metrics.items():
            metric, _, chosen = key.partition(",")
            pair = isinstance(values, tuple)
            mean = values[0] if pair else sum(values) / len(values)
            results[name] |= {key: mean, f"{metric}_stderr,{chosen}": values[1] if pair else 0.01}
    counts = {
        name: max(10 if isinstance(values, tuple) else len(values) for values in metrics.values())
        for name, metrics in tasks.items()
    }
    of_groups = {}
    for name, members in (groups or {}).items():
        total = sum(counts[one] for one in members)
        value = sum(results[one]["acc,none"] * counts[one] for one in members) / total
        of_groups[name] = {"name": name, "alias": name, "acc,none": value,
                           "acc_stderr,none": 0.02}  # fmt: skip
    names = [*tasks, *(groups or {})]
    document = {
        "results": results | of_groups,
        "groups": of_groups,
        "group_subtasks": dict(groups or {}),
        "configs": {
            name: {"task": name} | ({"generation_kwargs": kwargs} if kwargs else {})
            for name in tasks
        },
        "chat_template": template,
        "versions": dict.fromkeys(names, 1.0),
        "n-shot": dict.fromkeys(names, shots),
        "higher_is_better": dict.fromkeys(names, BETTER),
        "n-samples": {name: {"original": n, "effective": n} for name, n in counts.items()},
        "config": ours(MODEL, condition, info or {}),
        "date": 1769904000.5 + 86400 * (day - 1),
        "model_name": MODEL,
        "model_source": "baseline-hf",
    }
    (place / f"results_{date}.json").write_text(json.dumps(document))
    for name, metrics in tasks.items() if samples else ():
        lines = [
            json.dumps({"doc_id": place, "doc_hash": f"{name}{place}", "doc": {}, "filter": chosen,
                        metric: value})
            for key, values in metrics.items()
            if not isinstance(values, tuple)
            for metric, _, chosen in [key.partition(",")]
            for place, value in enumerate(values)
        ]  # fmt: skip
        (place / f"samples_{name}_{date}.jsonl").write_text("\n".join(lines))


def build(folder: Path, wanted: str, *more: object) -> tuple[int, str, str]:
    return run_in_process(
        "leaderboard", "build", folder / "results", "--output", folder / "site", "--capability",
        wanted, *more,
    )  # fmt: skip


def records(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Records of capability by task and condition."""
    document = json.loads((folder / "site" / "leaderboard.json").read_text())
    assert document["schema"] == 2
    return {
        (record["dataset"], record["condition"]): record
        for record in document["records"]
        if record["kind"] == "capability"
    }


BEFORE = [1, 1, 1, 1, 1, 1, 0, 0]
AFTER = [1, 1, 0, 0, 0, 1, 1, 0]


def write_both(folder: Path, key: str, before: Any, after: Any, **more: Any) -> None:
    write_other(folder / "results", {"other": {key: before}}, **more)
    write_other(folder / "results", {"other": {key: after}}, condition="ablation", day=2,
                info=DIRECTION, **more)  # fmt: skip


class TestDifference:
    def test_right_and_wrong_documents_are_paired(self, tmp_path: Path) -> None:
        write_both(tmp_path, "acc,none", BEFORE, AFTER)
        assert build(tmp_path, "other")[0] == 0
        found = records(tmp_path)
        baseline, ablated = found["other", "baseline"], found["other", "ablation"]
        wilson = binomtest(6, 8).proportion_ci(method="wilson")
        assert (baseline["value"], baseline["n"]) == (0.75, 8)
        assert (baseline["low"], baseline["high"]) == pytest.approx((wilson.low, wilson.high))
        assert baseline["difference"] is None and baseline["pairs"] is None
        assert (ablated["difference"], ablated["pairs"]) == (-0.25, 8)
        # Newcombe 1998, method 10, with 3 pairs right in both, 1 gained, 3 lost and 1 wrong: phi is
        # (3 * 1 - 1 * 3 - 0) / sqrt(4 * 4 * 6 * 2), which is zero, so the intervals add as of two.
        low, high = binomtest(4, 8).proportion_ci(method="wilson")
        down = math.hypot(0.5 - low, wilson.high - 0.75)
        up = math.hypot(high - 0.5, 0.75 - wilson.low)
        assert ablated["difference_low"] == pytest.approx(-0.25 - down)
        assert ablated["difference_high"] == pytest.approx(-0.25 + up)

    def test_other_values_are_paired_by_students_t(self, tmp_path: Path) -> None:
        before, after = [0.5, 2.25, -1.0, 4.0, 0.25], [0.25, 2.5, -2.0, 3.0, 0.0]
        write_both(tmp_path, "acc,none", before, after)
        assert build(tmp_path, "other")[0] == 0
        found = records(tmp_path)["other", "ablation"]
        expected = ttest_rel(after, before).confidence_interval(0.95)
        assert (found["difference_low"], found["difference_high"]) == pytest.approx(
            (expected.low, expected.high)
        )
        assert found["pairs"] == 5
        # Not a share: lm-eval's own standard error.
        half = norm.ppf(0.975) * 0.01
        assert (found["low"], found["high"]) == pytest.approx((0.75 - half, 0.75 + half))

    def test_without_samples_the_standard_errors_say_it(self, tmp_path: Path) -> None:
        write_both(tmp_path, "ppl,none", (20.0, 0.5), (22.0, 1.2), samples=False)
        code, out, err = build(tmp_path, "other")
        assert code == 0, err
        found = records(tmp_path)["other", "ablation"]
        half = norm.ppf(0.975) * 1.3
        assert found["difference"] == pytest.approx(2.0)
        assert found["difference_low"] == pytest.approx(2 - half)
        assert found["pairs"] is None and found["higher_is_better"] is False

    @pytest.mark.parametrize(
        ("change", "compared"),
        [
            ({}, True),
            ({"kwargs": {"max_gen_toks": 64, "seed": 2}}, True),
            ({"kwargs": {"max_gen_toks": 32, "seed": 1}}, False),
            ({"kwargs": {"max_gen_toks": 64, "temperature": 0.5}}, False),
            ({"template": "{{ messages }}"}, False),
            ({"info": {**DIRECTION, "chat": "off"}}, False),
            ({"info": {**DIRECTION, "think_end_token": "</think>"}}, False),
            ({"shots": 5}, False),
            ({"count": 6}, False),
        ],
    )
    def test_other_settings_are_not_compared(
        self, tmp_path: Path, change: dict[str, Any], compared: bool
    ) -> None:
        usual: dict[str, Any] = {"kwargs": {"max_gen_toks": 64, "seed": 1}}
        write_other(tmp_path / "results", {"other": {"acc,none": BEFORE}}, **usual)
        later = usual | change
        after = AFTER[: later.pop("count", 8)]
        write_other(tmp_path / "results", {"other": {"acc,none": after}}, day=2,
                    condition="ablation", **{"info": DIRECTION} | later)  # fmt: skip
        assert build(tmp_path, "other")[0] == 0
        difference = records(tmp_path)["other", "ablation"]["difference"]
        assert (difference is not None) is compared

    def test_the_standard_error_shows_that_documents_are_right_or_wrong(
        self, tmp_path: Path
    ) -> None:
        """As lm-eval computes it: the sample's standard deviation, divided by the root of n."""

        def of(hits: int) -> tuple[float, float]:
            values = [1.0] * hits + [0.0] * (10 - hits)
            return hits / 10, stdev(values) / math.sqrt(10)

        write_both(tmp_path, "acc,none", of(10), of(7), samples=False)
        assert build(tmp_path, "other")[0] == 0
        found = records(tmp_path)
        before, now = (
            binomtest(hits, 10).proportion_ci(method="wilson") for hits in (10, 7)
        )  # fmt: skip
        baseline, ablated = found["other", "baseline"], found["other", "ablation"]
        # By its own standard error of 0 the value would be certain.
        assert (baseline["low"], baseline["high"]) == pytest.approx((before.low, 1.0))
        # Newcombe 1998, method 10, of two independent shares.
        assert ablated["difference_low"] == pytest.approx(
            -0.3 - math.hypot(0.7 - now.low, before.high - 1.0)
        )
        assert ablated["difference_high"] == pytest.approx(
            -0.3 + math.hypot(now.high - 0.7, 1.0 - before.low)
        )

    def test_other_shares_keep_their_standard_error(self, tmp_path: Path) -> None:
        write_both(tmp_path, "acc,none", (0.5, 0.125), (0.25, 0.0), samples=False)
        assert build(tmp_path, "other")[0] == 0
        found = records(tmp_path)["other", "baseline"]
        half = norm.ppf(0.975) * 0.125
        assert (found["low"], found["high"]) == pytest.approx((0.5 - half, 0.5 + half))

    def test_one_document_has_no_difference_but_of_right_and_wrong(self, tmp_path: Path) -> None:
        write_both(tmp_path, "ppl,none", [20.5], [25.25])
        code, _, err = build(tmp_path, "other")
        assert code == 0, err
        assert records(tmp_path)["other", "ablation"]["difference"] is None
        write_both(tmp_path, "acc,none", [1], [0])
        assert build(tmp_path, "other:acc")[0] == 0
        assert records(tmp_path)["other", "ablation"]["difference"] == -1

    def test_a_board_of_values_without_intervals_is_none(self, tmp_path: Path) -> None:
        write_both(tmp_path, "acc,none", (0.5, math.nan), (0.25, -1.0), samples=False)
        assert_one_sentence(build(tmp_path, "other"), "other has no standard error and no samples")
        assert not (tmp_path / "site").exists()

    def test_a_group_counts_its_documents(self, tmp_path: Path) -> None:
        groups = {"both": ["one", "two"]}
        for day, condition, info in ((1, "baseline", {}), (2, "ablation", DIRECTION)):
            values = BEFORE if day == 1 else AFTER
            write_other(
                tmp_path / "results",
                {"one": {"acc,none": values}, "two": {"acc,none": values[:4]}},
                condition=condition, day=day, groups=groups, info=info,
            )  # fmt: skip
        assert build(tmp_path, "both")[0] == 0
        found = records(tmp_path)["both", "ablation"]
        assert (found["n"], found["pairs"], found["value"]) == (12, 12, 6 / 12)
        assert found["difference"] == pytest.approx((4 + 2 - 6 - 4) / 12)

    def test_the_newest_of_the_same_settings_stays(self, tmp_path: Path) -> None:
        write_other(tmp_path / "results", {"other": {"acc,none": BEFORE}}, day=1)
        write_other(tmp_path / "results", {"other": {"acc,none": AFTER}}, day=3)
        assert build(tmp_path, "other")[0] == 0
        assert records(tmp_path)["other", "baseline"]["value"] == 0.5


class TestChoice:
    def test_metrics_and_filters(self, tmp_path: Path) -> None:
        metrics = {"exact_match,strict-match": [1, 0], "exact_match,flexible-extract": [1, 1]}
        write_other(tmp_path / "results", {"gsm": metrics})
        for wanted, metric, value in (
            ("gsm", "exact_match,strict-match", 0.5),
            ("gsm:exact_match:flexible-extract", "exact_match,flexible-extract", 1.0),
        ):
            assert build(tmp_path, wanted)[0] == 0
            found = records(tmp_path)["gsm", "baseline"]
            assert (found["metric"], found["value"]) == (metric, value)

    def test_parsed(self) -> None:
        assert parse_wanted("mmlu, gsm8k:exact_match:strict-match,mmlu, arc : acc_norm :none") == [
            Wanted("mmlu"), Wanted("gsm8k", "exact_match,strict-match"), Wanted("arc", "acc_norm"),
        ]  # fmt: skip
        for bad in ("", ",", ":acc", "a:b:c:d", "a::c"):
            with pytest.raises(BadCapability):
                parse_wanted(bad)

    def test_what_is_not_there_is_told(self, tmp_path: Path) -> None:
        write_other(tmp_path / "results", {"other": {"acc,none": BEFORE}})
        for wanted, said in (
            ("othr", "no results have such a task or group; did you mean other?"),
            ("other:f1", "the results have no usable metric 'f1' of this task; they have acc."),
            ("other:", "is not a task"),
        ):
            assert_one_sentence(build(tmp_path, wanted), said)
        assert not (tmp_path / "site").exists()

    def test_a_group_without_a_value_is_told_from_one_that_is_not_there(
        self, tmp_path: Path
    ) -> None:
        write_other(tmp_path / "results", {"one": {"acc,none": BEFORE}})
        (file,) = (tmp_path / "results").rglob("results_*")
        document = json.loads(file.read_text())
        document["results"]["both"] = {"alias": "both", " ": " "}
        document["group_subtasks"] = {"both": ["one"]}
        file.write_text(json.dumps(document))
        assert_one_sentence(build(tmp_path, "both"), "the results have no value of this task")

    def test_a_value_that_is_no_number_is_told_and_no_other_metric_taken(
        self, tmp_path: Path
    ) -> None:
        for day, condition, info in ((1, "baseline", {}), (2, "ablation", DIRECTION)):
            write_other(tmp_path / "results", {"other": {"acc,none": BEFORE, "ppl,none": AFTER}},
                        day=day, condition=condition, info=info)  # fmt: skip
        (file,) = (tmp_path / "results").rglob("results_2026-02-02*")
        document = json.loads(file.read_text())
        document["results"]["other"]["acc,none"] = float("nan")
        file.write_text(json.dumps(document))
        code, _, err = build(tmp_path, "other")
        assert code == 0 and "other: acc is nan, not a number" in err
        assert [record["metric"] for record in records(tmp_path).values()] == ["acc"]

    def test_where_no_value_can_be_used_the_reason_is_told(self, tmp_path: Path) -> None:
        write_other(tmp_path / "results", {"other": {"acc,none": BEFORE}})
        (file,) = (tmp_path / "results").rglob("results_*")
        document = json.loads(file.read_text())
        for counts in ({"other": 8}, {"other": None}, {}, 8):
            file.write_text(json.dumps(document | {"n-samples": counts}))
            for wanted in ("other", "other:acc"):
                assert_one_sentence(
                    build(tmp_path, wanted), "other: n-samples does not say how many documents"
                )

    @pytest.mark.parametrize("broken", ["n-samples", "results", "samples"])
    def test_broken_results_cost_a_sentence(self, tmp_path: Path, broken: str) -> None:
        write_run(tmp_path / "results", [task("harmful", "de", "rc")])
        write_other(tmp_path / "results", {"other": {"acc,none": BEFORE}})
        write_other(tmp_path / "results", {"other": {"acc,none": BEFORE}}, day=2)
        (file,) = (tmp_path / "results").rglob("results_2026-02-02*")
        if broken == "samples":
            (samples,) = (tmp_path / "results").rglob("samples_other_2026-02-02*")
            samples.write_text("{")
        else:
            document = json.loads(file.read_text())
            document[broken] = {"other": 3} if broken == "results" else {"other": {}}
            file.write_text(json.dumps(document))
        code, _, err = build(tmp_path, "other")
        assert code == 0, err
        assert "Traceback" not in err
        assert records(tmp_path)["other", "baseline"]["run"].endswith("2026-02-01T00-00-00.000001")


class TestBesideTheRates:
    @pytest.fixture
    def site(self, tmp_path: Path) -> Path:
        results = tmp_path / "results"
        write_run(results, [task("harmful", "de", "rrc"), task("harmless", "de", "ccc")])
        write_run(results, [task("harmful", "de", "ccc"), task("harmless", "de", "ccc")],
                  condition="ablation", info=DIRECTION, day=2)  # fmt: skip
        right = [1] * 40
        write_other(results, {"other": {"acc,none": right}})
        write_other(results, {"other": {"acc,none": [0] * 20 + right[20:]}}, condition="ablation",
                    day=2, info=DIRECTION)  # fmt: skip
        code, _, err = build(tmp_path, "other")
        assert code == 0, err
        assert "The model lost capability: acc of other is 0.5, -0.5 (" in err
        return tmp_path / "site"

    def test_markdown_has_a_column_and_a_mark(self, site: Path) -> None:
        lines = (site / "leaderboard.md").read_text(encoding="utf-8").splitlines()
        head = next(line for line in lines if line.startswith("| model | condition | dataset"))
        rows = [line for line in lines if line.startswith("| invented/model-1 | ")]
        place = [cell.strip() for cell in head.split(" | ")].index(
            "other (acc); difference to the baseline |"
        )
        by_condition = {row.split(" | ")[1].split()[0]: row.split(" | ")[place] for row in rows[:2]}
        assert by_condition["baseline"].startswith("1 (0.912 to 1), n = 40 |")
        assert "0.5 (0.352 to 0.648), n = 40; -0.5 (" in by_condition["ablation"]
        assert "▼ worse" in by_condition["ablation"]
        assert next(row for row in rows if "| ablation" in row).count("see the warnings") == 1

    def test_latex_has_a_table_of_its_own(self, site: Path) -> None:
        text = (site / "leaderboard.tex").read_text(encoding="utf-8")
        (block,) = re.findall(
            r"\\begin\{longtable\}\{lllll\}.*?\\end\{longtable\}", text, re.DOTALL
        )
        rows = [line for line in block.splitlines() if line.startswith("invented/model-1 & ")]
        assert rows[0] == (
            r"invented/model-1 & baseline & other (acc) & 1 (0.912 to 1), n = 40 & -- \\"
        )
        assert rows[1].startswith(
            r"invented/model-1 & ablation & other (acc) & 0.5 (0.352 to 0.648), n = 40 & -0.5 ("
        )
        assert rows[1].endswith(r", 40 pairs: $\bigtriangledown$ worse \\")
        assert len(rows) == 2

    def test_the_tables_by_language_have_rates_alone(self, site: Path) -> None:
        text = (site / "leaderboard.md").read_text(encoding="utf-8")
        assert "## other" not in text and "## acc" not in text
        csv = (site / "leaderboard.csv").read_text(encoding="utf-8").splitlines()
        assert any(",acc,0.5,40," in line for line in csv)

    def test_without_the_option_nothing_is_added(self, site: Path) -> None:
        folder = site.parent
        code, _, err = run_in_process(
            "leaderboard", "build", folder / "results", "--output", folder / "plain"
        )
        assert code == 0, err
        text = (folder / "plain" / "leaderboard.md").read_text(encoding="utf-8")
        assert "other" not in text.split("## Models")[1].split("## What was left out")[0]
