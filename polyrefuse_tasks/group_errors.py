"""A note on what lm-eval's standard errors of groups leave out: languages share their prompts."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

NOTE = (
    "Groups of lm-eval-polyrefuse: the standard errors above treat languages as independent, but "
    "languages share their prompts, so these errors are too small (by a factor of 1.2 to 2.6 in "
    "simulations). `polyrefuse leaderboard build RESULTS --output FOLDER` gives the right "
    "intervals."
)
"""The line that is printed under lm-eval's table of groups.

lm-eval 0.4.13 leaves no room for a better number: `Group.aggregate` gets the mean and the standard
error of each task, not its samples, and never calls the `aggregation` of a group.
"""


def note_on_groups(results: Mapping[str, Any]) -> str | None:
    """Return `NOTE` if a group averages one of our datasets over several languages.

    Args:
        results: the value that `lm_eval.simple_evaluate` returned.

    Returns:
        The note; None if no group does, because tasks with different prompts are independent.
    """
    members = results.get("group_subtasks") or {}
    configs = results.get("configs") or {}
    for group in results.get("groups") or {}:
        sets = Counter(filter(None, (_dataset(configs, task) for task in _tasks(members, group))))
        if any(count > 1 for count in sets.values()):
            return NOTE
    return None


def _tasks(members: Mapping[str, Any], name: str) -> Iterator[str]:
    """Yield the tasks of a group and of the groups in it; for a task, the task itself."""
    if name not in members:
        yield name
    for member in members.get(name) or ():
        yield from _tasks(members, member)


def _dataset(configs: Mapping[str, Any], task: str) -> str | None:
    """Return the name of our dataset that a task asks; None for a task of another package."""
    config = configs.get(task)
    arguments = config.get("dataset_kwargs") if isinstance(config, dict) else None
    if not isinstance(arguments, dict) or not {"family", "lang"} <= arguments.keys():
        return None
    return str(arguments["family"])
