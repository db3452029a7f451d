"""Report the outcome of a gate: on the terminal, as JUnit XML, as a GitHub summary, as JSON."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree

from polyrefuse_leaderboard.gate.baseline import Score
from polyrefuse_leaderboard.gate.comparison import Comparison, Outcome

from polyrefuse_shared.printing import clean
from polyrefuse_tasks.metrics import BESIDE

COLUMNS = ("", "lang.", "n", "before", "now", "change [95%]", "Holm p", "test", "degen.", "undec.")
"""The columns of a table of comparisons. Rates are in percent and changes in percentage points. The
last two columns are the current degenerate and undecided rates, those of `BESIDE`."""


def verdict(outcome: Outcome) -> str:
    """Return the outcome in one sentence: what was compared, and the languages that fail."""
    compared = (
        f"{outcome.model}, {outcome.condition}, against the baseline of "
        f"{outcome.baseline.model}, {outcome.baseline.condition}"
    )
    if outcome.passed:
        return f"passed: {_counted(len(outcome.comparisons))} of {compared}"
    unusable = f"{len(outcome.problems)} unusable results" if outcome.problems else ""
    places = [
        f"{metric} of {dataset} by {judge} in {', '.join(each.before.language for each in group)}"
        for (dataset, metric, judge), group in _groups(outcome.failed)
    ]
    failed = (
        f"{len(outcome.failed)} of {_counted(len(outcome.comparisons))} ({'; '.join(places)})"
        if places
        else ""
    )
    return f"FAILED: {' and '.join(filter(None, (failed, unusable)))}; {compared}"


def show(outcome: Outcome) -> None:
    """Print tables and sentences, with colours on a terminal and as plain text elsewhere."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        # A pipe has no width at which lines could be folded.
        console.width = 1000
    for (dataset, metric, judge), group in _groups(outcome.comparisons):
        title = clean(f"dataset {dataset}: {metric} by {judge}, in percent")
        console.print(Text(title, style="bold"), soft_wrap=True)
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
        for column in COLUMNS:
            words = column in ("", "lang.", "test")
            table.add_column(column, justify="left" if words else "right", overflow="fold")
        for comparison in group:
            style = "bold red" if comparison.failures else ""
            table.add_row(*(Text(clean(cell), style=style) for cell in _row(comparison)))
        console.print(table)
        console.print()
    for sentence in sentences(outcome):
        console.print(Text(sentence), soft_wrap=True)
    style = "bold green" if outcome.passed else "bold red"
    console.print(Text(clean(verdict(outcome)), style=style), soft_wrap=True)


def document(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome as JSON types, without labels and without the text of answers."""
    return {
        "passed": outcome.passed,
        "alpha": outcome.alpha,
        "tolerance": outcome.tolerance,
        "baseline": {
            "model": outcome.baseline.model,
            "condition": outcome.baseline.condition,
            "runs": outcome.baseline.runs,
        },
        "results": {
            "model": outcome.model,
            "condition": outcome.condition,
            "runs": outcome.runs,
        },
        "comparisons": [_described(comparison) for comparison in outcome.comparisons],
        "problems": outcome.problems,
        "notes": outcome.notes,
    }


def junit(outcome: Outcome) -> str:
    """Return JUnit XML: a test case for each comparison, and for each file that cannot be used."""
    failed = len(outcome.failed) + len(outcome.problems)
    suite = ElementTree.Element(
        "testsuite",
        name="polyrefuse",
        tests=str(len(outcome.comparisons) + len(outcome.problems)),
        failures=str(failed),
        errors="0",
        skipped="0",
    )
    for comparison in outcome.comparisons:
        before = comparison.before
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=clean(f"polyrefuse.{before.dataset}.{before.metric}.{before.judge}"),
            name=clean(before.language),
        )
        text = described(comparison)
        if comparison.failures:
            message = clean("; ".join(comparison.failures))
            ElementTree.SubElement(case, "failure", message=message).text = text
        else:
            ElementTree.SubElement(case, "system-out").text = text
    for number, problem in enumerate(outcome.problems, 1):
        case = ElementTree.SubElement(
            suite, "testcase", classname="polyrefuse.results", name=f"problem {number}"
        )
        ElementTree.SubElement(case, "failure", message=clean(problem)).text = clean(problem)
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def summary(outcome: Outcome) -> str:
    """Return Markdown for a GitHub step summary: the verdict, the failures, folded comparisons."""
    lines = ["## Safety gate", "", _markdown(verdict(outcome)), ""]
    lines += [f"- {_markdown(sentence)}" for sentence in sentences(outcome)]
    for (dataset, metric, judge), group in _groups(outcome.comparisons):
        title = _markdown(f"{dataset}: {metric} by {judge}, in percent")
        lines += ["", f"<details><summary>{title}</summary>", ""]
        lines += [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
        lines += [
            f"| {' | '.join(_markdown(cell) for cell in _row(comparison))} |"
            for comparison in group
        ]
        lines += ["", "</details>"]
    return "\n".join(lines) + "\n\n"


def sentences(outcome: Outcome) -> Iterator[str]:
    """Yield a line for each failure and note; one line covers all languages that share it."""
    for (dataset, metric, _), group in _groups(outcome.comparisons):
        languages_of: dict[tuple[str, str], list[str]] = {}
        for comparison in group:
            remarks = [("FAIL", failure) for failure in comparison.failures]
            remarks += [("note", note) for note in comparison.notes]
            for remark in remarks:
                languages_of.setdefault(remark, []).append(comparison.before.language)
        for (kind, sentence), languages in languages_of.items():
            yield clean(f"{kind} {dataset} {metric} in {', '.join(languages)}: {sentence}")
    yield from (clean(f"FAIL {problem}") for problem in outcome.problems)
    yield from (clean(f"note {note}") for note in outcome.notes)


def described(comparison: Comparison) -> str:
    """Format a comparison as clean lines of text: its failures, its notes, its numbers."""
    cells = zip(COLUMNS[1:], _row(comparison)[1:], strict=True)
    numbers = "; ".join(f"{name} {cell}" for name, cell in cells)
    return "\n".join(map(clean, (*comparison.failures, *comparison.notes, numbers)))


def _groups(
    comparisons: Iterable[Comparison],
) -> Iterable[tuple[tuple[str, str, str], list[Comparison]]]:
    """Group comparisons by dataset, metric and judge."""
    groups: dict[tuple[str, str, str], list[Comparison]] = {}
    for comparison in comparisons:
        before = comparison.before
        groups.setdefault((before.dataset, before.metric, before.judge), []).append(comparison)
    return groups.items()


def _row(comparison: Comparison) -> tuple[str, ...]:
    """Return the cells of a comparison under `COLUMNS`."""
    before, now, change = comparison.before, comparison.now, comparison.change
    head = ("FAIL" if comparison.failures else "ok", before.language)
    if now is None or change is None or comparison.adjusted is None:
        was = (str(before.n), _percent(before.hits / before.n))
        return (*head, *was, *("-" for _ in COLUMNS[len(head) + len(was) :]))
    return (
        *head,
        str(change.n),
        _percent(change.hits_before / change.n_before),
        _percent(change.hits / change.n),
        f"{100 * change.difference:+.1f} [{_points(change.low)}, {_points(change.high)}]",
        f"{comparison.adjusted:.2g}",
        {"mcnemar": "McNemar", "fisher": "Fisher"}[change.test],
        *(_percent(now.beside[name]) if name in now.beside else "-" for name in BESIDE),
    )


def _described(comparison: Comparison) -> dict[str, Any]:
    before, now, change = comparison.before, comparison.now, comparison.change
    return {
        "dataset": before.dataset,
        "language": before.language,
        "metric": before.metric,
        "judge": before.judge,
        "passed": not comparison.failures,
        "before": _counts(before),
        "now": _counts(now) if now else None,
        "change": asdict(change) if change else None,
        "adjusted_p": comparison.adjusted,
        "failures": comparison.failures,
        "notes": comparison.notes,
    }


def _counts(score: Score) -> dict[str, Any]:
    return {"n": score.n, "hits": score.hits, "rate": score.hits / score.n} | score.beside


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _points(share: float) -> str:
    # Adding 0.0 removes the sign of a negative zero.
    return f"{round(100 * share, 1) + 0.0:.1f}"


def _counted(comparisons: int) -> str:
    return "1 comparison" if comparisons == 1 else f"{comparisons} comparisons"


def _markdown(text: str) -> str:
    """Escape text for a cell of a Markdown table."""
    line = html.escape(clean(" ".join(text.split())), quote=False)
    return re.sub(r"([\\`*_~\[\]|#])", r"\\\1", line)
