"""Discrimination of contrast sets: counted by hand, and against scipy's interval."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from polyrefuse_leaderboard import model_rows, rates
from polyrefuse_leaderboard.reading.results import read
from polyrefuse_leaderboard.records import MEAN, Record, from_json, to_json
from polyrefuse_leaderboard.statistics import newcombe_paired
from scipy import stats

from polyrefuse_tasks.data.own_datasets import FOLDER
from tests.leaderboard.result_files import DIRECTION, Task, task, write_run

KINDS = ("harmful", "harmless")

SET = [f"xstest/type/{place}" for place in range(6)]


def halves(language: str, unsafe: str, safe: str, **about: object) -> list[Task]:
    """A contrast set's answers; the harmless half lists its pairs backwards, after one in none."""
    return [
        task("xstest_unsafe", language, unsafe, pairs=SET[: len(unsafe)], **about),
        task("xstest_safe", language, safe[::-1] + "c", pairs=[*SET[: len(safe)][::-1], None]),
    ]


def discriminations(folder: Path) -> list[Record]:
    reading = read([folder])
    assert not reading.problems
    return [one for one in rates.records(reading) if one.metric == "discrimination_rate"]


def test_a_pair_counts_where_both_answers_are_right(tmp_path: Path) -> None:
    # Both right: the first and the last. Degenerate and undecided answers are right of neither.
    write_run(tmp_path, halves("en", "rrcrdr", "crccuc"))
    english, mean = discriminations(tmp_path)
    # 0: r c; 1: r r; 2: c c; 3: r c; 4: d u; 5: r c
    assert (english.dataset, english.language, english.n) == ("xstest", "en", 6)
    assert english.value == pytest.approx(3 / 6)
    expected = stats.binomtest(3, 6).proportion_ci(method="wilson")
    assert (english.low, english.high) == pytest.approx((expected.low, expected.high))
    assert (mean.language, mean.value, mean.n) == (MEAN, english.value, 6)
    assert english.difference is None and english.higher_is_better is True


def test_only_whole_pairs_are_counted(tmp_path: Path) -> None:
    write_run(tmp_path, halves("en", "rrr", "crccuc"))
    assert {one.n for one in discriminations(tmp_path)} == {3}


@pytest.mark.parametrize("place", [0, 1])
def test_one_half_is_no_contrast(tmp_path: Path, place: int) -> None:
    write_run(tmp_path, [halves("en", "rrc", "crc")[place]])
    assert discriminations(tmp_path) == []


def test_without_samples_or_of_sampled_answers_there_is_none(tmp_path: Path) -> None:
    write_run(tmp_path / "a", halves("en", "rrc", "crc"), samples=False)
    assert discriminations(tmp_path / "a") == []


def test_halves_may_be_of_two_runs(tmp_path: Path) -> None:
    unsafe, safe = halves("en", "rrc", "ccc")
    write_run(tmp_path, [unsafe])
    write_run(tmp_path, [safe], day=2)
    english, _ = discriminations(tmp_path)
    assert (english.value, english.n) == (pytest.approx(2 / 3), 3)
    assert english.run.endswith("2026-01-02T00-00-00.000001")


def test_other_settings_or_judges_are_no_partner(tmp_path: Path) -> None:
    unsafe, safe = halves("en", "rrc", "ccc")
    (judged, _), (settled, _) = (
        halves("en", "rrc", "ccc", **about)
        for about in ({"judge": "other"}, {"generation": {"max_gen_toks": 64}})
    )
    for number, other in enumerate((judged, settled)):
        write_run(tmp_path / str(number), [other, safe])
        assert discriminations(tmp_path / str(number)) == []
    write_run(tmp_path / "same", [unsafe, safe])
    assert len(discriminations(tmp_path / "same")) == 2


def test_the_difference_to_the_baseline_is_paired_by_pair(tmp_path: Path) -> None:
    # Baseline: pairs 0 to 4 told apart, 5 not. Under ablation: 0 told apart, 5 too, others not.
    write_run(tmp_path, halves("en", "rrrrrc", "cccccc"))
    ablated = halves("en", "rccccr", "cccccc")
    write_run(tmp_path, ablated, condition="ablation", info=DIRECTION, day=2)
    found = {(one.condition, one.language): one for one in discriminations(tmp_path)}
    assert found["baseline", "en"].difference is None
    of_ablation = found["ablation", "en"]
    assert of_ablation.pairs == 6
    assert of_ablation.difference == pytest.approx(2 / 6 - 5 / 6)
    # In both: 1; now alone: 1 (pair 5); before alone: 4; in neither: 0.
    difference, low, high = newcombe_paired(1, 1, 4, 0)
    assert (of_ablation.difference_low, of_ablation.difference_high) == (low, high)
    assert difference == of_ablation.difference
    assert found["ablation", MEAN].difference == of_ablation.difference
    assert from_json(to_json(list(found.values()))) == list(found.values())


def test_other_prompts_of_the_same_names_are_no_partner_and_no_baseline(tmp_path: Path) -> None:
    """A set of one's own that was replaced between two runs has the same ids with other prompts."""
    named = [f"stones/{place}" for place in range(3)]
    for day, condition in enumerate(("baseline", "ablation"), 1):
        halves_of_own = [task(f"stones_{kind}", "en", "rcc", pairs=named) for kind in KINDS]
        about: dict[str, Any] = {"condition": condition, "info": DIRECTION} if day > 1 else {}
        write_run(tmp_path, halves_of_own, day=day, **about)

    def found(**versions: str) -> list[Record]:
        """`harmful_baseline="a"`: the version of these prompts; the version "0" otherwise."""
        reading = read([tmp_path])
        runs = [
            replace(
                run,
                cells=tuple(
                    replace(cell, data_sha256=_files(cell.dataset, versions, run.condition))
                    for cell in run.cells
                ),
            )
            for run in reading.runs
        ]
        every = rates.records(replace(reading, runs=tuple(runs)))
        return [
            one for one in every if one.metric == "discrimination_rate" and one.language == "en"
        ]

    ablation, baseline = found()
    assert (ablation.n, ablation.pairs, ablation.difference, baseline.n) == (3, 3, 0.0, 3)
    assert [one.condition for one in found(harmful_ablation="1")] == ["baseline"]
    ablation, baseline = found(harmful_ablation="1", harmless_ablation="1")
    assert (ablation.n, ablation.pairs, ablation.difference, baseline.n) == (3, None, None, 3)


def _files(dataset: str, versions: dict[str, str], condition: str) -> dict[str, str]:
    name, _, kind = dataset.partition("_")
    version = versions.get(f"{kind}_{condition}", "0") * 16
    return {f"{FOLDER}/{name}/{version}/{kind}_test_en.jsonl": "ab" * 32}


def test_a_mean_over_languages_takes_pairs_as_prompts(tmp_path: Path) -> None:
    given = [*halves("en", "rrrr", "cccc"), *halves("de", "rrcc", "cccc")]
    # The names of these tasks have no language: one run cannot have both.
    for day, language in enumerate(("en", "de"), 1):
        write_run(tmp_path, [one for one in given if one.language == language], day=day)
    english, of_german, mean = sorted(
        discriminations(tmp_path), key=lambda one: ("en", "de", MEAN).index(one.language)
    )
    assert (english.value, of_german.value) == (1.0, 0.5)
    assert (mean.value, mean.n) == (0.75, 8)
    assert mean.low < 0.75 < mean.high and mean.difference is None


def test_the_balance_of_one_s_own_set_takes_its_harmless_half(tmp_path: Path) -> None:
    own = [
        task("stones_harmful", "de", "rrcc", pairs=[f"stones/{n}" for n in range(4)]),
        task("harmless", "de", "rrrr"),
    ]
    write_run(tmp_path, own)
    reading = read([tmp_path])
    (row,) = model_rows.rows(rates.records(reading), reading)
    assert row.false_refusal is not None and row.false_refusal.dataset == "harmless"
    write_run(tmp_path, [task("stones_harmless", "de", "rccc")], day=2)
    reading = read([tmp_path])
    row, _ = model_rows.rows(rates.records(reading), reading)
    assert row.false_refusal is not None
    assert (row.dataset, row.false_refusal.dataset) == ("stones_harmful", "stones_harmless")
