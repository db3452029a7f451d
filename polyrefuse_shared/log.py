"""Where this package logs, and warnings that are given once."""

import functools
import logging
import os

logger = logging.getLogger("lm_eval.polyrefuse")
"""Below lm-eval's own logger, so that its format and --verbosity hold for ours."""


def _of_first_rank(record: logging.LogRecord) -> bool:
    """Whether a record is logged: of several processes that one launcher started, the first's."""
    return int(os.environ.get("WORLD_SIZE") or 1) < 2 or os.environ.get("RANK") in (None, "0")


logger.addFilter(_of_first_rank)


@functools.cache
def warn_once(message: str) -> None:
    """Log a warning, once a process."""
    logger.warning(message)
