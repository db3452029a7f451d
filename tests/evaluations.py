"""Evaluations by lm-eval in this process, which knows our tasks and none of its own.

Importing lm-eval and scanning its thousands of task files takes longer than most evaluations of the
tests. A process of its own and the whole scan belong to the tests of just these.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import lm_eval
import lm_eval.tasks
import pytest
from lm_eval._cli import HarnessCLI
from lm_eval.tasks import TaskManager

from polyrefuse_tasks.configs import FOLDER


def our_tasks() -> TaskManager:
    """A manager of the tasks in `task_configs/`, without lm-eval's own."""
    return TaskManager(include_path=str(FOLDER), include_defaults=False)


def evaluate(model: Any, tasks: list[Any], **asked: Any) -> dict[str, Any]:
    """`lm_eval.simple_evaluate` of our tasks, or of tasks that are given as dictionaries."""
    return lm_eval.simple_evaluate(
        model=model,
        tasks=tasks,
        **{"task_manager": our_tasks(), "bootstrap_iters": 0} | asked,
    )


def lm_eval_run(*arguments: str) -> None:
    """The command `lm_eval run ARGUMENTS`, which raises what would end its process."""
    ours_alone = partial(TaskManager, include_defaults=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lm_eval.tasks, "TaskManager", ours_alone)
        patch.setattr(sys, "argv", ["lm_eval", "run", *arguments, "--include_path", str(FOLDER)])
        patch.setenv("TOKENIZERS_PARALLELISM", "false")  # which the command sets, and leaves so
        command = HarnessCLI()
        command.execute(command.parse_args())
