"""Where this package logs, and warnings that are given once."""

import functools
import logging

logger = logging.getLogger("lm_eval.polyrefuse")
"""Below lm-eval's own logger, so that its format and --verbosity hold for ours."""


@functools.cache
def warn_once(message: str) -> None:
    """Log a warning, once a process."""
    logger.warning(message)
