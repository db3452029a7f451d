"""The format of a judge's model: the prompt that it gets, and how its verdict is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from polyrefuse_tasks.judges.contract import Measure
from polyrefuse_tasks.judges.labels import Judgement, Label


@dataclass(frozen=True)
class Card:
    """The facts of a model card about a judge.

    Attributes:
        name: the name by which users choose the judge.
        model: the default weights on the Hugging Face hub.
        revision: the revision of the card that prompt and parser follow.
        measures: what the judge measures.
        languages: the ISO 639-1 codes that the card names.
        size: the number of parameters, such as 8B.
        licence: the licence of the weights.
        gated: whether the hub asks for an agreement first.
        english_only: whether it gets English translations.
        settings: the other settings that decide its labels.
        special_tokens: whether its parser reads special tokens, such as those that end reasoning.
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
        messages: the messages, in the form of `apply_chat_template`.
        arguments: the other arguments of the template.
    """

    messages: Sequence[dict[str, Any]]
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Text:
    """A prompt that is tokenized as it is.

    Attributes:
        text: the text, with its special tokens.
        special_tokens: whether the tokenizer adds its own ones, such as a beginning-of-text token.
    """

    text: str
    special_tokens: bool = True


Rendered = Chat | Text


class Format(Protocol):
    """The prompt and the parser of one judge, which are pure functions of texts."""

    @property
    def card(self) -> Card:
        """The facts about the model."""

    @property
    def max_new_tokens(self) -> int:
        """The most tokens of a verdict; 1 if one forward pass decides it."""

    def prompt(self, prompt: str, response: str) -> Rendered:
        """Return the prompt by which the model judges a response to a prompt."""

    def parse(self, verdict: str) -> Judgement:
        """Read a verdict; it is undecided if it is none of those that the card names.

        Args:
            verdict: the text of the model, without special tokens unless the card asks for them.
        """


class ScoredFormat(Protocol):
    """A judge that grades: its verdict is the mean of numbers, weighted by their probabilities."""

    @property
    def card(self) -> Card:
        """The facts about the model."""

    @property
    def numbers(self) -> Sequence[str]:
        """The grades, each of which is one token."""

    def prompt(self, prompt: str, response: str) -> Rendered:
        """See `Format.prompt`."""

    def judged(self, number: float) -> Judgement:
        """Return the judgement for a mean of the grades."""


def unparsed(verdict: str) -> Judgement:
    """Return the judgement on an answer whose verdict cannot be read."""
    return Judgement(Label.UNDECIDED, f"unparsed verdict: {' '.join(verdict.split())[:200]}")


def both(refusal: bool | None, harmful: bool | None, verdict: str) -> Judgement:
    """Return the judgement of a judge of both; None is a verdict that cannot be read."""
    evidence = " ".join(verdict.split())
    if refusal is None:
        return Judgement(Label.UNDECIDED, f"unparsed verdict: {evidence[:200]}", harmful)
    return Judgement(Label.REFUSAL if refusal else Label.COMPLIANCE, evidence, harmful)


def harm(harmful: bool | None, verdict: str) -> Judgement:
    """Return the judgement of a harm judge; None is a verdict that cannot be read."""
    if harmful is None:
        return unparsed(verdict)
    return Judgement(None, " ".join(verdict.split()), harmful)


YES_OR_NO = {"yes": True, "no": False}


def answers_in_lines(verdict: str) -> dict[str, str]:
    """Read a verdict of lines `question: answer` into question -> answer, both in lower case."""
    pairs = (line.partition(":") for line in verdict.splitlines())
    return {
        question.strip().lower(): answer.strip().lower()
        for question, colon, answer in pairs
        if colon
    }
