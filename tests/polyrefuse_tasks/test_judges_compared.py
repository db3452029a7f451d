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
from tests.commands import run_in_process
from tests.leaderboard.result_files import task, write_run
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
    assert "first-word and native, on refusal: 2 undecided by one of them" in out
    assert "polyrefuse_harmful_de harmful/test/0003: no refusal, refusal" in out
    code, out, err = run_in_process("judge", "agreement", results, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document[0]["languages"]["de"]["kappa"] == 0


def test_one_judge_is_compared_with_nobody(tmp_path: Path) -> None:
    write_run(tmp_path, [task("harmful", "en", "rc")])
    with pytest.raises(NothingToCompare, match="labels of two judges"):
        compare_judges([tmp_path])
