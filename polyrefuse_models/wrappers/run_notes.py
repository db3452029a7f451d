"""What the results of an evaluation must say beside its rates."""

from __future__ import annotations

from typing import Any

from polyrefuse_shared.lm_eval_internals import asked_of_lm_eval
from polyrefuse_shared.log import logger


class RunNotes:
    """The warnings and the generation settings of one evaluation after the other.

    A model may be evaluated several times, and each evaluation's results are its own: what was
    noted before the first one, while the model was loaded, holds for all of them.

    Attributes:
        warnings: whole sentences.
        settings: of the requests, each once.
        batching: how answers were batched, each way once.
    """

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.settings: list[dict[str, Any]] = []
        self.batching: list[dict[str, Any]] = []
        self._standing: tuple[str, ...] = ()
        self._run: Any = None

    def warn(self, sentence: str) -> None:
        """Log what a reader of the rates must know, once, and keep it for the results."""
        if sentence not in self.warnings:
            logger.warning(sentence)
            self.warnings.append(sentence)

    def begin(self) -> bool:
        """Forget what an earlier evaluation noted, and say whether there was one."""
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
        self._run = run
        return not first
