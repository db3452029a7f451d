"""How often a judge says what labels say: the judges checked against people, or another judge."""

from __future__ import annotations

import json
import reprlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.intervals import wilson
from polyrefuse_tasks.judges import Label, UnknownLanguage, judge_response

Truth = bool | Label
"""What a row is labelled: whether it refuses, or which of the four labels it has."""


class BadLabels(UserError):
    """A file of labelled responses that cannot be used."""


@dataclass(frozen=True)
class Row:
    """One labelled response.

    Attributes:
        where: its file and line, for messages.
        language: ISO 639-1 code of the prompt.
        response: the model's output as generated.
        refusal: whether it is labelled a refusal.
        response_translated: the response in English, for judges that read English alone.
        label: which of the four labels it has; None where the row says only whether it refuses.
    """

    where: str
    language: str
    response: str
    refusal: bool
    response_translated: str | None
    label: Label | None = None


@dataclass(frozen=True)
class Agreement:
    """A judge's labels beside given ones, refusal being the positive class.

    What the judge leaves undecided or calls degenerate counts as no refusal. The agreement alone is
    by all four labels, on the rows that have one of them. A statistic that is not defined is None:
    one that would divide by zero, such as the recall where nothing is labelled a refusal.

    Attributes:
        n: how many responses.
        base_rate: share of them that are labelled refusals.
        agreement: share of them on which judge and label agree.
        low: lower end of the agreement's Wilson 95% interval.
        high: its upper end.
        balanced_accuracy: mean of the recall and of the share of the others that the judge does
            not call refusals either.
        precision: share of what the judge calls refusals that is labelled so.
        recall: share of the labelled refusals that the judge calls so.
        kappa: Cohen's, agreement in excess of chance.
        undecided: how many the judge left undecided.
        degenerate: how many it called degenerate.
    """

    n: int
    base_rate: float
    agreement: float
    low: float
    high: float
    balanced_accuracy: float | None
    precision: float | None
    recall: float | None
    kappa: float | None
    undecided: int
    degenerate: int


@dataclass(frozen=True)
class Comparison:
    """The agreement in each language, sorted by code, and over all rows."""

    languages: dict[str, Agreement]
    pooled: Agreement


def read_rows(path: str | Path) -> Iterator[Row]:
    """The rows of a JSONL file of labelled responses; blank lines are skipped.

    Raises:
        BadLabels: the file cannot be read, has no rows, or has a line that is no such row; the
            sentence names the line, from 1.
    """
    empty = True
    try:
        # Bytes, because text would lose the number of a line that is not UTF-8.
        with open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    empty = False
                    yield _row(line, f"{path}, line {number}")
    except OSError as error:
        raise BadLabels(
            f"{path} cannot be read ({error.strerror}); name a JSONL file of labelled responses."
        ) from None
    if empty:
        raise BadLabels(f"{path} has no rows; name a JSONL file of labelled responses.")


def compare(rows: Iterable[Row], judge: str = "native") -> Comparison:
    """Judge labelled responses, and compare.

    Args:
        rows: at least one.
        judge: one of `judges.JUDGES`.

    Raises:
        UnknownJudge: no judge of that name.
        UnknownLanguage: the judge has no phrases for a row's language; names the row.
    """
    counts: dict[str, Counter[tuple[Label, Truth]]] = defaultdict(Counter)
    for row in rows:
        try:
            judged = judge_response(
                row.response,
                row.language,
                judge=judge,
                response_translated=row.response_translated,
            )
        except UnknownLanguage as error:
            raise UnknownLanguage(f"{row.where}: {error}") from None
        counts[row.language][judged.label, row.refusal if row.label is None else row.label] += 1
    return Comparison(
        languages={language: measure(counts[language]) for language in sorted(counts)},
        pooled=measure(sum(counts.values(), Counter())),
    )


def measure(counts: Counter[tuple[Label, Truth]]) -> Agreement:
    """The statistics of one group of responses, at least one.

    Args:
        counts: how many have each pair of the judge's label and the given one.
    """
    n = counts.total()
    agreed = sum(count for (judged, truth), count in counts.items() if _agree(judged, truth))
    # From here on a response is a refusal or none.
    pairs = Counter[tuple[Label, bool]]()
    for (judged, truth), count in counts.items():
        pairs[judged, _is_refusal(truth)] += count
    found = pairs[Label.REFUSAL, True]
    called = found + pairs[Label.REFUSAL, False]
    labelled = sum(count for (_, refusal), count in pairs.items() if refusal)
    passed = n - labelled - (called - found)
    recall, specificity = _share(found, labelled), _share(passed, n - labelled)
    # n times the agreements that chance alone would bring, in whole numbers: 1 - 1 is then 0.
    by_chance = called * labelled + (n - called) * (n - labelled)
    low, high = wilson(agreed, n)
    return Agreement(
        n=n,
        base_rate=labelled / n,
        agreement=agreed / n,
        low=float(low),
        high=float(high),
        balanced_accuracy=(
            None if recall is None or specificity is None else (recall + specificity) / 2
        ),
        precision=_share(found, called),
        recall=recall,
        kappa=_share(n * (found + passed) - by_chance, n * n - by_chance),
        undecided=_labels(pairs, Label.UNDECIDED),
        degenerate=_labels(pairs, Label.DEGENERATE),
    )


def _agree(judged: Label, truth: Truth) -> bool:
    if isinstance(truth, Label):
        return judged is truth
    return (judged is Label.REFUSAL) == truth


def _is_refusal(truth: Truth) -> bool:
    return truth is Label.REFUSAL if isinstance(truth, Label) else truth


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _labels(counts: Counter[tuple[Label, bool]], label: Label) -> int:
    return counts[label, True] + counts[label, False]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_text_or_null(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_label_or_null(value: Any) -> bool:
    return value is None or value in [str(label) for label in Label]


def _is_truth(value: Any) -> bool:
    return isinstance(value, int) and value in (0, 1)


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "language": (_is_text, "a string"),
    "response": (_is_text, "a string"),
    "refusal": (_is_truth, "one of true, false, 1 and 0"),
    "label": (_is_label_or_null, f"one of {', '.join(Label)}"),
    "response_translated": (_is_text_or_null, "a string or null"),
}
"""What a row holds: whether a value fits, and what to say where it does not."""


def _row(line: bytes, where: str) -> Row:
    try:
        # utf-8-sig: some editors put a byte-order mark at the beginning.
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadLabels(f"{where} is not UTF-8 text; mend or remove it.") from None
    try:
        row: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise BadLabels(f"{where} is not JSON; mend or remove it.") from None
    if not isinstance(row, dict):
        raise BadLabels(f"{where}: {reprlib.repr(row)} is not an object; mend or remove it.")
    # Only judges that read English alone want a translation.
    row = {"response_translated": None, "label": None} | row
    if row["label"] is None and "refusal" not in row:
        raise BadLabels(f"{where} has no refusal and no label; mend or remove it.")
    values: dict[str, Any] = {}
    for name, (fits, wanted) in _FIELDS.items():
        if name not in row and name != "refusal":
            raise BadLabels(f"{where} has no {name}; mend or remove it.")
        value = values[name] = row.get(name)
        if name in row and not fits(value):
            raise BadLabels(
                f"{where}: {name} is {reprlib.repr(value)}, not {wanted}; mend or remove it."
            )
    label = values["label"] and Label(values["label"])
    truth = bool(values["refusal"]) if label is None else _is_refusal(label)
    return Row(where, **values | {"refusal": truth, "label": label})
