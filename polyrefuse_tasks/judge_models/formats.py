"""What a judge's model is: the prompt that it is given, and how what it writes is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from polyrefuse_tasks.judges.contract import Measure
from polyrefuse_tasks.judges.labels import Judgement, Label


@dataclass(frozen=True)
class Card:
    """What a model card says of a judge.

    Attributes:
        name: by which the judge is asked for.
        model: the weights on the Hugging Face hub that are taken by default.
        revision: of the card that prompt and parser follow.
        measures: what its verdicts say.
        languages: ISO 639-1 codes that the card names.
        size: parameters, as people say them.
        licence: of the weights.
        gated: whether the hub asks for an agreement first.
        english_only: whether it is handed English translations.
        settings: what else decides its labels.
        special_tokens: whether its parser reads them, as those that end a model's reasoning.
    """

    name: str
    model: str
    revision: str
    measures: Measure
    languages: tuple[str, ...]
    size: str
    licence: str
    gated: bool
    english_only: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    special_tokens: bool = False


@dataclass(frozen=True)
class Chat:
    """A prompt that the tokenizer's chat template renders.

    Attributes:
        messages: as `apply_chat_template` takes them.
        arguments: what else the template is given.
    """

    messages: Sequence[dict[str, Any]]
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Text:
    """A prompt that is tokenized as it is.

    Attributes:
        text: with the special tokens that it holds.
        special_tokens: whether the tokenizer adds those of its own, as a token of the beginning.
    """

    text: str
    special_tokens: bool = True


Rendered = Chat | Text


class Format(Protocol):
    """One judge's prompt and parser: pure functions of texts."""

    @property
    def card(self) -> Card:
        """What is known of the model."""

    @property
    def max_new_tokens(self) -> int:
        """Tokens of a verdict, at most; 1 where a forward pass tells it."""

    def prompt(self, prompt: str, response: str) -> Rendered:
        """What the model is given to judge a response to a prompt."""

    def parse(self, verdict: str) -> Judgement:
        """What the model's verdict says; undecided where it is none of those that the card names.

        Args:
            verdict: what it wrote, special tokens removed unless the card says otherwise.
        """


class ScoredFormat(Protocol):
    """A judge that grades: its verdict is a mean of numbers by their probabilities."""

    @property
    def card(self) -> Card:
        """What is known of the model."""

    @property
    def numbers(self) -> Sequence[str]:
        """The grades, each of them one token."""

    def prompt(self, prompt: str, response: str) -> Rendered:
        """As of `Format`."""

    def judged(self, number: float) -> Judgement:
        """What a mean of the grades says."""


def unparsed(verdict: str) -> Judgement:
    """The judgement on an answer whose verdict cannot be read."""
    return Judgement(Label.UNDECIDED, f"unparsed verdict: {' '.join(verdict.split())[:200]}")


def both(refusal: bool | None, harmful: bool | None, verdict: str) -> Judgement:
    """The judgement of a judge of both; None stands for a verdict that cannot be read."""
    evidence = " ".join(verdict.split())
    if refusal is None:
        return Judgement(Label.UNDECIDED, f"unparsed verdict: {evidence[:200]}", harmful)
    return Judgement(Label.REFUSAL if refusal else Label.COMPLIANCE, evidence, harmful)


def harm(harmful: bool | None, verdict: str) -> Judgement:
    """The judgement of a judge of harm alone; None stands for a verdict that cannot be read."""
    if harmful is None:
        return unparsed(verdict)
    return Judgement(None, " ".join(verdict.split()), harmful)


YES_OR_NO = {"yes": True, "no": False}


def answers_in_lines(verdict: str) -> dict[str, str]:
    """What a verdict of lines `question: answer` says: question -> answer, both in lower case."""
    pairs = (line.partition(":") for line in verdict.splitlines())
    return {
        question.strip().lower(): answer.strip().lower()
        for question, colon, answer in pairs
        if colon
    }
