"""Choose the refusal direction among the candidates by the rules of three papers.

The rules follow the papers' code. All of them drop candidates that have a NaN among their scores,
and candidates in the last 20% of the layers. The first two rules then choose the lowest refusal
score. The rule of 2406.11717 (appendix C) also drops a candidate whose ablation changes the answers
to harmless prompts by more than 0.1 nats, and a candidate whose addition does not make the model
refuse harmless prompts (a steering score below 0). The code of 2505.17306 raises the first limit to
0.2 nats and has the second limit commented out. The rule of COSMIC (2506.00085) keeps the limit of
0.1 nats and chooses the highest score of `directions.cosmic`, which needs no refusal tokens.
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
    """A file of scores that a rule cannot be applied to."""


OF_STATES = ("comply_cosine", "refuse_cosine", "cosmic_score")
"""The scores of `directions.cosmic`."""


@dataclass(frozen=True)
class Candidate:
    """The scores of the direction at one position and layer.

    A score is None if it was not computed on all prompts.

    Attributes:
        position: the token, counted from the end: -1 is the last input token.
        layer: the block at whose input the states were read.
        refusal_score: mean refusal score on harmful prompts with the direction ablated.
        steering_score: mean refusal score on harmless prompts with the direction added.
        kl_div_score: mean KL(base || ablated) of the next token on harmless prompts, in nats.
        comply_cosine: cosine between the mean states after harmful prompts with the direction
            ablated and those after harmless prompts (`directions.cosmic`).
        refuse_cosine: the same between harmless prompts with the direction added and harmful ones.
        cosmic_score: the sum of both cosines.
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
        """The candidate as a record of `scores.json`, with cosines only if there are any."""
        row = asdict(self)
        without = all(row[name] is None for name in OF_STATES)
        return {name: row[name] for name in row if not (without and name in OF_STATES)}

    def scores(self) -> dict[str, float | None]:
        """The scores by name, without position and layer."""
        place = ("position", "layer")
        return {name: score for name, score in self.record().items() if name not in place}

    def complete_scores(self) -> tuple[float, float, float]:
        """Return refusal score, steering score and KL divergence, in this order.

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
    """The conditions that a candidate has to meet to be chosen.

    Attributes:
        name: the arXiv number of the paper whose code has the rule, or the paper's name for it.
        kl_limit: how far ablation may change the answers to harmless prompts, in nats.
        least_steering: the lowest steering score; None if the rule does not read that score.
        share_of_layers: the share of layers, from the first, that the rule considers. The last
            layers are too close to the unembedding.
        falls_back: whether the rule chooses the candidate with the lowest KL divergence if none is
            within the limits. The code of each paper stops there.
        reads_tokens: whether the scores are log-odds of refusal tokens.
        ranked_by: the name of the score that decides among the candidates within the limits.
    """

    name: str
    kl_limit: float
    least_steering: float | None
    share_of_layers: float
    falls_back: bool

    reads_tokens: ClassVar[bool] = True
    ranked_by: ClassVar[str] = "refusal score"

    def rank(self, candidate: Candidate) -> float | None:
        """Return the number that candidates are ordered by, lowest first; None if it is unknown."""
        return candidate.refusal_score

    def reports(self, chosen: Candidate) -> bool:
        """Whether all scores that the report on a choice needs are known."""
        return chosen.steering_score is not None

    def check_tokens(self, given: object) -> None:
        """Refuse refusal tokens for a rule that reads none.

        Args:
            given: the tokens; None if none were given.

        Raises:
            UserError: tokens were given, and the rule reads none.
        """
        if given is not None and not self.reads_tokens:
            raise UserError(
                f"refusal_tokens has no effect with rule={self.name}, which reads no tokens; give "
                "only one of the two."
            )

    def layers(self, n_layers: int) -> int:
        """Return the number of layers, from the first, that the rule considers."""
        return int(self.share_of_layers * n_layers)

    def admits(self, candidate: Candidate) -> bool | None:
        """Whether the scores are within the limits; None if that depends on a missing score."""
        tests = [_known(candidate.kl_div_score, lambda score: score <= self.kl_limit)]
        least = self.least_steering
        if least is not None:
            tests.append(_known(candidate.steering_score, lambda score: score >= least))
        if False in tests:
            return False
        return None if None in tests else True

    def limits(self) -> str:
        """Describe the limits in words."""
        steering = (
            ""
            if self.least_steering is None
            else f" and a steering score of at least {self.least_steering:g}"
        )
        return f"a KL divergence of at most {self.kl_limit}{steering}"


class StateRule(Rule):
    """A rule that compares states and not answers, and chooses the highest `cosmic_score`."""

    reads_tokens = False
    ranked_by = "COSMIC score"

    def rank(self, candidate: Candidate) -> float | None:
        """Return the negative COSMIC score, because the highest score ranks first."""
        return None if candidate.cosmic_score is None else -candidate.cosmic_score

    def reports(self, chosen: Candidate) -> bool:
        """Whether the COSMIC score is known; both cosines are computed together."""
        return chosen.cosmic_score is not None


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("2505.17306", 0.2, None, 0.8, falls_back=True),
        Rule("2406.11717", 0.1, 0.0, 0.8, falls_back=False),
        StateRule("cosmic", 0.1, None, 0.8, falls_back=False),
    )
}
"""The rules by the names that `rule=` and `--rule` take."""

DEFAULT = RULES["2505.17306"]


def rule_named(name: str | float) -> Rule:
    """Find a rule by its name.

    Args:
        name: the name. From `rule=2406.11717`, lm-eval makes a number.

    Raises:
        UserError: there is no rule of that name.
    """
    if str(name) not in RULES:
        raise UserError(f"rule={name} is not known; use one of {', '.join(RULES)}.")
    return RULES[str(name)]


def eligible(candidates: Iterable[Candidate], n_layers: int, rule: Rule) -> list[Candidate]:
    """Order the candidates that a rule may choose by their rank, the best first.

    The list leaves out candidates outside the layers of the rule, those without a rank, and those
    with a NaN among their scores. Leaving out NaN is the first step of the published code.
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
    """Choose the best of the candidates that are known to be within the limits of a rule.

    Returns:
        The candidate; None if there is none.
    """
    within = (c for c in eligible(candidates, n_layers, rule) if rule.admits(c))
    return next(within, None)


def check_complete(
    candidates: Iterable[Candidate], n_layers: int, rule: Rule, origin: str | Path
) -> None:
    """Refuse a file that lacks a score on which the choice of the rule depends.

    Raises:
        BadScores: a candidate might come before the choice if all of its scores were known.
    """
    candidates = list(candidates)
    unscored = (c for c in candidates if c.layer < rule.layers(n_layers) and rule.rank(c) is None)
    not_out = (c for c in eligible(candidates, n_layers, rule) if rule.admits(c) is not False)
    first = next(unscored, None) or next(not_out, None)
    if first is None or (rule.rank(first) is not None and rule.admits(first)):
        return
    # Extraction by a rule that compares states skips the tokens, so it cannot supply their scores.
    remedy = f"--rule {rule.name} or --all-scores" if rule.reads_tokens else f"--rule {rule.name}"
    raise BadScores(
        f"{origin}: it is unknown whether rule {rule.name} chooses position {first.position}, "
        f"layer {first.layer}, because one of its scores was not computed; extract the direction "
        f"again with {remedy}."
    )


def nothing_within(candidates: Iterable[Candidate], n_layers: int, rule: Rule) -> str:
    """Describe that no candidate is within the limits of a rule, as a clause with the numbers."""
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
    """Choose the candidate with the lowest KL divergence if none is within the limits.

    Raises:
        NoDirection: the rule does not fall back, every score is NaN, or the model has too few
            layers for the rule to consider any.
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
            "No direction can be chosen: no candidate in the first "
            f"{rule.share_of_layers:.0%} of the layers has a score that is a number; check the "
            "model's outputs and its number of layers."
        )
    return min(scored, key=lambda candidate: _computed(candidate.kl_div_score))


AT_MOST = 2**28
"""The largest size of a file of scores or of metadata, in bytes."""


def read_scores(path: str | Path) -> list[Candidate]:
    """Read the candidates in a `scores.json`, or in the authors' `direction_evaluations.json`.

    Raises:
        BadScores: the file is missing, is not a JSON list of records, or has a record that lacks a
            necessary field; the message names the record.
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
    """Find the rule that a `scores.json` was computed for, in the metadata beside it.

    Scores that this rule did not need for its choice are null.

    Returns:
        The rule; the default rule if the metadata names none.
    """
    try:
        metadata = parse_json(read_bytes(Path(path).parent / "metadata.json", AT_MOST))
        return RULES[metadata["rule"]]
    except (OSError, ValueError, LookupError, TypeError):
        return DEFAULT


OPTIONAL = ("steering_score", *OF_STATES)
"""Scores that the records of a file may lack."""


def _candidate(row: Any, where: str) -> Candidate:
    if not isinstance(row, dict):
        raise BadScores(f"{where}: {row!r} is not a record of scores; correct or remove it.")
    # Not every rule reads these scores, so a file may lack them.
    row = dict.fromkeys(OPTIONAL) | row
    values: dict[str, Any] = {}
    for name in Candidate.__dataclass_fields__:
        if name not in row:
            raise BadScores(f"{where} has no {name}; correct or remove it.")
        value = values[name] = row[name]
        if name == "position":
            kind, fits = "an integer below 0", type(value) is int and value < 0
        elif name == "layer":
            kind, fits = "an integer from 0", type(value) is int and value >= 0
        else:
            kind, fits = "a number, NaN or null", type(value) in (int, float, type(None))
        if not fits:
            raise BadScores(f"{where}: {name} is {value!r}, not {kind}; correct or remove it.")
    return Candidate(**values)


def _integer(digits: str) -> int | float:
    """Read a JSON integer; one too large for an index becomes a float, perhaps infinite."""
    return int(digits) if len(digits) <= 9 else float(digits)


def _computed(score: float | None) -> float:
    """Return the score itself.

    Raises:
        ValueError: the score was not computed.
    """
    if score is None:
        raise ValueError("a score that is needed was not computed")
    return score


def _known(score: float | None, fits: Callable[[float], bool]) -> bool | None:
    return None if score is None else fits(score)


def _is_nan(score: float | None) -> bool:
    return score is not None and math.isnan(score)
