"""The time of jobs, against closed forms."""

from __future__ import annotations

from typing import Any

import pytest
from polyrefuse_studies.forecast.estimate import NoEstimate, Seconds, chain, seconds, with_slots
from polyrefuse_studies.forecast.text import duration
from polyrefuse_studies.jobs import Job

from polyrefuse_models.workload import Part, Workload

RATES: dict[str, Any] = {
    "rows": 8,
    "read": 200.0,
    "generated": 40.0,
    "longest": 10,
    "judged": {"native": 5.0, "substring": 50.0},
    "light": 1.0,
    "imports": 3.0,
    "loading": 2.0,
}


def job(kind: Any, name: str = "m/a", needs: tuple[str, ...] = (), gpus: int | None = None) -> Job:
    return Job(name, kind, "m", ("polyrefuse", "--judge", "substring"), needs, gpus=gpus)


def test_answers_take_what_is_read_and_whole_batches_of_what_is_written() -> None:
    workload = Workload(20, (Part("answers", 20, 1000, 20, 100),), judged=20)
    took = seconds(job("answers"), workload, 7.0, RATES, "hf")
    # 3 + 7 + 2 to begin, 20 / 5 to judge, 1000 / 200 to read; 20 answers are 3 batches of 8, whose
    # tokens take 8 / 40 each: 10 of them, or 100 at most.
    assert took == Seconds(pytest.approx(21 + 3 * 0.2 * 10), pytest.approx(21 + 3 * 0.2 * 100))
    unended = seconds(job("answers"), workload, 7.0, RATES | {"longest": None}, "hf")
    assert unended.about == unended.at_most == pytest.approx(21 + 60)
    short = Workload(20, (Part("answers", 20, 1000, 20, 4),))
    assert seconds(job("answers"), short, 0.0, RATES, "hf").about == pytest.approx(10 + 2.4)


def test_what_is_not_certain_counts_at_most_and_training_reads_twice() -> None:
    parts = (Part("a", 1, 400), Part("b", 1, 600, certain=False), Part("c", 1, 200, trains=True))
    took = seconds(job("training"), Workload(1, parts), 0.0, RATES, "hf")
    assert took == Seconds(pytest.approx(5 + 2 + 2), pytest.approx(5 + 2 + 2 + 3))


def test_drift_loads_the_untouched_model_too() -> None:
    took = seconds(job("drift"), Workload(1, (Part("a", 1, 400),)), 0.0, RATES, "hf")
    assert took.about == pytest.approx(3 + 2 * 2 + 2)


def test_judging_loads_no_model() -> None:
    took = seconds(job("judging"), Workload(100, judged=100), 0.0, RATES, "vllm")
    assert took == Seconds(pytest.approx(1 + 2), pytest.approx(1 + 2))


def test_a_probe_of_another_engine_says_nothing_of_directions() -> None:
    assert seconds(job("answers"), Workload(0), 0.0, RATES, "vllm").about == 5
    with pytest.raises(NoEstimate, match="runs with transformers"):
        seconds(job("direction"), Workload(0), 0.0, RATES, "vllm")


DIAMOND = [
    job("direction", "m/d"),
    job("answers", "m/x", ("m/d",)),
    job("answers", "m/y", ("m/d",)),
    job("answers", "m/z"),
    job("judging", "m/j", ("m/x",)),
]
TIMES = {"m/d": 4.0, "m/x": 10.0, "m/y": 3.0, "m/z": 5.0, "m/j": 2.0}


def test_the_longest_chain_goes_through_what_jobs_wait_for() -> None:
    longest = chain(DIAMOND, {name: Seconds(time, 2 * time) for name, time in TIMES.items()})
    assert longest == Seconds(16.0, 32.0)
    assert chain(DIAMOND, {"m/z": Seconds(5.0, 6.0)}) == Seconds(5.0, 6.0)


@pytest.mark.parametrize(
    ("slots", "expected"),
    # With two: d and z begin; x at 4, y at 5, j at 14. With three y begins at 4 too.
    [(1, 24.0), (2, 16.0), (3, 16.0)],
)
def test_jobs_begin_as_the_runner_begins_them(slots: int, expected: float) -> None:
    assert with_slots(DIAMOND, TIMES, slots) == expected


def test_a_job_of_several_gpus_takes_as_many_slots() -> None:
    wide = [job("answers", "m/a", gpus=2), job("answers", "m/b"), job("answers", "m/c")]
    times = {"m/a": 5.0, "m/b": 3.0, "m/c": 1.0}
    assert with_slots(wide, times, 2) == 8.0
    assert with_slots(wide, times, 3) == 5.0


@pytest.mark.parametrize(
    ("number", "said"),
    [(0.4, "0 s"), (99.4, "99 s"), (100, "2 min"), (3600, "60 min"), (7200, "2 h"), (9e5, "250 h")],
)
def test_times_in_words(number: float, said: str) -> None:
    assert duration(number) == said
