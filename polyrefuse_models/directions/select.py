"""Which candidate is the refusal direction: the rules of the two papers, as their code has them.

Both drop candidates with a NaN among their scores and those of the last 20% of the layers, and then
take the lowest refusal score. 2406.11717 (appendix C) also drops a candidate whose ablation moves
harmless answers by more than 0.1 nats, and one whose addition does not make the model refuse
harmless prompts (a steering score below 0). The code of 2505.17306 raises the first limit to 0.2
nats and has the second one commented out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.reading import parse_json, read_bytes


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
        """The candidate as a record of `scores.json`."""
        return asdict(self)

    def scores(self) -> dict[str, float | None]:
        """Its scores by name, without its place."""
        place = ("position", "layer")
        return {name: score for name, score in self.record().items() if name not in place}

    def complete_scores(self) -> tuple[float, float, float]:
        """Refusal score, steering score and KL divergence, in this order.

        Raises:
            ValueError: one of them was not computed.
        """
        return (
            _computed(self.refusal_score),
            _computed(self.steering_score),
            _computed(self.kl_div_score),
        )


@dataclass(frozen=True)
class Rule:
    """What a candidate has to fulfil to be chosen.

    Attributes:
        name: arXiv number of the paper whose code has the rule.
        kl_limit: most that ablation may move the answers to harmless prompts, in nats.
        least_steering: lowest steering score; None where the rule does not read that score.
        share_of_layers: the first layers that are looked at: the last ones are too close to the
            unembedding.
        falls_back: whether the candidate that moves harmless answers least is taken where none is
            within the limits. Neither paper's code does that: both stop.
    """

    name: str
    kl_limit: float
    least_steering: float | None
    share_of_layers: float
    falls_back: bool

    def layers(self, n_layers: int) -> int:
        """How many of the layers are looked at, from the first."""
        return int(self.share_of_layers * n_layers)

    def admits(self, candidate: Candidate) -> bool | None:
        """Whether the scores are within the limits; None where one that would decide it is not
        known."""
        tests = [_known(candidate.kl_div_score, lambda score: score <= self.kl_limit)]
        least = self.least_steering
        if least is not None:
            tests.append(_known(candidate.steering_score, lambda score: score >= least))
        if False in tests:
            return False
        return None if None in tests else True

    def limits(self) -> str:
        """The limits in words."""
        steering = (
            ""
            if self.least_steering is None
            else f" and a steering score of at least {self.least_steering:g}"
        )
        return f"a KL divergence of at most {self.kl_limit}{steering}"


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("2505.17306", 0.2, None, 0.8, falls_back=True),
        Rule("2406.11717", 0.1, 0.0, 0.8, falls_back=False),
    )
}
"""Every rule that `rule=` and `--rule` name."""

DEFAULT = RULES["2505.17306"]


def rule_named(name: str | float) -> Rule:
    """The rule of that name.

    Args:
        name: lm-eval hands a `rule=2406.11717` over as a number.

    Raises:
        UserError: there is none of that name.
    """
    if str(name) not in RULES:
        raise UserError(f"rule={name} is not known; use one of {', '.join(RULES)}.")
    return RULES[str(name)]


def eligible(candidates: Iterable[Candidate], n_layers: int, rule: Rule) -> list[Candidate]:
    """The candidates of the layers looked at that have a refusal score, the lowest first.

    One with a NaN among its scores is out: that is the published code's first step.
    """
    kept = (
        candidate
        for candidate in candidates
        if candidate.layer < rule.layers(n_layers)
        and candidate.refusal_score is not None
        and not any(map(_is_nan, candidate.record().values()))
    )
    return sorted(kept, key=lambda candidate: _computed(candidate.refusal_score))


def choose(
    candidates: Iterable[Candidate], n_layers: int, rule: Rule = DEFAULT
) -> Candidate | None:
    """The candidate with the lowest refusal score among those that are known to be within the
    rule's limits; None where there is none."""
    within = (c for c in eligible(candidates, n_layers, rule) if rule.admits(c))
    return next(within, None)


def check_complete(
    candidates: Iterable[Candidate], n_layers: int, rule: Rule, origin: str | Path
) -> None:
    """Refuse scores that lack one that the rule's choice depends on.

    Raises:
        BadScores: a candidate might come before the choice, were all of its scores known.
    """
    candidates = list(candidates)
    unscored = (
        c for c in candidates if c.layer < rule.layers(n_layers) and c.refusal_score is None
    )
    not_out = (c for c in eligible(candidates, n_layers, rule) if rule.admits(c) is not False)
    first = next(unscored, None) or next(not_out, None)
    if first is None or (first.refusal_score is not None and rule.admits(first)):
        return
    raise BadScores(
        f"{origin}: whether rule {rule.name} chooses position {first.position}, layer "
        f"{first.layer} cannot be told, because a score of it was not computed; extract with "
        f"--rule {rule.name} or --all-scores."
    )


def nothing_within(candidates: Iterable[Candidate], n_layers: int, rule: Rule) -> str:
    """That no candidate is within the rule's limits, as a clause with the numbers."""
    candidates = list(candidates)
    clause = (
        f"by rule {rule.name} none of {len(candidates)} candidates is among the first "
        f"{rule.layers(n_layers)} layers of {n_layers} with a refusal score and {rule.limits()}"
    )
    within = [
        candidate
        for candidate in eligible(candidates, n_layers, rule)
        if _known(candidate.kl_div_score, lambda score: score <= rule.kl_limit)
    ]
    if not within:
        return f"{clause}; none is within the KL limit"
    steering = [c.steering_score for c in within if c.steering_score is not None]
    if rule.least_steering is None or not steering:
        return clause
    return (
        f"{clause}; {len(within)} are within the KL limit, and the highest steering score among "
        f"them is {max(steering):.3f}"
    )


def least_moving(candidates: Iterable[Candidate], n_layers: int, rule: Rule) -> Candidate:
    """The choice where no candidate is within the limits: the one with the lowest KL divergence.

    Raises:
        NoDirection: the rule has no such choice; every score is NaN, or the model has too few
            layers to look at any.
    """
    candidates = list(candidates)
    scored = [
        candidate
        for candidate in eligible(candidates, n_layers, rule)
        if candidate.kl_div_score is not None
    ]
    if not rule.falls_back:
        raise NoDirection(
            f"No direction can be chosen: {nothing_within(candidates, n_layers, rule)}; the code "
            f"of {rule.name} stops here, too: take another rule, or prompts that the model refuses."
        )
    if not scored:
        raise NoDirection(
            "No direction can be chosen: every candidate of the layers looked at (the first "
            f"{rule.share_of_layers:.0%}) scored NaN or there is none; check the model's outputs "
            "and depth."
        )
    return min(scored, key=lambda candidate: _computed(candidate.kl_div_score))


AT_MOST = 2**28
"""Bytes of a file of scores, or of metadata, at most."""


def read_scores(path: str | Path) -> list[Candidate]:
    """The candidates of a `scores.json`, or of the authors' `direction_evaluations.json`.

    Raises:
        BadScores: no such file, no JSON list of records, or a record that lacks a field that the
            rule needs; the message names the record.
    """
    try:
        rows = json.loads(read_bytes(Path(path), AT_MOST), parse_int=_integer)
    except OSError as error:
        raise BadScores(f"{path} cannot be read ({error.strerror}); name a scores.json.") from None
    except (ValueError, RecursionError) as error:
        raise BadScores(f"{path} is not JSON ({error}); name a scores.json.") from None
    if not isinstance(rows, list) or not rows:
        raise BadScores(f"{path} is not a list of scores; name a scores.json.")
    return [_candidate(row, f"{path}, record {index}") for index, row in enumerate(rows)]


def rule_of(path: str | Path) -> Rule:
    """The rule that a `scores.json` was computed for, by the metadata beside it: what that rule's
    choice did not need is null. The default rule where the metadata name none."""
    try:
        metadata = parse_json(read_bytes(Path(path).parent / "metadata.json", AT_MOST))
        return RULES[metadata["rule"]]
    except (OSError, ValueError, LookupError, TypeError):
        return DEFAULT


def _candidate(row: Any, where: str) -> Candidate:
    if not isinstance(row, dict):
        raise BadScores(f"{where}: {row!r} is not a record of scores; mend or remove it.")
    # Not every rule reads the steering score, so a file may do without it.
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


def _computed(score: float | None) -> float:
    """The score itself.

    Raises:
        ValueError: it was not computed.
    """
    if score is None:
        raise ValueError("a score that is needed was not computed")
    return score


def _known(score: float | None, fits: Callable[[float], bool]) -> bool | None:
    return None if score is None else fits(score)


def _is_nan(score: float | None) -> bool:
    return score is not None and math.isnan(score)
