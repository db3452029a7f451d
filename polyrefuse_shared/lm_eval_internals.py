"""What lm-eval was asked for and passes on to neither a model nor a task.

Whether the harness applies the chat template, which system instruction it adds and whether it
will publish the samples are arguments of `lm_eval.evaluator` that end there. A model that must not
apply a template twice, and a task whose samples must stay at home, need them, so they are read off
the calling frame: the only place where they are.
"""

import functools
import logging
import sys
from types import FrameType
from typing import Any

# Below lm-eval's own logger, so that its format and --verbosity hold for ours.
logger = logging.getLogger("lm_eval.polyrefuse")


def asked_of_lm_eval(argument: str) -> Any | None:
    """The value of an argument of the `lm_eval` evaluation that is running this code.

    Args:
        argument: name of a parameter of `lm_eval.simple_evaluate` or `lm_eval.evaluate`.

    Returns:
        Its value; None outside an evaluation, or where lm-eval has no such argument.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == "lm_eval.evaluator" and argument in frame.f_locals:
            return frame.f_locals[argument]
        frame = frame.f_back
    return None


def warn_before_publishing() -> None:
    """Warn, once a process, where lm-eval's `push_samples_to_hub` would publish completions."""
    tracker = asked_of_lm_eval("evaluation_tracker")
    if getattr(tracker, "push_samples_to_hub", False):
        warn_once(
            "push_samples_to_hub is on: lm-eval will upload every completion, harmful ones "
            "included, to the Hugging Face Hub; remove it from --hf_hub_log_args to keep them here."
        )


@functools.cache
def warn_once(message: str) -> None:
    """Log a warning, once a process."""
    logger.warning(message)
