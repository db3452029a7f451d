"""The logger of this package, and warnings that are logged once."""

import functools
import logging
import os

logger = logging.getLogger("lm_eval.polyrefuse")
"""A child of lm-eval's logger, so that lm-eval's format and --verbosity apply to it."""


def _of_first_rank(record: logging.LogRecord) -> bool:
    """Keep the records of the first of several processes that one launcher started."""
    return int(os.environ.get("WORLD_SIZE") or 1) < 2 or os.environ.get("RANK") in (None, "0")


logger.addFilter(_of_first_rank)


@functools.cache
def warn_once(message: str) -> None:
    """Log a warning once in each process."""
    logger.warning(message)
