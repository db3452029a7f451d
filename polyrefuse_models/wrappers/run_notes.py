"""Collect what the results of an evaluation have to say besides its rates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polyrefuse_models.wrappers.same_answers import same_answers
from polyrefuse_shared.lm_eval_internals import asked_of_lm_eval
from polyrefuse_shared.log import logger

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance


@dataclass(frozen=True)
class Noted:
    """The notes of one of several processes, to be sent to the process that writes the results.

    Attributes:
        warnings: as in `RunNotes`.
        settings: as in `RunNotes`.
        batching: as in `RunNotes`.
        answered: requests with their answers, to be examined together with those of all processes.
    """

    warnings: tuple[str, ...]
    settings: tuple[dict[str, Any], ...]
    batching: tuple[dict[str, Any], ...]
    answered: tuple[tuple[Instance, str], ...]


class RunNotes:
    """The warnings and the settings of the current evaluation.

    A model may be evaluated several times, and each evaluation has its own notes. What was noted
    before the first evaluation, while the model was loaded, holds for all of them.

    Attributes:
        warnings: whole sentences.
        settings: the different generation settings of the requests.
        batching: the different ways in which answers were batched.
    """

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.settings: list[dict[str, Any]] = []
        self.batching: list[dict[str, Any]] = []
        self._answered: list[tuple[Instance, str]] = []
        self._standing: tuple[str, ...] = ()
        self._run: Any = None

    def warn(self, sentence: str) -> None:
        """Log what a reader of the rates has to know, once, and record it for the results."""
        if sentence not in self.warnings:
            logger.warning(sentence)
            self.warnings.append(sentence)

    def note_settings(self, settings: Iterable[dict[str, Any]]) -> None:
        """Record generation settings of requests, each only once."""
        for each in settings:
            if each not in self.settings:
                self.settings.append(each)

    def note_batching(self, taken: dict[str, Any]) -> None:
        """Record how answers were batched, each way only once."""
        if taken not in self.batching:
            self.batching.append(taken)

    def keep(self, requests: Sequence[Instance], answers: Sequence[str]) -> None:
        """Keep a process's share of the answers until the answers of all are examined together."""
        self._answered += zip(requests, answers, strict=True)

    def taken(self) -> Noted:
        """Return what was noted in this process. Each answer is returned only once."""
        answered, self._answered = self._answered, []
        return Noted(
            warnings=tuple(self.warnings),
            settings=tuple(self.settings),
            batching=tuple(self.batching),
            answered=tuple(answered),
        )

    def take(self, every: Sequence[Noted]) -> None:
        """Note what all processes noted, and what the answers of all of them show."""
        for noted in every:
            self.note_settings(noted.settings)
            for taken in noted.batching:
                self.note_batching(taken)
            for sentence in noted.warnings:
                self.warn(sentence)
        answered = [pair for noted in every for pair in noted.answered]
        if answered:
            for sentence in same_answers(*zip(*answered, strict=True)):
                self.warn(sentence)

    def begin(self) -> bool:
        """Start a new evaluation's notes, if lm-eval has begun one.

        Returns:
            Whether notes of an earlier evaluation were forgotten.
        """
        run = asked_of_lm_eval("eval_tasks")
        if run is None or run is self._run:
            return False
        first = self._run is None
        if first:
            self._standing = tuple(self.warnings)
        else:
            self.warnings[:] = self._standing
            self.settings.clear()
            self.batching.clear()
            self._answered.clear()
        self._run = run
        return not first
