"""Agreement of a judge with labels: the statistics, the rows, and what is wrong with a row."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from sklearn import metrics

from polyrefuse_tasks.judges import Judgement, Label, UnknownJudge, UnknownLanguage
from polyrefuse_tasks.judges.agreement import (
    BadLabels,
    NotMeasured,
    Row,
    compare,
    measure,
    read_rows,
)
from polyrefuse_tasks.judges.contract import Measure
from tests.polyrefuse_tasks.test_rejudging import ByFirstWord

REFUSES = "Es tut mir leid, aber dabei kann ich Ihnen nicht helfen."
ANSWERS = "Kochen Sie zuerst das Wasser und geben Sie dann den Tee hinein."
UNENDED = "<think>Hm"
GOOD = {"language": "de", "response": REFUSES, "refusal": True}


def row(response: str, refusal: bool, language: str = "de", english: str | None = None) -> Row:
    return Row("rows, line 1", language, response, refusal, english)


def write(folder: Path, *lines: Any) -> Path:
    """A file of lines: text as it is, anything else as JSON."""
    path = folder / "labels.jsonl"
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


class TestMeasure:
    @pytest.mark.parametrize("seed", range(20))
    def test_as_scikit_learn_has_it(self, seed: int) -> None:
        rng = random.Random(seed)
        pairs = [(rng.choice(list(Label)), rng.random() < 0.7) for _ in range(60)]
        told = measure(Counter(pairs))
        called = [label is Label.REFUSAL for label, _ in pairs]
        labelled = [refusal for _, refusal in pairs]
        assert told.n == 60
        assert told.base_rate == sum(labelled) / 60
        assert told.agreement == metrics.accuracy_score(labelled, called)
        for ours, theirs in (
            (told.balanced_accuracy, metrics.balanced_accuracy_score),
            (told.precision, metrics.precision_score),
            (told.recall, metrics.recall_score),
            (told.kappa, metrics.cohen_kappa_score),
        ):
            assert ours == pytest.approx(theirs(labelled, called))
        assert told.undecided == sum(label is Label.UNDECIDED for label, _ in pairs)
        assert told.degenerate == sum(label is Label.DEGENERATE for label, _ in pairs)

    @pytest.mark.parametrize("seed", range(20))
    def test_without_a_verdict_as_scikit_learn_has_a_third_class(self, seed: int) -> None:
        rng = random.Random(seed)
        pairs = [(rng.choice([True, False, None]), rng.random() < 0.6) for _ in range(60)]
        told = measure(Counter(pairs))
        names = {True: "harmful", False: "harmless", None: "undecided"}
        called = [names[verdict] for verdict, _ in pairs]
        labelled = [names[harmful] for _, harmful in pairs]
        assert told.agreement == metrics.accuracy_score(labelled, called)
        assert told.kappa == pytest.approx(metrics.cohen_kappa_score(labelled, called))
        recall, specificity = metrics.recall_score(
            labelled, called, labels=["harmful", "harmless"], average=None
        )
        assert told.recall == pytest.approx(recall)
        assert told.balanced_accuracy == pytest.approx((recall + specificity) / 2)
        assert told.precision == pytest.approx(
            metrics.precision_score(labelled, called, labels=["harmful"], average="micro")
        )
        assert told.undecided == called.count("undecided")

    def test_wilson_interval_of_the_agreement(self) -> None:
        pairs = {(Label.REFUSAL, True): 5, (Label.COMPLIANCE, False): 2, (Label.UNDECIDED, True): 3}
        told = measure(Counter(pairs))
        p, n, z = 0.7, 10, 1.959963984540054
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        assert (told.low, told.high) == pytest.approx((middle - half, middle + half))

    def test_by_hand(self) -> None:
        """Judge and label agree on 7 of 10, by chance on (6 * 5 + 4 * 5) / 10 = 5."""
        pairs = {
            (Label.REFUSAL, True): 4,
            (Label.REFUSAL, False): 2,
            (Label.COMPLIANCE, True): 1,
            (Label.COMPLIANCE, False): 1,
            (Label.UNDECIDED, False): 1,
            (Label.DEGENERATE, False): 1,
        }
        told = measure(Counter(pairs))
        assert (told.n, told.base_rate, told.agreement) == (10, 0.5, 0.7)
        assert told.precision == pytest.approx(4 / 6)
        assert told.recall == pytest.approx(4 / 5)
        assert told.balanced_accuracy == pytest.approx((4 / 5 + 3 / 5) / 2)
        assert told.kappa == pytest.approx((0.7 - 0.5) / (1 - 0.5))
        assert (told.undecided, told.degenerate) == (1, 1)

    @pytest.mark.parametrize(
        ("pairs", "defined"),
        [
            # All are refusals, and the judge says so: chance would agree on all of them too.
            ({(Label.REFUSAL, True): 3}, {"precision": 1.0, "recall": 1.0}),
            ({(Label.COMPLIANCE, False): 3}, {}),
            # The one class, and the judge misses some of it.
            (
                {(Label.REFUSAL, True): 3, (Label.UNDECIDED, True): 1},
                {"precision": 1.0, "recall": 0.75, "kappa": 0.0},
            ),
            (
                {(Label.REFUSAL, False): 1, (Label.COMPLIANCE, False): 1},
                {"precision": 0.0, "kappa": 0.0},
            ),
            # Both classes, and the judge never calls a refusal.
            (
                {(Label.COMPLIANCE, True): 1, (Label.DEGENERATE, False): 1},
                {"recall": 0.0, "balanced_accuracy": 0.5, "kappa": 0.0},
            ),
        ],
    )
    def test_what_is_not_defined_is_none(
        self, pairs: dict[tuple[Label, bool], int], defined: dict[str, float]
    ) -> None:
        told = asdict(measure(Counter(pairs)))
        undefined = dict.fromkeys(("balanced_accuracy", "precision", "recall", "kappa"))
        assert {name: told[name] for name in undefined} == undefined | defined


class TestCompare:
    def test_by_language_and_pooled(self) -> None:
        found = compare(
            [
                row("I cannot help with that.", True, "en"),
                row(REFUSES, True),
                row(ANSWERS, True),
                row(UNENDED, False),
                row("", False),
            ]
        )
        assert list(found.languages) == ["de", "en"]
        german = found.languages["de"]
        assert (german.n, german.agreement, german.recall, german.precision) == (4, 0.75, 0.5, 1.0)
        assert (german.undecided, german.degenerate) == (1, 1)
        assert found.languages["en"].balanced_accuracy is None
        assert (found.pooled.n, found.pooled.agreement) == (5, 0.8)

    def test_no_decision_is_no_refusal(self) -> None:
        found = compare([row(UNENDED, True), row("", True), row(REFUSES, False)])
        assert found.pooled.agreement == 0

    @pytest.mark.parametrize("measures", ["harm", "both"])
    def test_no_decision_on_harm_agrees_with_nothing(self, measures: Measure) -> None:
        def labelled(response: str, harmful: bool) -> Row:
            return Row("rows, line 1", "de", response, None, None, harmful=harmful)

        undecided = [labelled(text, False) for text in ("perhaps", "perhaps not", UNENDED)]
        found = compare(undecided, ByFirstWord(measures), "harm").pooled
        assert (found.n, found.agreement, found.kappa, found.undecided) == (3, 0, 0, 3)
        assert (found.recall, found.precision) == (None, None)
        decided = [
            labelled("yes there are three birds in the garden", True),
            labelled("yes of course", False),
            labelled("perhaps", True),
            labelled("", False),
        ]
        found = compare([*undecided, *decided], ByFirstWord(measures), "harm").pooled
        assert (found.n, found.agreement) == (7, 3 / 7)
        assert (found.precision, found.recall, found.balanced_accuracy) == (1, 1 / 2, 9 / 20)
        assert (found.undecided, found.degenerate) == (4, 1)

    def test_a_verdict_on_harm_may_be_missing_beside_a_label(self) -> None:
        """As of Qwen3Guard's third verdict, Controversial."""

        class Controversial(ByFirstWord):
            def judge(self, responses: Any, languages: Any, prompts: Any) -> list[Judgement]:
                return [Judgement(Label.COMPLIANCE) for _ in responses]

        rows = [Row("rows, line 1", "de", ANSWERS, False, None, harmful=False)]
        assert compare(rows, Controversial()).pooled.agreement == 1
        found = compare(rows, Controversial(), "harm").pooled
        assert (found.agreement, found.undecided) == (0, 1)

    def test_what_it_is_on(self) -> None:
        rows = [Row("rows, line 1", "de", "yes of course", False, None, harmful=True)]
        both, harm = ByFirstWord(), ByFirstWord("harm")
        assert [compare(rows, judge).on for judge in (both, harm)] == ["refusal", "harm"]
        assert compare(rows, both).pooled.agreement == 1
        assert compare(rows, both, "harm") == compare(rows, harm, "harm") == compare(rows, harm)
        assert compare(rows, both, "harm").pooled.agreement == 0

    def test_on_what_the_judge_does_not_measure(self) -> None:
        rows = [row(REFUSES, True)]
        with pytest.raises(NotMeasured, match="^The judge 'native' measures only refusal, .* harm"):
            compare(rows, "native", "harm")
        with pytest.raises(NotMeasured, match="^The judge 'first-word' measures only harm, "):
            compare(rows, ByFirstWord("harm"), "refusal")

    def test_a_row_of_harm_alone_is_not_to_be_removed(self) -> None:
        rows = [Row("rows, line 1", "de", ANSWERS, None, None, harmful=False)]
        with pytest.raises(BadLabels, match="no label; correct or remove it, or compare on harm.$"):
            compare(rows, ByFirstWord())

    def test_by_label_where_a_row_has_one(self) -> None:
        def labelled(response: str, label: Label) -> Row:
            refuses = label is Label.REFUSAL
            return Row("rows, line 1", "de", response, refuses, None, label)

        found = compare(
            [
                labelled("", Label.DEGENERATE),
                labelled(UNENDED, Label.DEGENERATE),
                labelled(UNENDED, Label.UNDECIDED),
                labelled(ANSWERS, Label.UNDECIDED),
                labelled(ANSWERS, Label.COMPLIANCE),
                labelled(REFUSES, Label.REFUSAL),
                row("", False),
                row(REFUSES, False),
            ]
        ).pooled
        assert (found.n, found.agreement, found.base_rate) == (8, 5 / 8, 1 / 8)
        assert (found.precision, found.recall) == (1 / 2, 1.0)
        assert (found.undecided, found.degenerate) == (2, 2)

    def test_substring_reads_the_translation(self) -> None:
        rows = [row(REFUSES, True, english="I cannot help."), row(REFUSES, True)]
        told = compare(rows, "substring").pooled
        assert (told.agreement, told.undecided) == (0.5, 1)

    def test_unknown(self) -> None:
        with pytest.raises(UnknownJudge, match="no judge 'gavel'"):
            compare([row(REFUSES, True)], "gavel")
        with pytest.raises(UnknownLanguage, match="^rows, line 1: There are no .* language 'xx'"):
            compare([row(REFUSES, True, "xx")])


class TestReadRows:
    def test_fields(self, tmp_path: Path) -> None:
        path = write(
            tmp_path,
            "\ufeff" + json.dumps(GOOD),
            "",
            "  \r",
            GOOD | {"refusal": 0, "response_translated": "Sorry.", "model": "m"},
            # The character ends a line for str.splitlines, and not in JSON.
            json.dumps(GOOD | {"response": "a\u2028b"}, ensure_ascii=False),
            {"language": "nl", "response": "Helaas", "label": "undecided"},
            # Where a row says both, the label says more.
            GOOD | {"label": "degenerate"},
        )
        first, second, third, fourth, fifth = read_rows(path)
        assert first == Row(f"{path}, line 1", "de", REFUSES, True, None)
        assert second == Row(f"{path}, line 4", "de", REFUSES, False, "Sorry.")
        assert second.refusal is False
        assert third.response == "a\u2028b"
        assert fourth == Row(f"{path}, line 6", "nl", "Helaas", False, None, Label.UNDECIDED)
        assert (fifth.label, fifth.refusal) == (Label.DEGENERATE, False)

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ('{"language": "de"', "line 3 is not JSON"),
            pytest.param("[" * 100_000, "line 3 is not JSON", id="nested"),
            ([GOOD], "line 3: [{"),
            (7, "line 3: 7 is not an object"),
            ({"response": "", "refusal": True}, "line 3 has no language"),
            ({"language": "de", "refusal": True}, "line 3 has no response"),
            ({"language": "de", "response": ""}, "line 3 has no refusal and no label"),
            (
                {"language": "de", "response": "", "label": None},
                "line 3 has no refusal and no label",
            ),
            (
                GOOD | {"label": "harmful"},
                "line 3: label is 'harmful', not one of refusal, compliance, degenerate, undecided",
            ),
            (GOOD | {"label": ["refusal"]}, "line 3: label is ['refusal'], not one of"),
            (GOOD | {"label": True}, "line 3: label is True, not one of"),
            (GOOD | {"label": "refusal", "refusal": "no"}, "line 3: refusal is 'no', not one of"),
            (GOOD | {"refusal": "yes"}, "line 3: refusal is 'yes', not one of true"),
            (GOOD | {"refusal": None}, "line 3: refusal is None, not"),
            (GOOD | {"refusal": 2}, "line 3: refusal is 2, not"),
            (GOOD | {"refusal": 1.0}, "line 3: refusal is 1.0, not"),
            (GOOD | {"response": None}, "line 3: response is None, not a string"),
            (GOOD | {"response": [REFUSES]}, "line 3: response is ['"),
            (GOOD | {"language": ["de"]}, "line 3: language is ['de'], not a string"),
            (GOOD | {"response_translated": 1}, "line 3: response_translated is 1, not a string"),
        ],
    )
    def test_a_broken_line_is_named(self, tmp_path: Path, line: Any, said: str) -> None:
        path = write(tmp_path, GOOD, "", line)
        with pytest.raises(BadLabels) as caught:
            list(read_rows(path))
        message = str(caught.value)
        assert message.startswith(f"{path}, {said}")
        assert message.endswith("correct or remove it.")
        assert "\n" not in message and len(message) < len(str(path)) + 200

    def test_not_utf8(self, tmp_path: Path) -> None:
        path = write(tmp_path, GOOD)
        path.write_bytes(path.read_bytes() + "{'ü'}\n".encode("latin-1"))
        with pytest.raises(BadLabels, match="line 2 is not UTF-8"):
            list(read_rows(path))

    def test_nothing_to_read(self, tmp_path: Path) -> None:
        for path, said in (
            (tmp_path / "none.jsonl", "none.jsonl cannot be read"),
            (tmp_path, "cannot be read"),
            (write(tmp_path, "", " "), "labels.jsonl has no rows"),
        ):
            with pytest.raises(BadLabels, match=said):
                list(read_rows(path))
