"""Read what `polyrefuse direction geometry` wrote: how well states separate kinds of prompts."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyrefuse_leaderboard.reading.results import MOST_PROMPTS

from polyrefuse_shared.intervals import auc_interval
from polyrefuse_shared.printing import clean
from polyrefuse_shared.reading import parse_json, read_bytes
from polyrefuse_tasks.saved_results.documents import is_number

FILE = "geometry.json"
SCHEMAS = (2, 3, 4, 5)
"""Schema 3 adds intervals, a monitor, harmfulness and the answers of a run to schema 2. Schema 4
adds what identifies the direction, whether it is a control, and the points of `geometry.png`.
Schema 5 adds the intervals of angles, which are not read here."""

AT_MOST = 2**26
"""The most bytes of a report."""

LONGEST_LANGUAGE = 40
"""The most characters of a language's code."""

LONGEST_TEXT = 200
"""The most characters of the name of a condition, a judge or a language in the newer parts."""


@dataclass(frozen=True)
class Apart:
    """How well the model's states separate harmful from harmless prompts of a language.

    Attributes:
        harmful: the number of harmful prompts.
        harmless: the number of harmless prompts.
        auc: the probability that a harmful prompt lies further along the direction than a harmless
            prompt.
        low, high: the 95% interval of `auc`, which is computed for schema 2.
        silhouette: the silhouette of the two groups of states, from -1 to 1.
        against_english: the mean place of the harmful prompts, where 0 is the mean of the harmless
            and 1 that of the harmful English prompts; None if these two are equal.
    """

    harmful: int
    harmless: int
    auc: float
    low: float
    high: float
    silhouette: float
    against_english: float | None


@dataclass(frozen=True)
class Share:
    """A share of prompts.

    Attributes:
        rate: the share, from 0 to 1.
        low, high: its 95% interval.
        n: the number of prompts.
    """

    rate: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Monitor:
    """The monitor of a report: an alarm for prompts above a threshold on the projection.

    Attributes:
        calibrated_in: the language of the prompts that the threshold was set on.
        calibration_prompts: the number of these harmless prompts.
        allowed: the share of harmless prompts that may raise an alarm.
        languages: language -> the shares of harmless and of harmful prompts that raise an alarm;
            None where the report does not know one.
    """

    calibrated_in: str
    calibration_prompts: int
    allowed: float
    languages: Mapping[str, tuple[Share | None, Share | None]]


@dataclass(frozen=True)
class Answered:
    """How well the projection separates harmful prompts that a run refused from those it answered.

    Attributes:
        condition: the condition of the run.
        judge: the judge that labelled its answers.
        languages: language -> the AUC, its 95% interval, and the numbers of refused and of answered
            prompts; a language with too few prompts for an AUC is left out.
    """

    condition: str
    judge: str
    languages: Mapping[str, tuple[float, float, float, int, int]]


@dataclass(frozen=True)
class Geometry:
    """What one report says about the direction's own layer.

    Attributes:
        dataset: the dataset of the prompts.
        position: the token position of the direction, for example -1.
        layer: the layer of the direction.
        languages: language -> its numbers, in the order of the report.
        monitor: the monitor; None in schema 2 and where it has no threshold.
        answered: the answers of a run; None if the report has none.
    """

    dataset: str
    position: int
    layer: int
    languages: Mapping[str, Apart]
    monitor: Monitor | None = None
    answered: Answered | None = None


def read_geometry(folder: Path) -> tuple[Geometry | None, str]:
    """Read the report of a folder.

    Returns:
        The report and "", or None and a sentence that says why it cannot be used.
    """
    try:
        return _geometry(parse_json(read_bytes(folder / FILE, AT_MOST))), ""
    except OSError as error:
        return None, f"{FILE} cannot be read ({error.strerror})."
    except KeyError as missing:
        said = f"it has no {missing}"
    except (TypeError, ValueError, AttributeError) as error:
        said = str(error)
    return None, clean(
        f"{FILE} is not a report of `polyrefuse direction geometry` ({said}); write it again."
    )


def _geometry(report: Any) -> Geometry:
    if type(report["schema"]) is not int or report["schema"] not in SCHEMAS:
        raise ValueError(f"schema {reprlib.repr(report['schema'])}")
    languages = report["languages"]
    if not isinstance(languages, dict) or not languages:
        raise ValueError(f"languages is {reprlib.repr(languages)}")
    for language in languages:
        if not 0 < len(language) <= LONGEST_LANGUAGE or not language.isprintable():
            raise ValueError(f"{reprlib.repr(language)} is not the code of a language")
    dataset, position, layer = report["dataset"], report["position"], report["layer"]
    if not isinstance(dataset, str) or not dataset or not dataset.isprintable():
        raise ValueError(f"dataset is {reprlib.repr(dataset)}, not a name")
    for place in (position, layer):
        if type(place) is not int or abs(place) > 10**6:
            raise ValueError(f"{reprlib.repr(place)} is not the position or layer of a direction")
    return Geometry(
        dataset,
        position,
        layer,
        {name: _apart(entry, report["schema"]) for name, entry in languages.items()},
        monitor=_monitor(report["monitor"]) if report["schema"] > 2 else None,
        answered=_answered(report["success"]) if report["schema"] > 2 else None,
    )


def _monitor(entry: Mapping[str, Any]) -> Monitor | None:
    if entry["threshold"] is None:
        return None
    return Monitor(
        calibrated_in=_text(entry["calibrated_in"]),
        calibration_prompts=_count(entry["calibration_prompts"]),
        allowed=_number(entry["false_alarms"], 0, 1),
        languages={
            _text(name): (_share(found["false_alarms"]), _share(found["detected"]))
            for name, found in entry["languages"].items()
        },
    )


def _share(entry: Mapping[str, Any] | None) -> Share | None:
    if entry is None:
        return None
    rate, low, high = (_number(entry[name], 0, 1) for name in ("rate", "low", "high"))
    return Share(rate, low, high, _count(entry["n"]))


def _answered(entry: Mapping[str, Any] | None) -> Answered | None:
    if entry is None:
        return None
    areas = {_text(name): found["auc"]["harmful"] for name, found in entry["languages"].items()}
    known = {
        name: (
            _number(area["auc"], 0, 1),
            _number(area["low"], 0, 1),
            _number(area["high"], 0, 1),
            _count(area["refused"]),
            _count(area["answered"]),
        )
        for name, area in areas.items()
        if area["auc"] is not None
    }
    return Answered(_text(entry["condition"]), _text(entry["judge"]), known) if known else None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_TEXT or not value.isprintable():
        raise ValueError(f"{reprlib.repr(value)} is not a name")
    return value


def _apart(entry: Mapping[str, Any], schema: int) -> Apart:
    against = entry["harmful_against_english"]
    harmful, harmless = _count(entry["harmful"]["n"]), _count(entry["harmless"]["n"])
    auc = _number(entry["auc"], 0, 1)
    low, high = auc_interval(auc, harmful, harmless)
    if schema > 2:
        low, high = (_number(entry[name], 0, 1) for name in ("auc_low", "auc_high"))
    return Apart(
        harmful=harmful,
        harmless=harmless,
        auc=auc,
        low=low,
        high=high,
        silhouette=_number(entry["silhouette"], -1, 1),
        against_english=None if against is None else _number(against, -1e6, 1e6),
    )


def _count(value: Any) -> int:
    if type(value) is not int or not 0 < value <= MOST_PROMPTS:
        raise ValueError(f"{reprlib.repr(value)} is not a number of prompts")
    return value


def _number(value: Any, least: float, most: float) -> float:
    if not is_number(value) or not least <= value <= most:
        raise ValueError(f"{reprlib.repr(value)} is not a number from {least:g} to {most:g}")
    return float(value)
