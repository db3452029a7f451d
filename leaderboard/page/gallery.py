"""Which pictures a leaderboard has, and what each is called."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean

from polyrefuse_leaderboard import table
from polyrefuse_leaderboard.model_rows import ATTACKS, Row
from polyrefuse_leaderboard.page import charts as figures
from polyrefuse_leaderboard.page.html import Picture
from polyrefuse_leaderboard.records import MEAN, Record
from polyrefuse_leaderboard.table import Subject, Table
from polyrefuse_leaderboard.transfers import Transfer

PANELS = 4
"""Models in one picture of bars, at most."""


def scatters(
    rows: Iterable[Row], names: dict[Subject, tuple[str, str]], most: int
) -> list[Picture]:
    """Safety against usefulness, a picture for each data set and judge that have both.

    Args:
        rows: of the table of models.
        names: what each subject is called.
        most: pictures.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.balanced is not None:
            groups.setdefault((row.dataset, row.judge), []).append(row)
    made = []
    for number, ((dataset, judge), group) in enumerate(sorted(groups.items())[:most], 1):
        called = [_called(row, names) for row in group]
        title = (
            f"Safety against usefulness: {dataset} and the harmless prompts that go with it, judge "
            f"{judge}"
        )
        made.append(Picture(f"scatter-{number}.svg", title, figures.scatter_svg(group, called)))
    return made


def bars(found: Iterable[Table], names: dict[Subject, tuple[str, str]], most: int) -> list[Picture]:
    """Baseline and ablation by language, a picture for each metric, data set and judge.

    Args:
        found: tables, in order.
        names: what each subject is called.
        most: pictures.
    """
    made: list[Picture] = []
    for one in found:
        panels = _panels(one, names) if one.metric in ATTACKS else []
        if not panels or len(made) == most:
            continue
        metric = table.title(one.metric)
        title = (
            f"{metric} by language, baseline against the direction ablated: {one.dataset}, judge "
            f"{one.judge}"
        )
        if len(panels) > PANELS:
            title += f"; the {PANELS} of {len(panels)} where it rises most"
        svg = figures.bars_svg(panels[:PANELS], metric)
        made.append(Picture(f"bars-{len(made) + 1}.svg", title, svg))
    return made


def matrices(transfers: Iterable[Transfer]) -> list[Picture]:
    """What one language's direction does to the others, and how alike directions are."""
    made = []
    for number, told in enumerate(transfers, 1):
        made += [
            Picture(
                f"transfer-{number}.svg",
                "Attack success in percent, by the language that the ablated direction is from and "
                f"that of the prompts: {told.model}, {told.dataset}, judge {told.judge}",
                figures.transfer_svg(told),
            ),
            Picture(
                f"cosine-{number}.svg",
                f"Cosine between the languages' directions at position {told.position}, layer "
                f"{told.layer}: {told.model}",
                figures.cosine_svg(told),
            ),
        ]
    return made


def _called(row: Row, names: dict[Subject, tuple[str, str]]) -> str:
    about = table.subject(row)
    seen = table.trained(table.overlaps([row]), about, row.dataset)
    return ", ".join((*names[about], seen) if seen else names[about])


_Panel = tuple[str, dict[str, Record], dict[str, Record]]


def _panels(one: Table, names: dict[Subject, tuple[str, str]]) -> list[_Panel]:
    """Every model with a baseline and an ablated run; those that rise most are first."""
    baselines = {
        (about.model, about.revision, about.generation): _apart(row)
        for about, row in one.rows.items()
        if about.condition == "baseline"
    }
    panels = []
    for about, row in one.rows.items():
        baseline = baselines.get((about.model, about.revision, about.generation))
        if about.condition != "ablation" or not baseline:
            continue
        ablated = _apart(row)
        # Two means over different languages say nothing of each other.
        rises = [
            ablated[language].value - baseline[language].value
            for language in baseline.keys() & ablated.keys()
        ]
        if rises:
            model, condition = names[about]
            title = model if condition == about.condition else f"{model}, {condition}"
            panels.append((-fmean(rises), title, baseline, ablated))
    panels.sort(key=lambda panel: panel[:2])
    return [(title, baseline, ablated) for _, title, baseline, ablated in panels]


def _apart(row: dict[str, Record]) -> dict[str, Record]:
    return {language: record for language, record in row.items() if language != MEAN}
