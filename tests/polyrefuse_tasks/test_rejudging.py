"""Saved answers judged again: labels beside the samples, whenever the process is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from polyrefuse_leaderboard.rates import records
from polyrefuse_leaderboard.reading.results import read

from polyrefuse_tasks.judges import Judgement, Label
from polyrefuse_tasks.judges.contract import Measure
from polyrefuse_tasks.rejudging import LabelsWouldBeLost, NothingToJudge, Outcome, rejudge
from polyrefuse_tasks.saved_results.documents import BadResults
from tests.commands import assert_one_sentence, run_in_process
from tests.conftest import ROOT
from tests.leaderboard.result_files import task, write_run

ANSWERS = [
    "no thank you",
    "yes of course",
    "no that is nothing I would ever do",
    "yes there are three birds in the garden",
    "perhaps",
]


class ByFirstWord:
    """Refusal by `no`, compliance by `yes`, undecided otherwise; harm by the length."""

    def __init__(
        self, measures: Measure = "both", revision: str = "one", name: str = "first-word"
    ) -> None:
        self.name, self.measures, self.revision = name, measures, revision
        self.english_only = False
        self.languages = ("en",)
        self.asked: list[tuple[str, str | None]] = []

    def judge(
        self, responses: Sequence[str], languages: Sequence[str], prompts: Sequence[str | None]
    ) -> list[Judgement]:
        self.asked += zip(responses, prompts, strict=True)
        labels = {"no": Label.REFUSAL, "yes": Label.COMPLIANCE}
        said = []
        for response in responses:
            label = labels.get(response.split()[0], Label.UNDECIDED)
            harmful = None if label is Label.UNDECIDED else len(response) > 20
            if self.measures == "refusal":
                said.append(Judgement(label, response.split()[0]))
            elif self.measures == "harm":
                said.append(Judgement(label if harmful is None else None, "length", harmful))
            else:
                said.append(Judgement(label, response.split()[0], harmful))
        return said


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_run(
        tmp_path / "results",
        [
            task("harmful", "en", "ccccc", answers=ANSWERS),
            task("harmful", "de", "rrrrr", answers=ANSWERS),
            task("harmless", "en", "ccccc", answers=ANSWERS),
        ],
    )
    return tmp_path / "results"


JUDGING = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from polyrefuse_tasks.judges import Judgement, Label
from polyrefuse_tasks.rejudging import rejudge

class Slow:
    name, measures, english_only, revision = sys.argv[2], "refusal", False, "one"

    batches = 0

    def judge(self, responses, languages, prompts):
        print("batch", flush=True)
        self.batches += 1
        time.sleep(float(sys.argv[3])) if len(sys.argv) > 3 else sys.stdin.readline()
        if len(sys.argv) > 4 and self.batches > int(sys.argv[4]):
            time.sleep(3600)
        return [Judgement(Label.COMPLIANCE, None)] * len(responses)

for outcome in rejudge([Path(sys.argv[1])], Slow(), batch_size=4):
    pass
print("done", flush=True)
"""
"""A process that judges a folder's answers by a judge of a name. A batch takes so many seconds, or
as long as the standard input is silent. The last argument is after how many batches it stops until
it is killed."""


def labels(folder: Path, judge: str = "first-word") -> dict[str, list[dict[str, Any]]]:
    """Lines of each file of labels, by the task's name."""
    return {
        path.name.split("_", 2)[2].rpartition("_")[0]: [
            json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()
        ]
        for path in sorted(folder.rglob(f"judged_{judge}_*.jsonl"))
    }


def test_every_answer_gets_a_line_beside_the_samples(results: Path) -> None:
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    judge = ByFirstWord()
    outcomes = list(rejudge([results], judge, batch_size=2))
    assert [(one.task, one.judged, one.n) for one in outcomes] == [
        ("polyrefuse_harmful_de", 5, 5),
        ("polyrefuse_harmful_en", 5, 5),
        ("polyrefuse_harmless_en", 5, 5),
    ]
    assert outcomes[0].counts == {
        "refusal": 2,
        "compliance": 2,
        "degenerate": 0,
        "undecided": 1,
        "harmless": 2,
        "harmful": 2,
    }
    written = labels(results)
    assert list(written) == [one.task for one in outcomes]
    for lines in written.values():
        by_id = {line["id"]: line for line in lines}
        assert len(by_id) == 5
        assert [line["label"] for _, line in sorted(by_id.items())] == [
            *("refusal", "compliance", "refusal", "compliance", "undecided")
        ]
        assert [line["harm"] for _, line in sorted(by_id.items())] == [
            *(False, False, True, True, None)
        ]
        assert {line["revision"] for line in lines} == {"one"}
        assert by_id[lines[0]["id"]]["evidence"] == "perhaps"  # the shortest first
        assert ["judging" in line for line in lines] == [True, False, False, False, False]
    # lm-eval's own files stay as they are.
    assert {path: path.read_bytes() for path in before} == before
    assert all(prompt for _, prompt in judge.asked)


def test_an_answer_is_judged_once(results: Path) -> None:
    list(rejudge([results], ByFirstWord(), languages=["en"], limit=2))
    judge = ByFirstWord()
    outcomes = list(rejudge([results], judge, languages=["en"]))
    assert [one.judged for one in outcomes] == [3, 3]
    assert len(judge.asked) == 6
    assert all(len(lines) == 5 for lines in labels(results).values())
    assert [one.judged for one in rejudge([results], ByFirstWord())] == [5, 0, 0]


def test_labels_of_another_revision_are_replaced_and_compared(results: Path) -> None:
    list(rejudge([results], ByFirstWord(), datasets=["harmless"]))

    class Stricter(ByFirstWord):
        def judge(self, *batch: Any) -> list[Judgement]:
            said = super().judge(*batch)
            return [Judgement(Label.REFUSAL, "all", one.harmful) for one in said]

    (outcome,) = rejudge([results], Stricter(revision="two"), datasets=["harmless"])
    assert outcome.judged == 5
    assert [(one.id, one.before, one.after) for one in outcome.moved] == [
        ("harmless/test/0001", "compliance harmless", "refusal harmless"),
        ("harmless/test/0003", "compliance harmful", "refusal harmful"),
        ("harmless/test/0004", "undecided", "refusal"),
    ]
    (lines,) = labels(results).values()
    assert {line["revision"] for line in lines} == {"two"}
    assert not list(results.rglob("*.before"))


def test_some_of_the_answers_do_not_replace_all_labels(results: Path) -> None:
    list(rejudge([results], ByFirstWord(), datasets=["harmless"]))
    before = labels(results)
    other = ByFirstWord(revision="two")
    with pytest.raises(LabelsWouldBeLost, match=r"5 labels made with another revision, and --lim"):
        list(rejudge([results], other, datasets=["harmless"], limit=2))
    assert labels(results) == before
    assert not other.asked
    # Where nothing is lost, some are enough.
    (outcome,) = rejudge([results], other, datasets=["harmless"], limit=5)
    assert outcome.judged == 5


def test_labels_to_compare_with_stay_until_all_are_judged_again(results: Path) -> None:
    list(rejudge([results], ByFirstWord(), datasets=["harmless"]))

    class Dies(ByFirstWord):
        def judge(self, *batch: Any) -> list[Judgement]:
            if len(self.asked) == 2:
                raise KeyboardInterrupt
            return super().judge(*batch)

    with pytest.raises(KeyboardInterrupt):
        list(rejudge([results], Dies(revision="two"), datasets=["harmless"], batch_size=2))
    again = {"datasets": ["harmless"], "batch_size": 2}
    list(rejudge([results], ByFirstWord(revision="two"), **again, limit=1))
    assert list(results.rglob("*.before"))
    list(rejudge([results], ByFirstWord(revision="two"), **again))
    assert not list(results.rglob("*.before"))


def test_labels_stay_until_there_is_one_in_their_place(results: Path) -> None:
    """And those of a judging that is asked for again are put back, not made again."""
    list(rejudge([results], ByFirstWord(), datasets=["harmless"]))
    before = labels(results)

    class Fails(ByFirstWord):
        def judge(self, *batch: Any) -> list[Judgement]:
            if len(self.asked) == self.after:
                raise KeyboardInterrupt
            return super().judge(*batch)

        after = 0

    again: dict[str, Any] = {"datasets": ["harmless"], "batch_size": 2}
    with pytest.raises(KeyboardInterrupt):
        list(rejudge([results], Fails(revision="two"), **again))
    assert labels(results) == before
    Fails.after = 2
    with pytest.raises(KeyboardInterrupt):
        list(rejudge([results], Fails(revision="two"), **again))
    assert labels(results) != before
    (outcome,) = rejudge([results], ByFirstWord(), datasets=["harmless"])
    assert (outcome.judged, labels(results)) == (0, before)
    assert not list(results.rglob("*.before"))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda text: text.replace(b"\n", b"\r"), "is not a line of labels"),
        (
            lambda text: text.replace(b'"revision": "one"}', b'"revision": "two"}', 1),
            "which differs",
        ),
        (lambda text: text + b'{"id": "x", "answer": 0}\n', "revision is None"),
        (lambda text: text + text.replace(b'"one"', b'"two"'), "labelled with another revision"),
        (lambda text: b"not JSON\n" + text, r"is not JSON, or was cut off; remove it and run `p"),
    ],
)
def test_damaged_labels_are_a_sentence(
    results: Path, damage: Callable[[bytes], bytes], told: str
) -> None:
    list(rejudge([results], ByFirstWord(), datasets=["harmless"]))
    (path,) = results.rglob("judged_*")
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    with pytest.raises(BadResults, match=told):
        list(rejudge([results], ByFirstWord(), datasets=["harmless"]))
    assert path.read_bytes() == damaged


def test_blank_lines_are_no_damage(results: Path) -> None:
    list(rejudge([results], ByFirstWord(), datasets=["harmless"]))
    (path,) = results.rglob("judged_*")
    path.write_bytes(path.read_bytes() + b"\n")
    (outcome,) = rejudge([results], ByFirstWord(), datasets=["harmless"])
    assert outcome.judged == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--languages", "en,xx"], "--languages: the results have no samples of xx; they have de,"),
        (["--datasets", "harmful,nothing"], "no samples of nothing; they have harmful, harmless."),
        (["--languages", " ,"], "names nothing"),
        (["--translate", "nowhere"], "The judge native reads every language: leave out"),
    ],
)
def test_choices_that_choose_nothing(results: Path, options: list[str], told: str) -> None:
    done = run_in_process("judge", "run", results, "--judge", "native", *options)
    assert_one_sentence(done, told)
    assert not list(results.rglob("judged_*"))


def test_blanks_around_a_choice(results: Path) -> None:
    chosen = ("--languages", " en, de ", "--datasets", "harmful")
    code, out, err = run_in_process("judge", "run", results, "--judge", "native", *chosen)
    assert (code, out.count(" of 5 (5 judged now)")) == (0, 2), err


def test_what_is_not_there_is_told_beside_what_is(
    results: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = (results, tmp_path / "typo")
    assert run_in_process("judge", "run", *given, "--judge", "native")[0] == 0
    assert "typo does not exist" in caplog.text


def test_every_judge_has_a_file_of_its_own(results: Path) -> None:
    names = ["a/b", "a-b", "a:b", "a_b", "a%3Ab"]
    for name in names:
        list(rejudge([results], ByFirstWord(name=name), datasets=["harmless"]))
    told = [json.loads(path.open().readline()) for path in results.rglob("judged_*")]
    assert sorted(line["judging"]["judge"] for line in told) == sorted(names)
    assert {row.judge for row in records(read([results]))} == {"native", *names}


def test_labels_of_the_judge_that_lm_eval_called_are_compared_with(results: Path) -> None:
    outcomes = {one.task: one for one in rejudge([results], ByFirstWord("refusal", name="native"))}
    moved = outcomes["polyrefuse_harmful_de"].moved
    assert [(one.id, one.before, one.after) for one in moved] == [
        ("harmful/test/0001", "refusal", "compliance"),
        ("harmful/test/0003", "refusal", "compliance"),
        ("harmful/test/0004", "refusal", "undecided"),
    ]


def test_harm_that_lm_eval_logged_is_compared_too(results: Path) -> None:
    for path in results.rglob("samples_polyrefuse_harmful_en*"):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        labels_before = ("refusal", "compliance", "refusal", "compliance", "undecided")
        for row, label, harm in zip(
            rows, labels_before, (False, True, True, True, None), strict=True
        ):
            row["doc"] |= {"label": label, "response_harmful": harm}
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (outcome,) = rejudge(
        [results], ByFirstWord(name="native"), datasets=["harmful"], languages=["en"]
    )
    assert [(one.id, one.before, one.after) for one in outcome.moved] == [
        ("harmful/test/0001", "compliance harmful", "compliance harmless")
    ]


def rates(results: Path, judge: str) -> dict[tuple[str, str], dict[str, float]]:
    (run,) = read([results]).runs
    return {
        (cell.dataset, cell.language): dict(cell.rates) for cell in run.cells if cell.judge == judge
    }


def test_the_leaderboard_reads_both_judges(results: Path) -> None:
    list(rejudge([results], ByFirstWord()))
    assert rates(results, "native")["harmful", "de"]["refusal_rate"] == 1
    by_judge = rates(results, "first-word")
    assert by_judge["harmful", "de"].pop("off_language_rate") > 0
    assert by_judge["harmful", "de"] == {
        "asr": 0.4,
        "asr_harmful": 0.4,
        "refusal_rate": 0.4,
        "degenerate_rate": 0,
        "undecided_rate": 0.2,
    }
    assert by_judge["harmless", "en"]["false_refusal_rate"] == 0.4
    (run,) = read([results]).runs
    told = {
        (cell.judge, cell.language): [one for one in cell.warnings if "card" in one]
        for cell in run.cells
    }
    assert told["first-word", "de"] == [
        "The card of judge first-word does not name de: the judge may err more often in this "
        "language."
    ]
    assert told["first-word", "en"] == told["native", "de"] == []


def test_a_judge_of_harm_alone_gives_no_rate_of_refusals(results: Path) -> None:
    list(rejudge([results], ByFirstWord("harm")))
    assert "asr" not in rates(results, "first-word")["harmful", "en"]
    assert rates(results, "first-word")["harmful", "en"]["asr_harmful"] == 0.4


def test_labels_of_the_same_judge_take_the_place_of_older_ones(results: Path) -> None:
    list(rejudge([results], ByFirstWord("refusal", name="native")))
    assert rates(results, "native")["harmful", "de"]["refusal_rate"] == 0.4


def test_sampled_answers(tmp_path: Path) -> None:
    words = ["rcc", "ccc"]
    write_run(tmp_path, [task("advbench", "en", words, sampled=True)])
    (outcome,) = rejudge([tmp_path], ByFirstWord())
    assert outcome.n == 6
    (lines,) = labels(tmp_path).values()
    assert sorted((line["id"][-1], line["answer"]) for line in lines) == [
        ("0", 0), ("0", 1), ("0", 2), ("1", 0), ("1", 1), ("1", 2),
    ]  # fmt: skip
    assert set(rates(tmp_path, "first-word")["advbench", "en"]) >= {"asr_any", "asr_harmful"}


def test_only_the_first_prompts(results: Path) -> None:
    list(rejudge([results], ByFirstWord(), datasets=["harmless"], limit=3))
    (run,) = read([results]).runs
    (cell,) = (cell for cell in run.cells if cell.judge == "first-word")
    assert cell.n == 3
    assert (
        "Judge first-word labelled only the answers to the first 3 of 5 prompts (--limit)."
        in cell.warnings
    )


def test_labels_of_an_interrupted_run_are_a_sentence(results: Path) -> None:
    """They are those of the shortest answers, so that their rates would be of other prompts."""
    list(rejudge([results], ByFirstWord(), datasets=["harmless"]))
    (path,) = results.rglob("judged_*")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"".join(lines[2:]))
    reading = read([results])
    assert any("judging was interrupted" in problem for problem in reading.problems)
    assert not [c for run in reading.runs for c in run.cells if c.judge == "first-word"]


def test_a_line_that_was_cut_off_is_written_again(results: Path) -> None:
    list(rejudge([results], ByFirstWord(), datasets=["harmless"]))
    (path,) = results.rglob("judged_*")
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    (outcome,) = rejudge([results], ByFirstWord(), datasets=["harmless"])
    assert outcome.judged == 1
    (lines,) = labels(results).values()
    assert len({line["id"] for line in lines}) == len(lines) == 5


def test_two_judges_of_the_same_answers_at_once_and_no_judge_twice(tmp_path: Path) -> None:
    n = 40
    answers = [f"An answer, number {place}." for place in range(n)]
    write_run(tmp_path, [task("harmful", "en", "c" * n, answers=answers)])

    def start(judge: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", JUDGING, str(tmp_path), judge]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return subprocess.Popen(command, **pipes, stderr=subprocess.PIPE, text=True)

    running = [start("one"), start("org/two")]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "batch\n"
    # Both are in the middle of their work: a third that is one of them waits for nobody.
    third = start("org/two")
    _, said = third.communicate(timeout=580)
    assert third.returncode and "judges the answers in" in said and "with org/two: wait" in said
    for process in running:
        out, err = process.communicate(timeout=580)
        assert process.returncode == 0 and out.endswith("done\n"), err
    for judge in ("one", "org%2Ftwo"):
        (lines,) = labels(tmp_path, judge).values()
        assert len(lines) == len({line["id"] for line in lines}) == n
    assert not list(tmp_path.rglob(".judging*"))


def test_a_judge_that_was_killed_keeps_nobody_out(results: Path) -> None:
    (folder,) = {path.parent for path in results.rglob("results_*.json")}
    (folder / ".judging-first-word").mkdir()
    assert len(list(rejudge([results], ByFirstWord()))) == 3
    assert not list(results.rglob(".judging*"))


def test_nothing_to_judge(tmp_path: Path, results: Path) -> None:
    for path in results.rglob("samples_*"):
        path.unlink()
    with pytest.raises(NothingToJudge, match="--log_samples"):
        list(rejudge([results], ByFirstWord()))
    with pytest.raises(NothingToJudge, match="does not exist"):
        list(rejudge([tmp_path / "nowhere"], ByFirstWord()))


def test_samples_that_were_cut_off(results: Path) -> None:
    path = next(results.rglob("samples_polyrefuse_harmful_en*"))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(BadResults, match="line 5 is not JSON, or was cut off"):
        list(rejudge([results], ByFirstWord()))


# --- killed


def test_killed_at_any_moment_nothing_is_lost_and_nothing_judged_twice(tmp_path: Path) -> None:
    n, dice = 600, random.Random(0)
    answers = [f"An answer, number {place}." for place in range(n)]
    write_run(tmp_path, [task("harmful", "en", "c" * n, answers=answers)])
    command = [sys.executable, "-c", JUDGING, str(tmp_path), "slow", "0.003"]
    before = 0
    for _ in range(20):
        # On a slow machine it is killed later: there have to be answers for those after it.
        process = subprocess.Popen([*command, "6"], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "batch\n"
        time.sleep(dice.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        begun = 1 + process.stdout.read().count("batch")
        process.wait()
        (path,) = tmp_path.rglob("judged_*") if before or begun > 1 else (None,)
        if path is None:
            continue
        kept = path.read_bytes().count(b"\n")
        # Of the batches that were begun only the last may be missing.
        assert kept >= before + 4 * (begun - 1) - 4 * (before % 4 > 0)
        before = kept
    subprocess.run(command, check=True)
    (path,) = tmp_path.rglob("judged_*")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == n
    assert len({line["id"] for line in lines}) == n
    assert os.listdir(path.parent).count(path.name) == 1
    assert 0 < before < n
    assert isinstance(next(iter(rejudge([tmp_path], ByFirstWord()))), Outcome)
