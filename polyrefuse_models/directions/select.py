"""Which candidate is the refusal direction: the rules of three papers, as their code has them.

All drop candidates with a NaN among their scores and those of the last 20% of the layers. The
first two then take the lowest refusal score. 2406.11717 (appendix C) also drops a candidate whose
ablation moves harmless answers by more than 0.1 nats, and one whose addition does not make the
model refuse harmless prompts (a steering score below 0). The code of 2505.17306 raises the first
limit to 0.2 nats and has the second one commented out. COSMIC (2506.00085) keeps the limit of 0.1
nats, and takes the highest score of `directions.cosmic`, for which no token has to be known.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.reading import parse_json, read_bytes


class NoDirection(UserError):
    """No candidate can be chosen."""


class BadScores(UserError):
    """A file that the rule cannot be applied to."""


OF_STATES = ("comply_cosine", "refuse_cosine", "cosmic_score")
"""The scores of `directions.cosmic`."""


@dataclass(frozen=True)
class Candidate:
    """The scores of the direction at one position and layer; None where it was not computed whole.

    Attributes:
        position: token, counted from the end: -1 is the last input token.
        layer: the block at whose input the states were read.
        refusal_score: mean refusal score on harmful prompts with the direction ablated.
        steering_score: the same on harmless prompts with it added.
        kl_div_score: mean KL(base || ablated) of the next token on harmless prompts, in nats.
        comply_cosine: cosine between the mean states after harmful prompts with the direction
            ablated and those after harmless prompts (`directions.cosmic`).
        refuse_cosine: the same between harmless prompts with it added and harmful prompts.
        cosmic_score: the sum of both.
    """

    position: int
    layer: int
    refusal_score: float | None = None
    steering_score: float | None = None
    kl_div_score: float | None = None
    comply_cosine: float | None = None
    refuse_cosine: float | None = None
    cosmic_score: float | None = None

    def record(self) -> dict[str, int | float | None]:
        """The candidate as a record of `scores.json`; cosines only where there are any."""
        row = asdict(self)
        without = all(row[name] is None for name in OF_STATES)
        return {name: row[name] for name in row if not (without and name in OF_STATES)}

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
        name: arXiv number of the paper whose code has the rule, or what the paper calls it.
        kl_limit: most that ablation may move the answers to harmless prompts, in nats.
        least_steering: lowest steering score; None where the rule does not read that score.
        share_of_layers: the first layers that are looked at: the last ones are too close to the
            unembedding.
        falls_back: whether the candidate that moves harmless answers least is taken where none is
            within the limits. No paper's code does that: all stop.
        reads_tokens: whether its scores are log-odds of refusal tokens.
        ranked_by: the score that decides among the candidates within the limits, in words.
    """

    name: str
    kl_limit: float
    least_steering: float | None
    share_of_layers: float
    falls_back: bool

    reads_tokens: ClassVar[bool] = True
    ranked_by: ClassVar[str] = "refusal score"

    def rank(self, candidate: Candidate) -> float | None:
        """Where the candidate comes among others, the lowest first; None where it is not known."""
        return candidate.refusal_score

    def reports(self, chosen: Candidate) -> bool:
        """Whether all scores are known that are told of a choice."""
        return chosen.steering_score is not None

    def check_tokens(self, given: object) -> None:
        """Refuse refusal tokens that a rule has no use for.

        Args:
            given: None where nobody named any.

        Raises:
            UserError: they were named, and the rule reads none.
        """
        if given is not None and not self.reads_tokens:
            raise UserError(
                f"refusal_tokens has nothing to decide with rule={self.name}, which reads no "
                "token; leave one of them out."
            )

    def layers(self, n_layers: int) -> int:
        """How many of the layers are looked at, from the first."""
        return int(self.share_of_layers * n_layers)

    def admits(self, candidate: Candidate) -> bool | None:
        """Whether the scores are within the limits; None where one that would decide it is not
        known.
        """
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


class StateRule(Rule):
    """A rule that compares states and not answers: the highest `cosmic_score`."""

    reads_tokens = False
    ranked_by = "COSMIC score"

    def rank(self, candidate: Candidate) -> float | None:
        """The negative COSMIC score."""
        return None if candidate.cosmic_score is None else -candidate.cosmic_score

    def reports(self, chosen: Candidate) -> bool:
        """The cosines are computed together."""
        return chosen.cosmic_score is not None


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("2505.17306", 0.2, None, 0.8, falls_back=True),
        Rule("2406.11717", 0.1, 0.0, 0.8, falls_back=False),
        StateRule("cosmic", 0.1, None, 0.8, falls_back=False),
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
    """The candidates of the layers looked at whose rank is known, the first one first.

    One with a NaN among its scores is out: that is the published code's first step.
    """
    kept = (
        candidate
        for candidate in candidates
        if candidate.layer < rule.layers(n_layers)
        and rule.rank(candidate) is not None
        and not any(map(_is_nan, candidate.record().values()))
    )
    return sorted(kept, key=lambda candidate: _computed(rule.rank(candidate)))


def choose(
    candidates: Iterable[Candidate], n_layers: int, rule: Rule = DEFAULT
) -> Candidate | None:
    """The first in the rule's order among the candidates that are known to be within its limits;
    None where there is none.
    """
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
    unscored = (c for c in candidates if c.layer < rule.layers(n_layers) and rule.rank(c) is None)
    not_out = (c for c in eligible(candidates, n_layers, rule) if rule.admits(c) is not False)
    first = next(unscored, None) or next(not_out, None)
    if first is None or (rule.rank(first) is not None and rule.admits(first)):
        return
    # A rule that reads tokens filters prompts by them, so that it computes no cosines.
    remedy = f"--rule {rule.name} or --all-scores" if rule.reads_tokens else f"--rule {rule.name}"
    raise BadScores(
        f"{origin}: whether rule {rule.name} chooses position {first.position}, layer "
        f"{first.layer} cannot be told, because a score of it was not computed; extract with "
        f"{remedy}."
    )


def nothing_within(candidates: Iterable[Candidate], n_layers: int, rule: Rule) -> str:
    """That no candidate is within the rule's limits, as a clause with the numbers."""
    candidates = list(candidates)
    clause = (
        f"by rule {rule.name} none of {len(candidates)} candidates is among the first "
        f"{rule.layers(n_layers)} layers of {n_layers} with a {rule.ranked_by} and {rule.limits()}"
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
            f"No direction can be chosen: {nothing_within(candidates, n_layers, rule)}; the "
            "published code of this rule stops here, too: take another rule, or prompts that the "
            "model refuses."
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
    choice did not need is null. The default rule where the metadata name none.
    """
    try:
        metadata = parse_json(read_bytes(Path(path).parent / "metadata.json", AT_MOST))
        return RULES[metadata["rule"]]
    except (OSError, ValueError, LookupError, TypeError):
        return DEFAULT


OPTIONAL = ("steering_score", *OF_STATES)
"""Scores that a file's records may lack."""


def _candidate(row: Any, where: str) -> Candidate:
    if not isinstance(row, dict):
        raise BadScores(f"{where}: {row!r} is not a record of scores; mend or remove it.")
    # Not every rule reads these scores, so a file may do without them.
    row = dict.fromkeys(OPTIONAL) | row
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
