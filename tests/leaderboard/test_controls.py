"""Random directions as controls: in tables, page and warnings, and at the gate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from polyrefuse_leaderboard import model_rows, rates, warnings
from polyrefuse_leaderboard.gate.baseline import make_baseline, read_baseline, write_baseline
from polyrefuse_leaderboard.gate.comparison import BadChoice, check, choose_runs
from polyrefuse_leaderboard.model_rows import Controls, Row, control_of
from polyrefuse_leaderboard.reading.results import read
from polyrefuse_leaderboard.table import describe_controls

from tests.commands import run_in_process
from tests.leaderboard.result_files import DIRECTION, PROMPT, Task, task, write_run

N = 40


def measured(complied: int, refused: int = 0, language: str = "de") -> list[Task]:
    """So many harmful prompts answered and harmless ones refused, of 40 each."""
    return [
        task("harmful", language, "c" * complied + "r" * (N - complied)),
        task("harmless", language, "r" * refused + "c" * (N - refused)),
    ]


def random_run(
    folder: Path, seed: int, tasks: Sequence[Task], condition: str = "random-ablation", **info: Any
) -> None:
    """A run of a control, on a day of its own."""
    of_seed = {
        "control": "random",
        "control_seed": seed,
        "control_of": DIRECTION["direction_sha256"],
        "direction_sha256": f"{seed:02}" * 32,
        "direction_recipe_sha256": "ef" * 32,
    }
    write_run(folder, tasks, condition=condition, info=DIRECTION | of_seed | info, day=10 + seed)


@pytest.mark.parametrize(
    ("condition", "control"),
    [
        ("ablation", "random-ablation"),
        ("addition", "random-addition"),
        ("ablation+mcd", "random-ablation+mcd"),
        ("affine-ablation", "random-affine-ablation"),
        ("projected-ablation+mcd", "random-projected-ablation+mcd"),
        ("baseline", None),
        ("mcd", None),
        ("random-ablation", None),
    ],
)
def test_which_condition_has_which_control(condition: str, control: str | None) -> None:
    assert control_of(condition) == control


def rows_by_condition(folder: Path) -> dict[str, list[Row]]:
    reading = read([folder])
    assert not reading.problems
    by_condition: dict[str, list[Row]] = {}
    for row in model_rows.rows(rates.records(reading), reading):
        by_condition.setdefault(row.condition, []).append(row)
    return by_condition


def test_seeds_are_interventions_of_their_own_and_no_refusal_direction(tmp_path: Path) -> None:
    """All have the recipe of the refusal direction, by which results tell directions apart."""
    recipe = {"direction_recipe_sha256": "ef" * 32}
    write_run(tmp_path, measured(30), condition="ablation", info=DIRECTION | recipe)
    for seed in (0, 1, 2):
        random_run(tmp_path, seed, measured(seed + 3))
    rows = rows_by_condition(tmp_path)
    checksums = [row.intervention for kind in rows.values() for row in kind]
    assert len(set(checksums)) == len(checksums) == 4
    assert len(rows["random-ablation"]) == 3
    # Numbers of a direction differ between devices; the seed and the recipe do not.
    random_run(tmp_path / "elsewhere", 1, measured(4), direction_sha256="99" * 32)
    (again,) = rows_by_condition(tmp_path / "elsewhere")["random-ablation"]
    assert again.intervention in checksums


def test_a_row_has_the_spread_of_its_controls(tmp_path: Path) -> None:
    write_run(tmp_path, measured(1))
    write_run(tmp_path, measured(30, 1), condition="ablation", info=DIRECTION, day=2)
    write_run(tmp_path, measured(0, 39), condition="addition", info=DIRECTION, day=3)
    random_run(tmp_path, 0, measured(2, 4))
    random_run(tmp_path, 1, measured(5, 0))
    random_run(tmp_path, 2, measured(3, 1))
    random_run(tmp_path, 3, measured(1, 2), condition="random-addition")
    rows = rows_by_condition(tmp_path)
    (ablation,), (addition,), (baseline,) = (
        rows[condition] for condition in ("ablation", "addition", "baseline")
    )
    assert ablation.controls == Controls(3, (2 / 40, 5 / 40), (0.0, 4 / 40))
    assert addition.controls == Controls(1, (1 / 40, 1 / 40), (2 / 40, 2 / 40))
    assert baseline.controls is None
    assert all(row.controls is None for row in rows["random-ablation"])
    assert describe_controls(addition.controls) == "ASR 2.5, FRR 5.0 (of 1)"
    assert describe_controls(ablation.controls) == ("ASR 5.0 to 12.5, FRR 0.0 to 10.0 (of 3)")


def test_other_data_sets_judges_and_prompts_have_other_controls(tmp_path: Path) -> None:
    write_run(tmp_path, measured(30), condition="ablation", info=DIRECTION)
    advbench = [task("advbench", "de", "r" * N)]
    random_run(tmp_path, 0, advbench)
    (row,) = rows_by_condition(tmp_path)["ablation"]
    assert row.controls is None
    write_run(tmp_path, measured(20), condition="ablation+mcd", info=DIRECTION | PROMPT, day=5)
    random_run(tmp_path, 1, measured(2), condition="random-ablation+mcd", **PROMPT)
    rows = rows_by_condition(tmp_path)
    assert rows["ablation+mcd"][0].controls == Controls(1, (2 / 40, 2 / 40), (0.0, 0.0))
    assert rows["ablation"][0].controls is None


# --- the warning


def told(folder: Path) -> list[tuple[str, str]]:
    reading = read([folder])
    found = warnings.collect(reading, rates.records(reading))
    return [(one.condition, one.text) for one in found if "random direction" in one.text]


@pytest.mark.parametrize(
    ("ablated", "random", "warned"),
    [
        (38, (2, 3, 1), False),
        # Wilson's interval of 12 of 40 begins at 18.1%: above 7 of 40, below 8.
        (12, (2, 7), False),
        (12, (2, 8), True),
        (40, (40, 39), True),
    ],
)
def test_an_effect_that_random_directions_have_too(
    tmp_path: Path, ablated: int, random: tuple[int, ...], warned: bool
) -> None:
    write_run(tmp_path, measured(ablated), condition="ablation", info=DIRECTION)
    for seed, complied in enumerate(random):
        random_run(tmp_path, seed, measured(complied))
    found = told(tmp_path)
    assert bool(found) == warned
    if warned:
        ((condition, text),) = found
        low, high = 100 * min(random) / N, 100 * max(random) / N
        assert condition == "ablation"
        assert f"{low:.1f} to {high:.1f}% with {len(random)} random directions" in text
        assert "not shown to come from the refusal direction." in text


def test_addition_is_compared_by_what_it_makes_refused(tmp_path: Path) -> None:
    write_run(tmp_path, measured(0, 35), condition="addition", info=DIRECTION)
    random_run(tmp_path, 0, measured(39, 1), condition="random-addition")
    assert told(tmp_path) == []
    random_run(tmp_path, 1, measured(39, 34), condition="random-addition")
    ((condition, text),) = told(tmp_path)
    assert condition == "addition"
    assert text.startswith("False refusal rate is 87.5% (95% interval ")
    assert "2.5 to 85.0% with 2 random directions" in text


def test_other_ablations_are_conditions_with_controls_of_their_own(tmp_path: Path) -> None:
    """The same direction, taken out in another way, is another row; none is lost in another's."""
    write_run(tmp_path, measured(0))  # a baseline that answers no harmful prompt
    for day, condition in enumerate(("ablation", "affine-ablation", "projected-ablation"), 2):
        given = {"condition": condition, "info": DIRECTION | {"ablation": condition}, "day": day}
        write_run(tmp_path, measured(30 + day), **given)
    random_run(tmp_path, 3, measured(39), condition="random-affine-ablation")
    rows = rows_by_condition(tmp_path)
    rates = {name: row.asr.value for name, (row,) in rows.items() if row.asr is not None}
    assert rates["ablation"] == 32 / N
    assert (rates["affine-ablation"], rates["projected-ablation"]) == (33 / N, 34 / N)
    (affine,), (plain,) = rows["affine-ablation"], rows["ablation"]
    assert affine.controls is not None and affine.controls.asr == (39 / N, 39 / N)
    assert plain.controls is None
    ((condition, text),) = told(tmp_path)
    assert condition == "affine-ablation"
    assert "with affine-ablation and 97.5 to 97.5% with 1 random direction" in text


def test_rates_in_other_languages_are_not_compared(tmp_path: Path) -> None:
    write_run(tmp_path, measured(10), condition="ablation", info=DIRECTION)
    random_run(tmp_path, 0, measured(40, language="en"))
    assert told(tmp_path) == []


# --- what is written, and the gate


def test_tables_page_and_json(tmp_path: Path) -> None:
    write_run(tmp_path / "results", measured(30), condition="ablation", info=DIRECTION)
    for seed in (0, 1):
        random_run(tmp_path / "results", seed, measured(5 + seed))
    code, _, err = run_in_process(
        "leaderboard", "build", tmp_path / "results", "--output", tmp_path / "site"
    )
    assert code == 0, err
    markdown = (tmp_path / "site/leaderboard.md").read_text(encoding="utf-8")
    assert "| random directions |" in markdown
    assert "ASR 12.5 to 15.0, FRR 0.0 to 0.0 (of 2)" in markdown
    document = json.loads((tmp_path / "site/leaderboard.json").read_text(encoding="utf-8"))
    conditions = {(one["condition"], one["intervention"]) for one in document["records"]}
    assert sorted(condition for condition, _ in conditions) == [
        "ablation",
        "random-ablation",
        "random-ablation",
    ]
    page = (tmp_path / "site/index.html").read_text(encoding="utf-8")
    assert "ASR 12.5 to 15.0, FRR 0.0 to 0.0 (of 2)" in page
    assert "with a random direction removed, as a control" in page


def test_the_gate_holds_one_seed_at_a_time(tmp_path: Path) -> None:
    random_run(tmp_path / "before", 0, measured(2))
    baseline = make_baseline(choose_runs(read([tmp_path / "before"]), condition="random-ablation"))
    assert baseline.condition == "random-ablation"
    write_baseline(baseline, tmp_path / "baseline.json")
    random_run(tmp_path / "now", 0, measured(20))
    outcome = check(read_baseline(tmp_path / "baseline.json"), read([tmp_path / "now"]))
    assert outcome.condition == "random-ablation"
    (failed,) = (one for one in outcome.comparisons if one.failures)
    assert (failed.before.metric, failed.before.hits) == ("asr", 2)
    random_run(tmp_path / "now", 1, measured(20))
    with pytest.raises(BadChoice, match="come from several revisions or interventions"):
        choose_runs(read([tmp_path / "now"]))
    write_run(tmp_path / "now", measured(30), condition="ablation", info=DIRECTION)
    with pytest.raises(BadChoice, match="random-ablation"):
        choose_runs(read([tmp_path / "now"]))
    (run,) = choose_runs(read([tmp_path / "now"]), condition="ablation")
    assert run.condition == "ablation"
