"""How often a judge agrees with given labels, which come from people or from another judge."""

from __future__ import annotations

import json
import reprlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.intervals import wilson
from polyrefuse_shared.reading import regular_file
from polyrefuse_tasks.judges import (
    Judge,
    Judgement,
    Label,
    UnknownLanguage,
    judge_named,
    judge_responses,
)
from polyrefuse_tasks.judges.contract import measures_harm, measures_refusal

On = Literal["refusal", "harm"]
"""What a judge is compared on."""

Verdict = bool | Label
"""A label or a judge's verdict: whether an answer refuses or is harmful, or one of the four
labels."""

AT_MOST = 2**26
"""The largest size of a line, in bytes."""


class BadLabels(UserError):
    """A file of labelled responses cannot be used."""


class NotMeasured(UserError):
    """A judge does not measure what it is to be compared on."""


@dataclass(frozen=True)
class Row:
    """One labelled response.

    Attributes:
        where: its file and line, for messages.
        language: the ISO 639-1 code of the prompt.
        response: the model's output as generated.
        refusal: whether it is labelled a refusal; None if the row does not say.
        response_translated: the response in English, for judges that read only English.
        label: which of the four labels it has; None if the row says only whether it refuses.
        harmful: whether it is labelled harmful; None if the row does not say.
        prompt: the prompt; None if the row does not have it.
        prompt_translated: the prompt in English, for judges that read only English.
    """

    where: str
    language: str
    response: str
    refusal: bool | None
    response_translated: str | None
    label: Label | None = None
    harmful: bool | None = None
    prompt: str | None = None
    prompt_translated: str | None = None


@dataclass(frozen=True)
class Agreement:
    """The agreement of a judge's verdicts with given labels.

    The positive class is refusal, or harm. A degenerate answer is not positive. An undecided answer
    is not a refusal; on harm it is neither positive nor negative and agrees with no label. Only
    `agreement` compares all four labels, on the rows that have one of them. A statistic is None if
    it would divide by zero, such as the recall where nothing is labelled positive.

    Attributes:
        n: the number of responses.
        base_rate: the share of responses labelled positive.
        agreement: the share of responses on which judge and label agree.
        low: the lower end of the agreement's Wilson 95% interval.
        high: the upper end of that interval.
        balanced_accuracy: the mean of the recall and of the share of the other responses that the
            judge calls negative.
        precision: the share of what the judge calls positive that is labelled positive.
        recall: the share of what is labelled positive that the judge calls positive.
        kappa: Cohen's kappa, the agreement in excess of chance.
        undecided: the number of responses that the judge left undecided.
        degenerate: the number of responses that the judge called degenerate.
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
    """The agreement in each language, sorted by code, and over all rows, on refusal or harm."""

    languages: dict[str, Agreement]
    pooled: Agreement
    on: On


FILE_AT_MOST = 2**32
"""The largest size of a file of labelled responses, in bytes."""


def read_rows(path: str | Path) -> Iterator[Row]:
    """Read the rows of a JSONL file of labelled responses; blank lines are skipped.

    Raises:
        BadLabels: the file cannot be read, has no rows, or has a line that is not such a row or has
            more than `AT_MOST` bytes. The message names the line, counted from 1.
    """
    empty = True
    try:
        # Reading bytes keeps the number of a line that is not UTF-8.
        with regular_file(Path(path), FILE_AT_MOST) as lines:
            for number, line in enumerate(iter(lambda: lines.readline(AT_MOST + 1), b""), 1):
                if len(line) > AT_MOST:
                    raise BadLabels(
                        f"{path}, line {number} has more than {AT_MOST // 2**20} MiB; name a JSONL "
                        "file of labelled responses."
                    )
                if line.strip():
                    empty = False
                    yield _row(line, f"{path}, line {number}")
    except OSError as error:
        raise BadLabels(
            f"{path} cannot be read ({error.strerror}); name a JSONL file of labelled responses."
        ) from None
    if empty:
        raise BadLabels(f"{path} has no rows; name a JSONL file of labelled responses.")


def compare(rows: Iterable[Row], judge: str | Judge = "native", on: On | None = None) -> Comparison:
    """Judge labelled responses, and compare the verdicts with the labels.

    Args:
        rows: at least one row.
        judge: a name of `judges.names`, or a judge.
        on: refusal, which compares with `label` or `refusal`, or harm, which compares with
            `harmful`. None takes refusal if the judge measures it.

    Raises:
        UnknownJudge: no judge has this name.
        NotMeasured: the judge does not measure what it is compared on.
        UnknownLanguage: the judge has no phrases for the language of a row, which is named.
        BadLabels: a row lacks the label that the judge is compared with; the message names the row.
        BadJudge, JudgeFailed: see `judges.judge_responses`.
    """
    chosen = judge_named(judge) if isinstance(judge, str) else judge
    if on is None:
        on = "refusal" if measures_refusal(chosen.measures) else "harm"
    asked = measures_refusal if on == "refusal" else measures_harm
    if not asked(chosen.measures):
        raise NotMeasured(
            f"The judge {chosen.name!r} measures only {chosen.measures}, and cannot be compared on "
            f"{on}: compare it on {chosen.measures}, or name a judge that measures {on}."
        )
    truths: dict[str, list[Verdict]] = defaultdict(list)
    by_language: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        truths[row.language].append(_truth(row, on))
        by_language[row.language].append(row)
    counts: dict[str, Counter[tuple[Verdict | None, Verdict]]] = {}
    for language in sorted(by_language):
        judgements = _judge(by_language[language], chosen)
        verdicts = (_verdict(judgement, on) for judgement in judgements)
        counts[language] = Counter(zip(verdicts, truths[language], strict=True))
    return Comparison(
        languages={language: measure(counted) for language, counted in counts.items()},
        pooled=measure(sum(counts.values(), Counter())),
        on=on,
    )


def measure(counts: Counter[tuple[Verdict | None, Verdict]]) -> Agreement:
    """Compute the statistics of a group of at least one response.

    Args:
        counts: the number of responses with each pair of the judge's verdict and the label. A
            verdict of None, which is undecided, agrees with nothing.
    """
    n = counts.total()
    agreed = sum(count for pair, count in counts.items() if _agree(*pair))
    # From here on labels and verdicts are only positive or negative.
    pairs = Counter[tuple[bool | None, bool]]()
    for (judged, truth), count in counts.items():
        pairs[None if judged is None else _is_positive(judged), _is_positive(truth)] += count
    both, neither = pairs[True, True], pairs[False, False]
    called, called_not = both + pairs[True, False], neither + pairs[False, True]
    labelled = both + pairs[False, True] + pairs[None, True]
    recall, specificity = _share(both, labelled), _share(neither, n - labelled)
    # n times the agreements expected by chance, in whole numbers, so that 1 - 1 is exactly 0.
    by_chance = called * labelled + called_not * (n - labelled)
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
        precision=_share(both, called),
        recall=recall,
        kappa=_share(n * (both + neither) - by_chance, n * n - by_chance),
        undecided=_verdicts(counts, Label.UNDECIDED, None),
        degenerate=_verdicts(counts, Label.DEGENERATE),
    )


def _judge(rows: list[Row], judge: Judge) -> list[Judgement]:
    """Judge rows of one language with one call of the judge."""
    try:
        return judge_responses(
            [row.response for row in rows],
            [row.language for row in rows],
            [row.prompt for row in rows],
            judge=judge,
            responses_translated=[row.response_translated for row in rows],
            prompts_translated=[row.prompt_translated for row in rows],
        )
    except UnknownLanguage as error:
        raise UnknownLanguage(f"{rows[0].where}: {error}") from None


def _truth(row: Row, on: On) -> Verdict:
    truth: Verdict | None = row.harmful
    if on == "refusal":
        truth = row.refusal if row.label is None else row.label
    if truth is None:
        missing = "refusal and no label" if on == "refusal" else "harmful"
        # Such a row is valid for a comparison on harm, which the judge may measure as well.
        instead = "" if row.harmful is None else ", or compare on harm"
        raise BadLabels(f"{row.where} has no {missing}; correct or remove it{instead}.")
    return truth


def _verdict(judgement: Judgement, on: On) -> Verdict | None:
    """Return the verdict of a judge; None if it did not decide on harm."""
    if on == "refusal" or judgement.label is Label.DEGENERATE:
        # By the contract, a refusal judge always gives a label.
        assert judgement.label is not None
        return judgement.label
    return judgement.harmful


def _agree(judged: Verdict | None, truth: Verdict) -> bool:
    if isinstance(truth, Label):
        return judged is truth
    return judged is not None and _is_positive(judged) == truth


def _is_positive(verdict: Verdict) -> bool:
    return verdict is Label.REFUSAL if isinstance(verdict, Label) else verdict


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _verdicts(counts: Counter[tuple[Verdict | None, Verdict]], *wanted: Verdict | None) -> int:
    return sum(count for (judged, _), count in counts.items() if judged in wanted)


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
    "harmful": (_is_truth, "one of true, false, 1 and 0"),
    "label": (_is_label_or_null, f"one of {', '.join(Label)}"),
    "response_translated": (_is_text_or_null, "a string or null"),
    "prompt": (_is_text_or_null, "a string or null"),
    "prompt_translated": (_is_text_or_null, "a string or null"),
}
"""The fields of a row: a test of the value, and what messages say if it fails."""

_REQUIRED = ("language", "response")


def _row(line: bytes, where: str) -> Row:
    try:
        # utf-8-sig: some editors put a byte-order mark at the beginning.
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadLabels(f"{where} is not UTF-8 text; correct or remove it.") from None
    try:
        row: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise BadLabels(f"{where} is not JSON; correct or remove it.") from None
    if not isinstance(row, dict):
        raise BadLabels(f"{where}: {reprlib.repr(row)} is not an object; correct or remove it.")
    if row.get("label") is None and row.keys().isdisjoint({"refusal", "harmful"}):
        raise BadLabels(f"{where} has no refusal and no label; correct or remove it.")
    for name, (fits, wanted) in _FIELDS.items():
        if name in _REQUIRED and name not in row:
            raise BadLabels(f"{where} has no {name}; correct or remove it.")
        if name in row and not fits(row[name]):
            raise BadLabels(
                f"{where}: {name} is {reprlib.repr(row[name])}, not {wanted}; correct or remove it."
            )
    label = None if row.get("label") is None else Label(row["label"])
    return Row(
        where=where,
        language=row["language"],
        response=row["response"],
        refusal=_is_positive(label) if label else _truth_or_none(row, "refusal"),
        response_translated=row.get("response_translated"),
        label=label,
        harmful=_truth_or_none(row, "harmful"),
        prompt=row.get("prompt"),
        prompt_translated=row.get("prompt_translated"),
    )


def _truth_or_none(row: dict[str, Any], name: str) -> bool | None:
    return bool(row[name]) if name in row else None
