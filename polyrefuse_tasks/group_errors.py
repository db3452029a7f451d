"""Says what lm-eval's standard errors of groups leave out: languages share their prompts."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

NOTE = (
    "Groups of lm-eval-polyrefuse: the standard errors above take languages as independent, but "
    "languages share their prompts, so that these errors are too small (1.2 to 2.6 times in "
    "simulations). `polyrefuse leaderboard build RESULTS --output FOLDER` has the right intervals."
)
"""The line under lm-eval's table of groups.

lm-eval 0.4.13 has no place for a better number: `Group.aggregate` is given each task's mean and
standard error, not its samples, and never calls a group's own `aggregation`.
"""


def note_on_groups(results: Mapping[str, Any]) -> str | None:
    """`NOTE`, where a group averages one of our data sets over several languages.

    Args:
        results: what `lm_eval.simple_evaluate` returned.

    Returns:
        None where no group does: tasks of different prompts are independent.
    """
    members = results.get("group_subtasks") or {}
    configs = results.get("configs") or {}
    for group in results.get("groups") or {}:
        sets = Counter(filter(None, (_dataset(configs, task) for task in _tasks(members, group))))
        if any(count > 1 for count in sets.values()):
            return NOTE
    return None


def _tasks(members: Mapping[str, Any], name: str) -> Iterator[str]:
    """The tasks of a group, and of the groups in it; a task itself."""
    if name not in members:
        yield name
    for member in members.get(name) or ():
        yield from _tasks(members, member)


def _dataset(configs: Mapping[str, Any], task: str) -> str | None:
    """Our data set that a task asks; None where it is another package's."""
    config = configs.get(task)
    arguments = config.get("dataset_kwargs") if isinstance(config, dict) else None
    if not isinstance(arguments, dict) or not {"family", "lang"} <= arguments.keys():
        return None
    return str(arguments["family"])
