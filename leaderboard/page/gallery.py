"""Choose the pictures of a leaderboard and give each a name and a title."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import TYPE_CHECKING

from polyrefuse_leaderboard.model_rows import ATTACKS, Row
from polyrefuse_leaderboard.page import charts
from polyrefuse_leaderboard.picture import Picture
from polyrefuse_leaderboard.records import MEAN, Record
from polyrefuse_leaderboard.table import (
    Subject,
    Table,
    collect_overlaps,
    describe_overlap,
    metric_title,
    subject_of,
)
from polyrefuse_leaderboard.transfers import Transfer

from polyrefuse_shared.pictures import short_name, svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = 4
"""The most models in one picture of bars."""


def scatters(
    rows: Iterable[Row], names: dict[Subject, tuple[str, str]], most: int
) -> list[Picture]:
    """Draw safety against usefulness, in a picture for each dataset and judge that have both.

    Args:
        rows: the rows of the table of models.
        names: the model and the condition of each subject, as they are shown.
        most: the most pictures.
    """
    names = _shortened(names)
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.balanced is not None:
            groups.setdefault((row.dataset, row.judge), []).append(row)
    pictures = []
    for number, ((dataset, judge), group) in enumerate(sorted(groups.items())[:most], 1):
        labels = [_label(row, names) for row in group]
        title = (
            f"Safety against usefulness: {dataset} and its harmless partner dataset, judge {judge}"
        )
        drawn = charts.scatter_figure(group, labels, f"{dataset}, judge {judge}")
        points = [_point(row, label) for row, label in zip(group, labels, strict=True)]
        pictures.append(_picture(f"scatter-{number}", title, drawn, {"points": points}))
    return pictures


def bars(
    tables: Iterable[Table], names: dict[Subject, tuple[str, str]], most: int
) -> list[Picture]:
    """Draw baseline and ablation by language, in a picture for each metric, dataset and judge.

    Args:
        tables: the tables, in order.
        names: the model and the condition of each subject, as they are shown.
        most: the most pictures.
    """
    names = _shortened(names)
    pictures: list[Picture] = []
    for table in tables:
        panels = _panels(table, names) if table.metric in ATTACKS else []
        if not panels or len(pictures) == most:
            continue
        metric = metric_title(table.metric)
        title = (
            f"{metric} by language, baseline against the direction ablated: {table.dataset}, judge "
            f"{table.judge}"
        )
        if len(panels) > PANELS:
            title += f"; the {PANELS} of {len(panels)} where it rises most"
        numbers = {
            "metric": table.metric,
            "panels": [
                {"title": title, "baseline": _rates(baseline), "ablation": _rates(ablation)}
                for title, baseline, ablation in panels[:PANELS]
            ],
        }
        drawn = charts.bars_figure(panels[:PANELS], metric, f"{table.dataset}, judge {table.judge}")
        pictures.append(_picture(f"bars-{len(pictures) + 1}", title, drawn, numbers))
    return pictures


def matrices(transfers: Iterable[Transfer]) -> list[Picture]:
    """Draw two heat maps of each transfer report: the ASR, and the cosines of the directions."""
    pictures = []
    for number, transfer in enumerate(transfers, 1):
        pictures += [
            _picture(
                f"transfer-{number}",
                "Attack success rate in percent, by the language of the ablated direction and the "
                f"language of the prompts: {transfer.model}, {transfer.dataset}, judge "
                f"{transfer.judge}",
                charts.transfer_figure(transfer),
                {
                    "sources": transfer.sources,
                    "targets": transfer.targets,
                    "baseline": transfer.baseline,
                    "asr": transfer.asr,
                },
            ),
            _picture(
                f"cosine-{number}",
                f"Cosine between the languages' directions at position {transfer.position}, layer "
                f"{transfer.layer}: {transfer.model}",
                charts.cosine_figure(transfer),
                {
                    "sources": transfer.sources,
                    "position": transfer.position,
                    "layer": transfer.layer,
                    "cosine": transfer.cosine,
                },
            ),
        ]
    return pictures


def rates(groups: Iterable[Mapping[str, Mapping[str, Record]]], model: str) -> list[Picture]:
    """Draw a rate of one model by language under several conditions, in a picture for each group.

    Args:
        groups: condition -> language -> its rate. The rates of a group are of one metric, dataset
            and judge, and none of its conditions is empty.
        model: the name of the model, as it is shown.
    """
    pictures = []
    for number, by_condition in enumerate(groups, 1):
        one = next(rate for of in by_condition.values() for rate in of.values())
        metric, judged = metric_title(one.metric), f"{one.dataset}, judge {one.judge}"
        title = f"{metric}: {judged}: the rate in percent with its 95% interval"
        numbers = {
            "metric": one.metric,
            "conditions": {name: _rates(of) for name, of in by_condition.items()},
        }
        drawn = charts.conditions_figure(by_condition, metric, f"{short_name(model)}: {judged}")
        pictures.append(_picture(f"rates-{number}", title, drawn, numbers))
    return pictures


def _picture(name: str, title: str, drawn: Figure, numbers: Mapping[str, object]) -> Picture:
    return Picture(name, title, drawn, numbers, svg(drawn))


def _shortened(names: dict[Subject, tuple[str, str]]) -> dict[Subject, tuple[str, str]]:
    """Return the names of subjects in figures.

    A model's folder or owner is left out, unless the rest would stand for several models.
    """
    called = Counter(short_name(model) for model in {subject.model for subject in names})
    return {
        subject: (model.replace(subject.model, short, 1), condition)
        if called[short := short_name(subject.model)] == 1
        else (model, condition)
        for subject, (model, condition) in names.items()
    }


def _point(row: Row, label: str) -> dict[str, object]:
    rates = {"asr": row.asr, "false_refusal_rate": row.false_refusal}
    shown = {name: _rate(record) for name, record in rates.items() if record is not None}
    return {"name": label, "condition": row.condition, **shown}


def _rates(by_language: Mapping[str, Record]) -> dict[str, object]:
    return {language: _rate(record) for language, record in by_language.items()}


def _rate(record: Record) -> dict[str, float]:
    """Return a rate and its 95% interval as shares, and the number of prompts."""
    return {"value": record.value, "low": record.low, "high": record.high, "n": record.n}


def _label(row: Row, names: dict[Subject, tuple[str, str]]) -> str:
    subject = subject_of(row)
    overlap = describe_overlap(collect_overlaps([row]), subject, row.dataset)
    return ", ".join((*names[subject], overlap) if overlap else names[subject])


_Panel = tuple[str, dict[str, Record], dict[str, Record]]


def _panels(table: Table, names: dict[Subject, tuple[str, str]]) -> list[_Panel]:
    """Return a panel for each model with a baseline and an ablation, largest rises first."""
    baselines = {
        (subject.model, subject.revision, subject.generation): _by_language(row)
        for subject, row in table.rows.items()
        if subject.condition == "baseline"
    }
    panels = []
    for subject, row in table.rows.items():
        baseline = baselines.get((subject.model, subject.revision, subject.generation))
        if subject.condition != "ablation" or not baseline:
            continue
        ablated = _by_language(row)
        # Means over different languages cannot be compared, so only shared languages count.
        rises = [
            ablated[language].value - baseline[language].value
            for language in baseline.keys() & ablated.keys()
        ]
        if rises:
            model, condition = names[subject]
            title = model if condition == subject.condition else f"{model}, {condition}"
            panels.append((-fmean(rises), title, baseline, ablated))
    panels.sort(key=lambda panel: panel[:2])
    return [(title, baseline, ablated) for _, title, baseline, ablated in panels]


def _by_language(row: dict[str, Record]) -> dict[str, Record]:
    return {language: record for language, record in row.items() if language != MEAN}
