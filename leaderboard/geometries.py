"""Reads what `polyrefuse direction geometry` wrote: how far apart a model holds its prompts."""

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
SCHEMAS = (2, 3, 4)
"""Schema 3 has intervals, a monitor, harmfulness and a run's answers beside what 2 has; schema 4
also says which direction it is, and whether it is a control, and has the points of
`geometry.png`."""

AT_MOST = 2**26
"""Bytes of a report, at most."""

LONGEST_LANGUAGE = 40
"""Characters of a language's code, at most."""


@dataclass(frozen=True)
class Apart:
    """How far apart harmful and harmless prompts of a language are in the model's states.

    Attributes:
        harmful: harmful prompts.
        harmless: harmless ones.
        auc: probability that a harmful prompt lies further along the direction than a harmless
            one.
        low, high: its 95% interval, which schema 2 leaves to be computed.
        silhouette: of the two clouds, -1 to 1.
        against_english: where the harmful prompts lie on average, from 0 for English's harmless
            prompts to 1 for its harmful ones; None where these two are equal.
    """

    harmful: int
    harmless: int
    auc: float
    low: float
    high: float
    silhouette: float
    against_english: float | None


@dataclass(frozen=True)
class Geometry:
    """What one report holds of the direction's own layer.

    Attributes:
        dataset: whose prompts.
        position: of the direction, as in `-1`.
        layer: its own.
        languages: by code, in the order of the report.
    """

    dataset: str
    position: int
    layer: int
    languages: Mapping[str, Apart]


def read_geometry(folder: Path) -> tuple[Geometry | None, str]:
    """The report of a folder.

    Returns:
        What it holds, or None and why it cannot be used, in a sentence.
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
        f"{FILE} is no report of `polyrefuse direction geometry` ({said}); write it again."
    )


def _geometry(report: Any) -> Geometry:
    if type(report["schema"]) is not int or report["schema"] not in SCHEMAS:
        raise ValueError(f"schema {reprlib.repr(report['schema'])}")
    languages = report["languages"]
    if not isinstance(languages, dict) or not languages:
        raise ValueError(f"languages is {reprlib.repr(languages)}")
    for language in languages:
        if not 0 < len(language) <= LONGEST_LANGUAGE or not language.isprintable():
            raise ValueError(f"{reprlib.repr(language)} is no language's code")
    dataset, position, layer = report["dataset"], report["position"], report["layer"]
    if not isinstance(dataset, str) or not dataset or not dataset.isprintable():
        raise ValueError(f"dataset is {reprlib.repr(dataset)}, not a name")
    for place in (position, layer):
        if type(place) is not int or abs(place) > 10**6:
            raise ValueError(f"{reprlib.repr(place)} is no place of a direction")
    return Geometry(
        dataset,
        position,
        layer,
        {name: _apart(entry, report["schema"]) for name, entry in languages.items()},
    )


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
        raise ValueError(f"{reprlib.repr(value)} is no number of prompts")
    return value


def _number(value: Any, least: float, most: float) -> float:
    if not is_number(value) or not least <= value <= most:
        raise ValueError(f"{reprlib.repr(value)} is not a number from {least:g} to {most:g}")
    return float(value)
