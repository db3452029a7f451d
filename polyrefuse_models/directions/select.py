"""Which candidate is the refusal direction: the published rule (2406.11717, appendix C)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polyrefuse_tasks.errors import UserError

KL_LIMIT = 0.2
"""Most that ablation may move the answers to harmless prompts, in nats."""

KEPT_LAYERS = 0.8
"""Share of the layers that are looked at: the last ones are too close to the unembedding."""


class NoDirection(UserError):
    """No candidate can be chosen."""


class BadScores(UserError):
    """A file that the rule cannot be applied to."""


@dataclass(frozen=True)
class Candidate:
    """The scores of the direction at one position and layer; None where it was not computed whole.

    Attributes:
        position: token, counted from the end: -1 is the last input token.
        layer: the block at whose input the states were read.
        refusal_score: mean refusal score on harmful prompts with the direction ablated.
        steering_score: the same on harmless prompts with it added.
        kl_div_score: mean KL(base || ablated) of the next token on harmless prompts, in nats.
    """

    position: int
    layer: int
    refusal_score: float | None = None
    steering_score: float | None = None
    kl_div_score: float | None = None

    def record(self) -> dict[str, int | float | None]:
        """As `scores.json` has it."""
        return asdict(self)


def kept_layers(n_layers: int) -> int:
    """How many of the layers are looked at, from the first."""
    return int(KEPT_LAYERS * n_layers)


def eligible(candidates: Iterable[Candidate], n_layers: int) -> list[Candidate]:
    """The candidates of the layers looked at that have a refusal score, the lowest first.

    One with a NaN among its scores is out: that is the published rule's first step.
    """
    kept = (
        candidate
        for candidate in candidates
        if candidate.layer < kept_layers(n_layers)
        and candidate.refusal_score is not None
        and not any(map(_is_nan, candidate.record().values()))
    )
    return sorted(kept, key=lambda candidate: candidate.refusal_score)


def choose(candidates: Iterable[Candidate], n_layers: int) -> Candidate | None:
    """The candidate with the lowest refusal score within the KL limit; None where there is none."""
    for candidate in eligible(candidates, n_layers):
        if candidate.kl_div_score is not None and candidate.kl_div_score <= KL_LIMIT:
            return candidate
    return None


def least_moving(candidates: Iterable[Candidate], n_layers: int) -> Candidate:
    """The candidate with the lowest KL divergence: the choice where none is within the limit.

    Raises:
        NoDirection: every score is NaN, or the model has too few layers to look at any.
    """
    known = [
        candidate
        for candidate in eligible(candidates, n_layers)
        if candidate.kl_div_score is not None
    ]
    if not known:
        raise NoDirection(
            "No direction can be chosen: every candidate of the layers looked at (the first "
            f"{KEPT_LAYERS:.0%}) scored NaN or there is none; check the model's outputs and depth."
        )
    return min(known, key=lambda candidate: candidate.kl_div_score)


def read_scores(path: str | Path) -> list[Candidate]:
    """The candidates of a `scores.json`, or of the authors' `direction_evaluations.json`.

    Raises:
        BadScores: no such file, no JSON list of records, or a record that lacks a field that the
            rule needs; the message names the record.
    """
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8"), parse_int=_integer)
    except OSError as error:
        raise BadScores(f"{path} cannot be read ({error.strerror}); name a scores.json.") from None
    except (ValueError, RecursionError) as error:
        raise BadScores(f"{path} is not JSON ({error}); name a scores.json.") from None
    if not isinstance(rows, list) or not rows:
        raise BadScores(f"{path} is not a list of scores; name a scores.json.")
    return [_candidate(row, f"{path}, record {index}") for index, row in enumerate(rows)]


def _candidate(row: Any, where: str) -> Candidate:
    if not isinstance(row, dict):
        raise BadScores(f"{where}: {row!r} is not a record of scores; mend or remove it.")
    # The rule does not read the steering score, so a file may do without it.
    row = {"steering_score": None} | row
    values: dict[str, Any] = {}
    for name in Candidate.__dataclass_fields__:
        if name not in row:
            raise BadScores(f"{where} has no {name}; mend or remove it.")
        value = values[name] = row[name]
        if name == "position":
            kind, fits = "an integer below 0", type(value) is int and value < 0
        elif name == "layer":
            kind, fits = "an integer from 0 on", type(value) is int and value >= 0
        else:
            kind, fits = "a number, NaN or null", type(value) in (int, float, type(None))
        if not fits:
            raise BadScores(f"{where}: {name} is {value!r}, not {kind}; mend or remove it.")
    return Candidate(**values)


def _integer(digits: str) -> int | float:
    """A JSON integer; one that no index and no finite score can be is a float, perhaps infinite."""
    return int(digits) if len(digits) <= 9 else float(digits)


def _is_nan(score: float | None) -> bool:
    return score is not None and math.isnan(score)
