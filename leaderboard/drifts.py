"""Read what `polyrefuse drift` wrote: how far a condition moves answers to harmless prompts."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyrefuse_leaderboard.reading import identity
from polyrefuse_leaderboard.reading.results import MOST_PROMPTS

from polyrefuse_shared.printing import clean
from polyrefuse_shared.reading import parse_json, read_bytes
from polyrefuse_tasks.saved_results.documents import BadResults, is_number

FILE = "drift.json"
SCHEMA = 1

AT_MOST = 2**24
"""The most bytes of a report."""

LONGEST_LANGUAGE = 40
"""The most characters of a language's code."""


@dataclass(frozen=True)
class Divergence:
    """The KL divergence from the untouched model, in nats, on the harmless prompts of a language.

    Attributes:
        n: the number of prompts.
        mean: the mean over the prompts.
        low, high: the 95% interval of the mean.
        largest: the largest divergence of any prompt.
        agreement: the share of prompts whose most likely first token stays the same.
        agreement_low, agreement_high: the 95% interval of that share.
    """

    n: int
    mean: float
    low: float
    high: float
    largest: float
    agreement: float
    agreement_low: float
    agreement_high: float


@dataclass(frozen=True)
class Drift:
    """The contents of one report.

    Attributes:
        condition: the condition of the model.
        intervention: the checksum of the intervention, as in a record.
        dataset: the dataset of the harmless prompts.
        languages: language -> its divergence, in the order of the report.
    """

    condition: str
    intervention: str
    dataset: str
    languages: Mapping[str, Divergence]


def read_drift(folder: Path) -> tuple[Drift | None, str]:
    """Read the report of a folder.

    Returns:
        The report and "", or None and a sentence that says why it cannot be used.
    """
    path = folder / FILE
    try:
        return _drift(parse_json(read_bytes(path, AT_MOST)), path.name), ""
    except OSError as error:
        return None, f"{path.name} cannot be read ({error.strerror})."
    except KeyError as missing:
        said = f"it has no {missing}"
    except (BadResults, TypeError, ValueError, AttributeError) as error:
        said = str(error)
    return None, clean(
        f"{path.name} is not a report of `polyrefuse drift` ({said}); write it again."
    )


def _drift(report: Any, name: str) -> Drift:
    if report["schema"] != SCHEMA:
        raise ValueError(f"schema {reprlib.repr(report['schema'])}")
    condition, intervention = identity.intervention(report, name)
    languages = report["languages"]
    if not isinstance(languages, dict) or not languages:
        raise ValueError(f"languages is {reprlib.repr(languages)}")
    for language in languages:
        if not 0 < len(language) <= LONGEST_LANGUAGE or not language.isprintable():
            raise ValueError(f"{reprlib.repr(language)} is not the code of a language")
    return Drift(
        condition=condition,
        intervention=intervention,
        dataset=_name(report["dataset"]),
        languages={language: _divergence(entry) for language, entry in languages.items()},
    )


def _divergence(entry: Mapping[str, Any]) -> Divergence:
    n = entry["n"]
    if type(n) is not int or not 0 < n <= MOST_PROMPTS:
        raise ValueError(f"{reprlib.repr(n)} is not a number of prompts")
    mean, low, high, largest = (
        _number(entry[name]) for name in ("kl_mean", "kl_low", "kl_high", "kl_max")
    )
    shares = [
        _number(entry[name], 1.0)
        for name in ("first_token_agreement", "first_token_low", "first_token_high")
    ]
    for start, end in ((low, high), shares[1:]):
        if start > end:
            raise ValueError(f"an interval begins at {start} and ends at {end}")
    return Divergence(n, mean, low, high, largest, *shares)


def _number(value: Any, most: float = float("inf")) -> float:
    if not is_number(value) or not 0 <= value <= most:
        raise ValueError(f"{reprlib.repr(value)} is not a number from 0 to {most:g}")
    return float(value)


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError(f"{reprlib.repr(value)} is not a name")
    return value
