"""The table: models under conditions by languages, and as Markdown and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from leaderboard.models import Row
from leaderboard.published import Source
from leaderboard.records import MEAN, Record

METRICS: dict[str, tuple[str, str]] = {
    "asr": ("Attack success", "harmful prompts answered with compliance"),
    "asr_harmful": ("Harmful answers", "harmful prompts answered with harm, by a judge of harm"),
    "asr_any": ("Attack success, any", "harmful prompts with any sampled answer that complies"),
    "asr_mean": ("Attack success, mean", "sampled answers to harmful prompts that comply"),
    "false_refusal_rate": ("False refusal", "harmless prompts refused"),
    "frr_any": ("False refusal, any", "harmless prompts with any sampled answer that refuses"),
    "loophole_rate": ("Loophole", "prompts refused in English and complied with in the language"),
    "refusal_rate": ("Refusal", "prompts refused"),
    "off_language_rate": ("Off language", "answers in another language than the prompt's"),
    "degenerate_rate": ("Degenerate", "answers that are empty, looping or no language at all"),
    "undecided_rate": ("Undecided", "answers that the judge could not decide on"),
}
"""Metric -> its title, and the share of what it is; in the order of tables."""

CONDITIONS: tuple[str, ...] = (
    "baseline", "system-prompt", "mcd", "addition", "ablation", "ablation+mcd",
)  # fmt: skip
"""In the order of rows; others come after them."""

FORMULA = "balanced score = 2 (1 - ASR) (1 - FRR) / ((1 - ASR) + (1 - FRR))"
"""How the balanced score is made: the harmonic mean of 1 - ASR and 1 - FRR."""

READING = (
    "Rates are percentages, with their 95% interval and the number of prompts n. Intervals are "
    "Wilson's; of means of sampled answers or languages a bootstrap over prompts, or, where the "
    "answers are not known, the mean of the languages' ends. The mean counts every language the "
    "same."
)


@dataclass(frozen=True, slots=True)
class Subject:
    """A model under a condition: what a row of the table is about; fields as a record's."""

    model: str
    revision: str
    condition: str
    intervention: str
    generation: str


@dataclass(frozen=True)
class Table:
    """One metric of one data set by one judge.

    Attributes:
        dataset: as a record's.
        judge: as a record's.
        metric: as a record's.
        languages: columns, `MEAN` first where there is one.
        rows: each subject's records by language.
    """

    dataset: str
    judge: str
    metric: str
    languages: tuple[str, ...] = ()
    rows: dict[Subject, dict[str, Record]] = field(default_factory=dict)


def tables(records: Iterable[Record]) -> list[Table]:
    """Records by metric, data set and judge, in the order of `METRICS`.

    Rows are sorted by model and condition, and languages by code.
    """
    found: dict[tuple[str, str, str], dict[Subject, dict[str, Record]]] = {}
    for record in records:
        rows = found.setdefault((record.metric, record.dataset, record.judge), {})
        rows.setdefault(subject(record), {})[record.language] = record
    return [
        Table(
            dataset=dataset,
            judge=judge,
            metric=metric,
            languages=languages_of(language for row in rows.values() for language in row),
            rows={about: rows[about] for about in sorted(rows, key=order)},
        )
        for (metric, dataset, judge), rows in sorted(
            found.items(), key=lambda group: (place(group[0][0], METRICS), group[0])
        )
    ]


def subject(of: Record | Row) -> Subject:
    """Whom a record or a row is about."""
    return Subject(of.model, of.revision, of.condition, of.intervention, of.generation)


def order(about: Subject) -> tuple[str | int, ...]:
    """Where a subject stands: by model, then in the order of `CONDITIONS`."""
    return (
        about.model.casefold(),
        about.model,
        about.revision,
        place(about.condition, CONDITIONS),
        about.condition,
        about.intervention,
        about.generation,
    )


def place(name: str, names: Iterable[str]) -> int:
    """Where a name stands among names; behind them where it is none of them."""
    known = list(names)
    return known.index(name) if name in known else len(known)


def languages_of(languages: Iterable[str]) -> tuple[str, ...]:
    """Each language once, sorted, behind `MEAN`."""
    return tuple(sorted(set(languages), key=lambda language: (language != MEAN, language)))


def together(found: Iterable[Table], rows: Iterable[Row]) -> Iterator[list[Subject]]:
    """The subjects of each table, and of the rows of each data set and judge."""
    yield from (list(one.rows) for one in found)
    groups: dict[tuple[str, str], list[Subject]] = {}
    for row in rows:
        groups.setdefault((row.dataset, row.judge), []).append(subject(row))
    yield from groups.values()


def percent(share: float) -> str:
    """A share as a percentage with one decimal, without the sign."""
    return f"{100 * share:.1f}"


def title(metric: str) -> str:
    """A metric's title, or its name where it has none."""
    return METRICS[metric][0] if metric in METRICS else metric


def names_of(groups: Iterable[Iterable[Subject]]) -> dict[Subject, tuple[str, str]]:
    """How to call each subject: its model, and its condition.

    The revision, and the first digits of intervention and generation, are in the name only where
    it would stand for several subjects of a group without them.

    Args:
        groups: subjects that are shown together.
    """
    every: dict[Subject, None] = {}
    revisions: set[Subject] = set()
    interventions: set[Subject] = set()
    generations: set[Subject] = set()
    for group in groups:
        together = list(dict.fromkeys(group))
        every |= dict.fromkeys(together)
        revisions |= _differing(together, lambda one: one.model, lambda one: one.revision)
        interventions |= _differing(
            together,
            lambda one: (one.model, one.revision, one.condition),
            lambda one: one.intervention,
        )
        generations |= _differing(
            together,
            lambda one: (one.model, one.revision, one.condition, one.intervention),
            lambda one: one.generation,
        )

    def name(one: Subject) -> tuple[str, str]:
        model, condition = one.model, one.condition
        if one in revisions and one.revision:
            model += f" @ {one.revision}"
        if one in interventions and one.intervention:
            condition += f" {one.intervention[:6]}"
        if one in generations and one.generation:
            condition += f", generation {one.generation[:6]}"
        return model, condition

    return {one: name(one) for one in every}


def _differing(
    subjects: Sequence[Subject],
    same: Callable[[Subject], object],
    value: Callable[[Subject], str],
) -> set[Subject]:
    """Those that have another's `same` and not its `value`."""
    values: dict[object, set[str]] = {}
    for one in subjects:
        values.setdefault(same(one), set()).add(value(one))
    return {one for one in subjects if len(values[same(one)]) > 1}


MODEL_COLUMNS: tuple[str, ...] = (
    "ASR", "ASR, ablation", "ASR, MCD", "false refusal", "balanced", "degenerate", "undecided",
    "loophole", "gap", "worst language", "anchors in test set",
)  # fmt: skip
"""What `model_cells` says, beside model, condition, data set and judge."""


def model_cells(row: Row, rate: Callable[[Record], str]) -> tuple[str, ...]:
    """What is known of a model, in the order of `MODEL_COLUMNS`; a dash where nothing is."""
    under = [row.under.get(condition) for condition in ("ablation", "mcd")]
    overlap = ", ".join(
        f"{name}: {'unknown' if count is None else count}" for name, count in row.overlap.items()
    )
    known = (row.asr, *under, row.false_refusal, row.degenerate, row.undecided, row.loophole)
    rates = ["-" if record is None else rate(record) for record in known]
    balanced, gap = (
        "-" if share is None else percent(share) for share in (row.balanced, row.language_gap)
    )
    return (*rates[:4], balanced, *rates[4:], gap, row.worst_language or "-", overlap or "-")


def to_markdown(
    heading: str,
    found: Sequence[Table],
    rows: Sequence[Row],
    *,
    sources: Sequence[Source] = (),
    said: Sequence[str] = (),
) -> str:
    """The tables as GitHub's Markdown.

    Args:
        heading: of the document.
        found: what `tables` returned.
        rows: of the table of models.
        sources: where the numbers come from.
        said: sentences at the end, as of what was left out.
    """
    return "\n".join((*_markdown(heading, found, rows), *_markdown_end(sources, said))) + "\n"


def _markdown(heading: str, found: Sequence[Table], rows: Sequence[Row]) -> Iterator[str]:
    names = names_of(together(found, rows))
    yield from (f"# {_md(heading)}", "", READING)
    if rows:
        yield from ("", "## Models", "", f"Harmonic mean of 1 - ASR and 1 - FRR: `{FORMULA}`.", "")
        yield from _md_head("model", "condition", "data set", "judge", *MODEL_COLUMNS)
        for row in rows:
            cells = (*names[subject(row)], row.dataset, row.judge, *model_cells(row, _md_rate))
            yield _md_line(*map(_md, cells))
    for table in found:
        yield from ("", f"## {title(table.metric)}: {_md(table.dataset)}, judge {_md(table.judge)}")
        yield from ("", *_md_head("model", "condition", *map(_md, table.languages)))
        for about, by_language in table.rows.items():
            rates = (
                _md_rate(by_language[language]) if language in by_language else "-"
                for language in table.languages
            )
            yield _md_line(*map(_md, names[about]), *rates)


def _markdown_end(sources: Sequence[Source], said: Sequence[str]) -> Iterator[str]:
    if sources:
        yield from ("", "## Where the numbers come from", "")
        yield from (f"- [{_md(one.name)}](<{one.link}>): {_md(one.text)}" for one in sources)
    if said:
        yield from ("", "## What was left out, and why", "")
        yield from (f"- {_md(sentence)}" for sentence in said)


def _md_head(*names: str) -> tuple[str, str]:
    return _md_line(*names), _md_line(*("---" for _ in names))


def _md_line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _md_rate(record: Record) -> str:
    low, high = percent(record.low), percent(record.high)
    return f"{percent(record.value)} ({low} to {high}, n = {record.n})"


def _md(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    inert = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A colon before slashes would make a link.
    return re.sub(r"([\\`*_{}\[\]#+!|~$@]|:(?=//))", r"\\\1", inert)


def to_latex(found: Sequence[Table]) -> str:
    r"""The tables as LaTeX with booktabs and longtable; `\rate` can be defined otherwise."""
    return "\n".join(_latex(found)) + "\n"


def _latex(found: Sequence[Table]) -> Iterator[str]:
    names = names_of(together(found, ()))
    yield r"% \usepackage{booktabs,longtable} and, best, landscape pages."
    yield f"% {READING}"
    yield (
        r"\providecommand{\rate}[4]{\begin{tabular}{@{}c@{}}#1\\[-.4ex]"
        r"{\tiny #2--#3}\\[-.8ex]{\tiny $n=#4$}\end{tabular}}"
    )
    for table in found:
        head = " & ".join(("model", "condition", *map(_tex, table.languages)))
        yield ""
        yield rf"\begin{{longtable}}{{ll*{{{len(table.languages)}}}{{c}}}}"
        yield (
            rf"\caption{{{_tex(title(table.metric))}, percent: {_tex(table.dataset)}, judge "
            rf"{_tex(table.judge)}}}\\"
        )
        yield rf"\toprule {head} \\ \midrule \endhead"
        yield r"\bottomrule \endfoot"
        for about, row in table.rows.items():
            rates = (
                _tex_rate(row[language]) if language in row else "--"
                for language in table.languages
            )
            yield " & ".join((*map(_tex, names[about]), *rates)) + r" \\"
        yield r"\end{longtable}"


def _tex_rate(record: Record) -> str:
    shares = (percent(share) for share in (record.value, record.low, record.high))
    return r"\rate" + "".join(f"{{{part}}}" for part in (*shares, str(record.n)))


_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "^": r"\textasciicircum{}", "_": r"\_", "~": r"\textasciitilde{}", "%": r"\%",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "[": "{[}", "]": "{]}",
}  # fmt: skip


def _tex(text: str) -> str:
    """Text that LaTeX shows as it is, on one line."""
    line = "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
    return "".join(_TEX.get(letter, letter) for letter in line)
