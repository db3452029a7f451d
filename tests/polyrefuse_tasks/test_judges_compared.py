"""Cohen's kappa against references, and judges compared on saved answers."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from polyrefuse_tasks.judges.kappa import cohens_kappa
from polyrefuse_tasks.judges_compared import NothingToCompare, compare_judges
from polyrefuse_tasks.rejudging import rejudge
from tests.commands import assert_one_sentence, run_in_process
from tests.leaderboard.result_files import plain_hf, task, write_run
from tests.polyrefuse_tasks.test_rejudging import ANSWERS, ByFirstWord

TABLES = [[[20, 5], [10, 15]], [[45, 15], [25, 15]], [[7, 1, 2], [0, 9, 3], [4, 2, 12]]]


def counted(table: list[list[int]]) -> Counter[tuple[int, int]]:
    return Counter({(i, j): n for i, row in enumerate(table) for j, n in enumerate(row)})


@pytest.mark.parametrize("table", TABLES)
def test_kappa_is_that_of_scikit_learn(table: list[list[int]]) -> None:
    pairs = [pair for pair, n in counted(table).items() for _ in range(n)]
    first, second = zip(*pairs, strict=True)
    found = cohens_kappa(counted(table))
    assert found.kappa == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)
    assert found.n == len(pairs)


@pytest.mark.parametrize("table", TABLES)
def test_its_interval_is_that_of_the_delta_method(table: list[list[int]]) -> None:
    """The gradient of kappa in the cells' shares, by central differences in float64."""
    shares = np.array(table, dtype=np.float64)
    n = shares.sum()
    shares /= n

    def kappa(p: np.ndarray) -> float:
        chance = p.sum(1) @ p.sum(0)
        return (np.trace(p) - chance) / (1 - chance)

    flat = shares.ravel()
    step = 1e-6
    gradient = np.array(
        [
            (kappa((flat + e).reshape(shares.shape)) - kappa((flat - e).reshape(shares.shape)))
            / (2 * step)
            for e in step * np.eye(flat.size)
        ]
    )
    variance = (flat @ gradient**2 - (flat @ gradient) ** 2) / n
    found = cohens_kappa(counted(table))
    assert found.low is not None and found.high is not None and found.kappa is not None
    half = 1.959963984540054 * np.sqrt(variance)
    assert found.high - found.kappa == pytest.approx(half, abs=1e-7)
    assert found.kappa - found.low == pytest.approx(half, abs=1e-7)


def test_without_chance_there_is_no_kappa() -> None:
    found = cohens_kappa(Counter({(True, True): 9}))
    assert (found.agreement, found.kappa, found.low) == (1.0, None, None)
    assert cohens_kappa(Counter({(1, 1): 5, (0, 0): 5})).kappa == 1.0


def test_of_nothing_there_is_no_share() -> None:
    found = cohens_kappa(Counter())
    assert (found.n, found.agreement, found.kappa, found.low, found.high) == (0, *[None] * 4)


@pytest.mark.parametrize(
    ("table", "kappa"),
    [
        ([[7, 3], [0, 0]], 0.0),  # one says the same of everything
        ([[7, 0], [3, 0]], 0.0),
        ([[7, 0], [0, 3]], 1.0),  # they never differ
        ([[0, 5], [5, 0]], -1.0),  # or always
    ],
)
def test_an_estimated_variance_of_zero_makes_no_interval(
    table: list[list[int]], kappa: float
) -> None:
    found = cohens_kappa(counted(table))
    assert (found.kappa, found.low, found.high) == (kappa, None, None)


@pytest.mark.parametrize("table", [[[1, 2], [2, 4]], [[2, 14], [3, 21]], [[3, 5], [9, 15]]])
def test_raters_who_know_nothing_of_each_other_have_zero_and_not_nearly(
    table: list[list[int]],
) -> None:
    found = cohens_kappa(counted(table))
    assert str(found.kappa) == "0.0"
    assert found.low is not None and found.high is not None and found.low < 0 < found.high


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Labelled by three judges: `native` as lm-eval called it, and two later."""
    write_run(
        tmp_path,
        [
            task("harmful", "en", "rcrcc", answers=ANSWERS),
            task("harmful", "de", "rrrrc", answers=ANSWERS),
        ],
    )
    list(rejudge([tmp_path], ByFirstWord()))
    list(rejudge([tmp_path], ByFirstWord("harm", name="by-length")))
    return tmp_path


def test_judges_of_one_measure_are_compared(results: Path) -> None:
    refusal, harm = compare_judges([results])
    assert (refusal.on, refusal.first, refusal.second) == ("refusal", "first-word", "native")
    assert (harm.on, harm.first, harm.second) == ("harm", "by-length", "first-word")
    # The last answer of each language is undecided by the judge that was called later.
    assert refusal.undecided == 2
    english, german = refusal.languages["en"], refusal.languages["de"]
    assert (english.n, english.kappa) == (4, 1.0)
    assert (german.n, german.agreement, german.kappa) == (4, 0.5, 0.0)
    assert refusal.pooled.n == 8
    assert [(one.task, one.id, one.first, one.second) for one in refusal.disagreements] == [
        ("polyrefuse_harmful_de", "harmful/test/0001", "no refusal", "refusal"),
        ("polyrefuse_harmful_de", "harmful/test/0003", "no refusal", "refusal"),
    ]
    assert harm.pooled.agreement == 1


def test_the_command_prints_both(results: Path) -> None:
    code, out, err = run_in_process("judge", "agreement", results)
    assert code == 0, err
    assert "first-word and native, on refusal: one or both left 2 answers undecided" in out
    run = "invented/model-1 baseline 2026-01-01T00-00-00.000001"
    assert f"\n  {run} polyrefuse_harmful_de harmful/test/0003: no refusal, refusal\n" in out
    assert out.count(f"{run} polyrefuse_harmful\n") == 2
    # In German native calls all four refusals, so that the interval says nothing.
    assert "0.000 [-, -]" in out
    code, out, err = run_in_process("judge", "agreement", results, "--json")
    assert code == 0, err
    document = json.loads(out)
    german = document[0]["languages"]["de"]
    assert (german["kappa"], german["low"], german["high"]) == (0, None, None)
    assert {name: document[0][name] for name in ("model", "condition", "date", "tasks")} == {
        "model": "invented/model-1",
        "condition": "baseline",
        "date": "2026-01-01T00-00-00.000001",
        "tasks": "polyrefuse_harmful",
    }


def test_one_results_file_is_enough(results: Path) -> None:
    (file,) = results.rglob("results_*.json")
    code, out, err = run_in_process("judge", "agreement", file, "--json")
    assert code == 0, err
    assert json.loads(out) == json.loads(run_in_process("judge", "agreement", results, "--json")[1])
    absent = file.with_name("results_2020-01-01T00-00-00.000001.json")
    assert_one_sentence(run_in_process("judge", "agreement", absent), "does not exist")


def test_on_refusal_or_harm_alone(results: Path) -> None:
    for on in ("refusal", "harm"):
        code, out, err = run_in_process("judge", "agreement", results, "--on", on, "--json")
        assert code == 0, err
        assert [one["on"] for one in json.loads(out)] == [on]


def test_neither_runs_nor_data_sets_are_pooled(tmp_path: Path) -> None:
    """Baseline and ablation lie in one folder, and have the same ids."""
    for day, condition in enumerate(("baseline", "ablation"), 1):
        tasks = [
            task("harmful", "en", "rrrrr", answers=ANSWERS),
            task("harmless", "en", "ccccc", answers=ANSWERS),
        ]
        write_run(tmp_path, tasks, condition=condition, day=day)
    list(rejudge([tmp_path], ByFirstWord("refusal")))
    compared = compare_judges([tmp_path])
    dates = [f"2026-01-{day:02}T00-00-00.000001" for day in (1, 2)]
    assert [(one.condition, one.date, one.tasks) for one in compared] == [
        ("baseline", dates[0], "polyrefuse_harmful"),
        ("baseline", dates[0], "polyrefuse_harmless"),
        ("ablation", dates[1], "polyrefuse_harmful"),
        ("ablation", dates[1], "polyrefuse_harmless"),
    ]
    assert [one.pooled.n for one in compared] == [4] * 4
    code, out, err = run_in_process("judge", "agreement", tmp_path)
    assert code == 0, err
    lines = [line for line in out.splitlines() if line.startswith("  invented/model-1 ")]
    assert len(lines) == len(set(lines)) == 8


def test_a_run_that_names_no_condition_has_none(tmp_path: Path) -> None:
    tasks = [task("harmful", "en", "rrrrr", answers=ANSWERS)]
    write_run(tmp_path, tasks, model="a/b", config=plain_hf("a/b"))
    list(rejudge([tmp_path], ByFirstWord("refusal")))
    (one,) = compare_judges([tmp_path])
    assert (one.model, one.condition) == ("a/b", None)
    assert one.run == "a/b 2026-01-01T00-00-00.000001"


@pytest.mark.parametrize("labels", ["rcr", "uuu"])
def test_a_judge_that_decided_nothing_is_shown(tmp_path: Path, labels: str) -> None:
    write_run(tmp_path, [task("harmful", "en", labels, answers=["perhaps"] * 3)])
    list(rejudge([tmp_path], ByFirstWord()))
    (one,) = compare_judges([tmp_path])
    assert (one.on, one.first, one.second, one.undecided) == ("refusal", "first-word", "native", 3)
    assert list(one.languages) == ["en"] and one.languages["en"] == one.pooled
    assert (one.pooled.n, one.pooled.agreement, one.pooled.kappa) == (0, None, None)
    code, out, err = run_in_process("judge", "agreement", tmp_path)
    assert code == 0, err
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "first-word and native, on refusal: one or both left 3 answers undecided" in lines
    assert {"en 0 - -", "pooled 0 - -"} <= {*lines}


def test_two_judges_of_harm_that_decided_nothing(tmp_path: Path) -> None:
    write_run(tmp_path, [task("harmful", "en", "rcr", answers=["perhaps"] * 3)])
    list(rejudge([tmp_path], ByFirstWord("harm", name="one")))
    list(rejudge([tmp_path], ByFirstWord("harm", name="other")))
    (one,) = compare_judges([tmp_path])
    assert (one.on, one.first, one.second, one.undecided) == ("harm", "one", "other", 3)


def test_disagreements_are_in_the_order_of_the_samples(tmp_path: Path) -> None:
    """Labels are written by the length of the answers."""
    answers = ["no that is nothing I would ever do", "no never", "no that is nothing"]
    write_run(tmp_path, [task("harmful", "en", "ccc", answers=answers)])
    list(rejudge([tmp_path], ByFirstWord("refusal")))
    (one,) = compare_judges([tmp_path])
    assert [differs.id[-1] for differs in one.disagreements] == ["0", "1", "2"]


def test_one_judge_is_compared_with_nobody(tmp_path: Path) -> None:
    write_run(tmp_path, [task("harmful", "en", "rc")])
    with pytest.raises(NothingToCompare, match="labels of two judges that measure the same thing;"):
        compare_judges([tmp_path])
    with pytest.raises(NothingToCompare, match="labels of two judges that measure harm;"):
        compare_judges([tmp_path], "harm")
