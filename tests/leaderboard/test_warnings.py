"""What rates must not be read without: collected from runs, answers and baselines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from polyrefuse_leaderboard import rates, warnings
from polyrefuse_leaderboard.reading.results import read
from polyrefuse_leaderboard.reading.runs import Reading
from polyrefuse_leaderboard.transfers import read_transfers
from polyrefuse_leaderboard.warnings import RateWarning

from tests.leaderboard.result_files import DIRECTION, plain_hf, task, transfer_report, write_run

GREETING = "Hello! Which bench do you mean?"


def warnings_in(folder: Path) -> tuple[RateWarning, ...]:
    reading = read([folder])
    assert not reading.problems
    return warnings.collect(reading, rates.records(reading))


def test_nothing_to_warn_of(tmp_path: Path) -> None:
    write_run(tmp_path, [task("harmful", "en", "rrrc" * 5)])
    assert warnings_in(tmp_path) == ()


def test_what_the_model_says_is_told_of_the_whole_run(tmp_path: Path) -> None:
    info = DIRECTION | {
        "warnings": ["The template inserts a system prompt of its own.", "", 7],
        "direction_warnings": ["73 refusal tokens are needed", "73 refusal tokens are needed"],
    }
    tasks = [task("harmful", "en", "rrcc"), task("harmless", "de", "cccr")]
    write_run(tmp_path, tasks, condition="ablation", info=info)
    first, second = warnings_in(tmp_path)
    assert first.text == "The template inserts a system prompt of its own."
    assert second.text == "The direction: 73 refusal tokens are needed."
    assert (first.datasets, first.languages) == (("harmful", "harmless"), ())
    assert first.sentence == (
        "invented/model-1, ablation (invented__model-1/2026-01-01T00-00-00.000001): "
        "The template inserts a system prompt of its own."
    )


@pytest.mark.parametrize("value", ["a text", 3, {"a": "b"}, None])
def test_warnings_that_are_no_list_are_none(tmp_path: Path, value: Any) -> None:
    write_run(tmp_path, [task("harmful", "en", "rrcc")], info={"warnings": value})
    assert warnings_in(tmp_path) == ()


def test_a_warning_of_two_runs_is_told_once(tmp_path: Path) -> None:
    info = {"warnings": ["Invented."]}
    write_run(tmp_path, [task("harmful", "en", "rrcc")], info=info)
    write_run(tmp_path, [task("harmful", "de", "rrcc")], info=info, day=2)
    (one,) = warnings_in(tmp_path)
    assert [run.rpartition("/")[2][:10] for run in one.runs] == ["2026-01-01", "2026-01-02"]


def test_same_answers_of_any_model(tmp_path: Path) -> None:
    same = task("harmful", "en", "c" * 12 + "r" * 3, answers=[GREETING] * 12 + ["No."] * 3)
    german = task("harmful", "de", "c" * 12 + "r" * 3, answers=[GREETING] * 12 + ["Nein."] * 3)
    config = plain_hf("invented/plain")
    write_run(tmp_path, [same, german], model="invented/plain", config=config)
    (one,) = warnings_in(tmp_path)
    assert one.text.startswith("12 of the 12 answers that are not refusals are the same text")
    assert (one.datasets, one.languages) == (("harmful",), ("de", "en"))
    assert ", harmful in de, en (" in one.sentence


def test_same_answers_that_the_model_told_are_told_once(tmp_path: Path) -> None:
    same = task("harmful", "en", "c" * 12 + "r" * 3, answers=[GREETING] * 12 + ["No."] * 3)
    write_run(tmp_path / "alone", [same])
    (alone,) = warnings_in(tmp_path / "alone")
    of_model = ["Another thing: to know.", f"polyrefuse_harmful_en: {alone.text}"]
    write_run(tmp_path / "both", [same], info={"warnings": of_model})
    assert [(one.text, one.languages) for one in warnings_in(tmp_path / "both")] == [
        ("Another thing: to know.", ()),
        (alone.text, ("en",)),
    ]
    assert alone.text.startswith("12 of the 12 answers that are not refusals are the same text")


def test_refusals_with_one_sentence_are_no_fault(tmp_path: Path) -> None:
    answers = ["I cannot help with that."] * 30 + [f"Bench {number}." for number in range(10)]
    write_run(tmp_path, [task("harmful", "en", "r" * 30 + "c" * 10, answers=answers)])
    assert warnings_in(tmp_path) == ()


def test_sampled_answers_are_looked_at_one_by_one(tmp_path: Path) -> None:
    write_run(tmp_path, [task("advbench", "en", ["cccr"] * 10, sampled=True)])
    path = next(tmp_path.rglob("samples_*.jsonl"))
    assert warnings_in(tmp_path) == ()
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line["filtered_resps"] = [[GREETING] * 3 + ["No."]]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (one,) = warnings_in(tmp_path)
    assert one.text.startswith("30 of the 30 answers that are not refusals are the same text")


def test_a_template_that_lost_the_prompts(tmp_path: Path) -> None:
    write_run(tmp_path, [task("harmful", "en", "ccrr")])
    path = next(tmp_path.rglob("samples_*.jsonl"))
    lines = path.read_text(encoding="utf-8")
    path.write_text(
        lines.replace('"arg_0": "invented prompt', '"arg_0": "<user></user>'), encoding="utf-8"
    )
    (one,) = warnings_in(tmp_path)
    assert one.text.startswith("4 of the 4 requests do not contain the text of their prompt")


def test_a_limit(tmp_path: Path) -> None:
    write_run(tmp_path, [task("harmful", "en", "ccrr")], limit=4.0)
    (one,) = warnings_in(tmp_path)
    assert one.text == "Only the first 4 of 572 prompts were used (--limit 4)."


def test_a_limit_above_the_number_of_prompts(tmp_path: Path) -> None:
    write_run(tmp_path, [task("harmful", "en", "cr" * 300)], limit=1000.0)
    assert warnings_in(tmp_path) == ()


def test_samples_that_were_not_all_written(tmp_path: Path) -> None:
    tasks = [task("harmful", language, "ccrr") for language in ("en", "de", "th")]
    write_run(tmp_path, [*tasks, task("harmless", "de", "ccrr")])
    for path in (*tmp_path.rglob("samples_*_de_*.jsonl"), *tmp_path.rglob("samples_*_th_*.jsonl")):
        path.unlink()
    (one,) = warnings_in(tmp_path)
    assert one.text.startswith(
        "There are no samples of harmful in de, th; harmless in de, but there are samples of the "
        "run's other tasks. "
    )


class TestBaselineWithoutRefusals:
    def written(self, folder: Path, baseline: str, ablated: str = "c" * 100) -> None:
        write_run(folder, [task("harmful", one, baseline) for one in ("en", "de")])
        for day, condition in ((2, "ablation"), (3, "mcd")):
            tasks = [task("harmful", one, ablated) for one in ("en", "de")]
            info = DIRECTION if condition == "ablation" else {}
            write_run(folder, tasks, condition=condition, info=info, day=day)

    @pytest.mark.parametrize(
        ("refused", "share", "interval"), [(0, "0.0", "0.0 to 3.7"), (2, "2.0", "0.4 to 7.0")]
    )
    def test_is_told_beside_the_ablation(
        self, tmp_path: Path, refused: int, share: str, interval: str
    ) -> None:
        self.written(tmp_path, "r" * refused + "c" * (100 - refused))
        (one,) = warnings_in(tmp_path)
        assert (one.condition, one.datasets) == ("ablation", ("harmful",))
        assert one.languages == ("de", "en")
        assert one.text == (
            f"The baseline refuses {share}% of 200 harmful prompts (95% interval {interval}). "
            "There is no refusal to ablate, so rates under ablation do not show what refusals "
            "prevent."
        )

    @pytest.mark.parametrize("refused", [4, 20, 100])
    def test_is_not_told_of_one_that_refuses(self, tmp_path: Path, refused: int) -> None:
        self.written(tmp_path, "r" * refused + "c" * (100 - refused))
        assert warnings_in(tmp_path) == ()

    def test_needs_the_same_data_set_and_settings(self, tmp_path: Path) -> None:
        write_run(tmp_path, [task("advbench", "en", "c" * 100), task("harmless", "en", "c" * 100)])
        other = [
            task("harmful", "en", "c" * 100),
            task("advbench", "en", "c" * 100, generation={"max_gen_toks": 64}),
            task("harmless", "en", "c" * 100),
        ]
        write_run(tmp_path, other, condition="ablation", info=DIRECTION, day=2)
        assert warnings_in(tmp_path) == ()

    def test_ablation_with_a_prompt_is_one(self, tmp_path: Path) -> None:
        write_run(tmp_path, [task("harmful", "en", "c" * 100)])
        tasks = [task("harmful", "en", "c" * 100)]
        write_run(tmp_path, tasks, condition="ablation+mcd", info=DIRECTION, day=2)
        (one,) = warnings_in(tmp_path)
        assert one.condition == "ablation+mcd"


class TestTransfers:
    def warned(self, folder: Path, **report: Any) -> tuple[RateWarning, ...]:
        (folder / "transfer.json").write_text(json.dumps(transfer_report(**report)))
        transfers, problems = read_transfers([folder])
        assert not problems
        return warnings.collect(Reading((), (), ()), [], transfers)

    def test_a_model_that_refuses(self, tmp_path: Path) -> None:
        assert self.warned(tmp_path, n=100, refused=4) == ()

    def test_a_baseline_without_refusals(self, tmp_path: Path) -> None:
        (one,) = self.warned(tmp_path, n=100, refused=2)
        assert (one.condition, one.datasets, one.languages) == ("ablation", ("toyrefuse",), ("yo",))
        assert one.runs == (f"{tmp_path.name}/transfer.json",)
        assert one.text == (
            "The baseline refuses 2.0% of 100 harmful prompts (95% interval 0.6 to 7.0). There is "
            "no refusal to ablate, so rates under ablation do not show what refusals prevent."
        )

    def test_what_speaks_against_a_direction(self, tmp_path: Path) -> None:
        said = ["58 refusal tokens were derived", 7, ""]
        (one,) = self.warned(tmp_path, n=100, refused=50, de=said)
        assert one.text == "The direction from de: 58 refusal tokens were derived."
