"""Write the tables as LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from polyrefuse_leaderboard.model_rows import Row
from polyrefuse_leaderboard.records import Record
from polyrefuse_leaderboard.table import (
    ABOUT_RATES,
    Overlaps,
    Table,
    collect_overlaps,
    describe_difference,
    describe_value,
    group_warnings,
    metric_title,
    name_subjects,
    percent,
    row_heads,
    subject_groups,
    subject_of,
)
from polyrefuse_leaderboard.warnings import RateWarning


def to_latex(
    tables: Sequence[Table], rows: Sequence[Row], warnings: Sequence[RateWarning] = ()
) -> str:
    r"""Return the tables as LaTeX with booktabs and longtable; you may redefine `\rate`.

    Args:
        tables: the tables from `tabulate`.
        rows: the rows of the table of models, with what a safety prompt was trained on and the
            values of other tasks.
        warnings: the warnings of the rates, which are written below the tables.
    """
    lines = (
        *_latex(tables, collect_overlaps(rows), warnings),
        *_capability(rows),
        *_warnings(warnings),
    )
    return "\n".join(lines) + "\n"


def _latex(
    tables: Sequence[Table],
    overlaps: Overlaps,
    warnings: Sequence[RateWarning],
) -> Iterator[str]:
    names = name_subjects(subject_groups(tables, ()))
    grouped_warnings = group_warnings(warnings)
    yield r"% \usepackage{booktabs,longtable}; landscape pages fit best."
    yield f"% {ABOUT_RATES}"
    yield (
        r"\providecommand{\rate}[4]{\begin{tabular}{@{}c@{}}#1\\[-.4ex]"
        r"{\tiny #2--#3}\\[-.8ex]{\tiny $n=#4$}\end{tabular}}"
    )
    for table in tables:
        head = " & ".join(("model", "condition", *map(_tex, table.languages)))
        yield ""
        yield rf"\begin{{longtable}}{{ll*{{{len(table.languages)}}}{{c}}}}"
        yield (
            rf"\caption{{{_tex(metric_title(table.metric))}, percent: {_tex(table.dataset)}, judge "
            rf"{_tex(table.judge)}}}\\"
        )
        yield rf"\toprule {head} \\ \midrule \endhead"
        yield r"\bottomrule \endfoot"
        for subject, row in table.rows.items():
            rates = (
                _tex_rate(row[language]) if language in row else "--"
                for language in table.languages
            )
            heads = row_heads(names, overlaps, grouped_warnings, subject, table.dataset)
            yield " & ".join((*map(_tex, heads), *rates)) + r" \\"
        yield r"\end{longtable}"


def _capability(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the values of other tasks, each once although the rows of every dataset repeat them."""
    # Other tasks have their own settings.
    found = {replace(subject_of(row), generation=""): row.capability for row in rows}
    if not any(found.values()):
        return
    names = name_subjects([found])
    yield ""
    yield r"\begin{longtable}{lllll}"
    yield r"\caption{Capability: other tasks, and the difference to the baseline}\\"
    yield r"\toprule model & condition & task & value & difference \\ \midrule \endhead"
    yield r"\bottomrule \endfoot"
    for subject, tasks in found.items():
        for (task, metric), record in sorted(tasks.items()):
            texts = describe_value(record), describe_difference(record) or "--"
            yield " & ".join(map(_tex, (*names[subject], f"{task} ({metric})", *texts))) + r" \\"
    yield r"\end{longtable}"


def _warnings(warnings: Sequence[RateWarning]) -> Iterator[str]:
    if warnings:
        yield from ("", r"\paragraph{Warnings}", r"\begin{itemize}")
        yield from (rf"\item {_tex(one.sentence)}" for one in warnings)
        yield r"\end{itemize}"


def _tex_rate(record: Record) -> str:
    shares = (percent(share) for share in (record.value, record.low, record.high))
    return r"\rate" + "".join(f"{{{part}}}" for part in (*shares, str(record.n)))


_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "^": r"\textasciicircum{}", "_": r"\_", "~": r"\textasciitilde{}", "%": r"\%",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "[": "{[}", "]": "{]}", "\N{BLACK DOWN-POINTING TRIANGLE}": r"$\bigtriangledown$",
}  # fmt: skip


def _tex(text: str) -> str:
    """Escape text so that LaTeX shows it unchanged, on one line."""
    line = "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
    return "".join(_TEX.get(letter, letter) for letter in line)
