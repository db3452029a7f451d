"""`leaderboard/published.py`: the paper's table, cell by cell, and files that are not it."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import fmean

import pytest
from polyrefuse_leaderboard.published import BadPublished, read_published, sources, warnings
from polyrefuse_leaderboard.records import MEAN
from polyrefuse_leaderboard.table import ABOUT_HARM
from scipy.stats import binomtest

HEAD = ",model,lang,time,experiment,str_compliance,wildguard_harmful,wildguard_compliance"
GOOD = "0,invented/model,de,20250101-000000,ja_vector_sweep,0.5,0.25,0.75"
CONDITIONS = {"baseline_evaluations.csv": "baseline", "harm_ablation_evaluations.csv": "ablation"}


def write(folder: Path, *lines: str, name: str = "baseline_evaluations.csv") -> Path:
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


class TestThePapersTable:
    def test_every_cell(self, shared: Path) -> None:
        paths = sorted((shared / "oracles/published").glob("*.csv"))
        records = {
            (one.condition, one.model, one.language, one.judge, one.metric): one
            for one in read_published(paths)
        }
        seen = 0
        for path in paths:
            with open(path, encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    for name, judge, metric in (
                        ("str_compliance", "substring", "asr"),
                        ("wildguard_compliance", "wildguard", "asr"),
                        ("wildguard_harmful", "wildguard", "asr_harmful"),
                    ):
                        about = CONDITIONS[path.name], row["model"], row["lang"], judge, metric
                        one = records.pop(about)
                        assert (one.value, one.n) == (float(row[name]), 572)
                        hits = round(float(row[name]) * 572)
                        interval = binomtest(hits, 572).proportion_ci(method="wilson")
                        assert one.low == pytest.approx(interval.low, abs=1e-12)
                        assert one.high == pytest.approx(interval.high, abs=1e-12)
                        assert path.name in one.run
                        seen += 1
        assert seen == 3 * 14 * 2 * 3
        # What is left are the means.
        assert {key[2] for key in records} == {MEAN}
        assert len(records) == 3 * 2 * 3

    def test_sources(self, shared: Path) -> None:
        paths = sorted((shared / "oracles/published").glob("*.csv"))
        said = " ".join(f"{one.name} {one.link} {one.text}" for one in sources(paths))
        for part in (
            "https://arxiv.org/abs/2505.17306",
            "mainlp/Multilingual-Refusal",
            "985169df2a0b1ba56a95c65d5f60e228f12be4a1",
            "baseline_evaluations.csv",
            "harm_ablation_evaluations.csv",
            "column wildguard_harmful is asr_harmful by wildguard",
            "all rates under baseline",
            "all rates under ablation",
            "byte for byte the authors' harm_ablation_evaluations.csv",
        ):
            assert part in said
        assert "NOT a file" not in said

    def test_what_the_rates_under_ablation_are_of(self, shared: Path) -> None:
        records = read_published(sorted((shared / "oracles/published").glob("*.csv")))
        found = warnings(records)
        assert {one.model for one in found} == {one.model for one in records}
        assert {one.condition for one in found} == {"ablation"}
        assert all(
            "adds the direction at its layer as well as ablating it" in o.text for o in found
        )
        assert warnings([one for one in records if one.condition == "baseline"]) == ()


class TestOtherFiles:
    def test_condition(self, tmp_path: Path) -> None:
        path = write(tmp_path, HEAD, GOOD, name="mine.csv")
        with pytest.raises(BadPublished, match="The name of .*mine.csv begins with none of"):
            read_published([path])
        assert {one.condition for one in read_published([path], "ablation")} == {"ablation"}
        assert {one.intervention for one in read_published([path], "baseline")} == {""}
        with pytest.raises(BadPublished, match="is 'abliterated'; give baseline or ablation"):
            read_published([path], "abliterated")

    def test_numbers_of_another_are_not_the_authors(self, tmp_path: Path) -> None:
        path = write(tmp_path, HEAD, GOOD)
        *_, one = sources([path], "ablation")
        assert one.text.startswith("all rates under ablation; ")
        assert "NOT a file that the authors published" in one.text
        assert "blob" not in one.link

    def test_the_same_table_twice(self, tmp_path: Path) -> None:
        path = write(tmp_path, HEAD, GOOD)
        with pytest.raises(BadPublished, match="invented/model in de under baseline"):
            read_published([path, path])

    @pytest.mark.parametrize(
        ("lines", "said"),
        [
            ((), "has no column model"),
            ((HEAD,), "has no rows"),
            ((HEAD.replace("lang", "language"), GOOD), "has no column lang"),
            ((HEAD, GOOD, GOOD.replace("0.25", "0.2501")), "line 3: wildguard_harmful is '0.2501'"),
            ((HEAD, GOOD.replace("0.5", "nan")), "line 2: str_compliance is 'nan'"),
            ((HEAD, GOOD.replace("0.5", "")), "line 2: str_compliance is ''"),
            ((HEAD, GOOD.replace("0.5", "1.5")), "not a count out of 572"),
            ((HEAD, GOOD.replace("invented/model", "")), "line 2: model is '', not a name"),
            ((HEAD, "0,invented/model"), "line 2"),
        ],
    )
    def test_bad(self, tmp_path: Path, lines: tuple[str, ...], said: str) -> None:
        with pytest.raises(BadPublished) as caught:
            read_published([write(tmp_path, *lines)])
        assert said in str(caught.value)
        assert "baseline_evaluations.csv" in str(caught.value)

    def test_no_text(self, tmp_path: Path) -> None:
        path = tmp_path / "baseline.csv"
        with pytest.raises(BadPublished, match="cannot be read"):
            read_published([path], "baseline")
        path.write_bytes(b"\x89PNG\xff\n")
        with pytest.raises(BadPublished, match="is not CSV"):
            read_published([path], "baseline")


def test_what_is_said_of_attack_success_is_in_the_published_table(shared: Path) -> None:
    """WildGuard compliance minus WildGuard harmful, in points, by condition and model."""
    for name, condition in CONDITIONS.items():
        gaps: dict[str, list[float]] = {}
        with open(shared / "oracles/published" / name, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                gap = float(row["wildguard_compliance"]) - float(row["wildguard_harmful"])
                gaps.setdefault(row["model"], []).append(100 * gap)
        means = [
            f"{fmean(gaps[model]):.1f}"
            for part in ("Qwen2.5-7B", "gemma-2-9b", "Llama-3.1-8B")
            for model in gaps
            if part in model
        ]
        every = [gap for model in gaps.values() for gap in model]
        ends = f"{min(every):.1f}", f"{max(every):.1f}"
        qwen, gemma, llama = means
        if condition == "baseline":
            points = f"by {qwen} percentage points (Qwen2.5-7B-Instruct), {gemma} (Gemma 2"
            assert points in ABOUT_HARM
            assert f"and {llama} (Llama 3.1 8B)" in ABOUT_HARM
            assert f"range from {ends[0]} to {ends[1]} points" in ABOUT_HARM
        else:
            assert f"ablated by {qwen}, {gemma} and {llama} points" in ABOUT_HARM
            assert f"with ablation from {ends[0]} to {ends[1]}." in ABOUT_HARM
