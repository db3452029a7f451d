"""Makes `lm_eval` know our models and tasks without being told.

lm-eval 0.4.13 discovers no plugins. A `.pth` line or a `.start` file beside the packages (see
setup.py) calls `install` in every interpreter of the environment; it puts one finder in front of
`sys.meta_path` and nothing else. When the program imports `lm_eval.api.registry` and
`lm_eval.tasks.manager`, the finder lets the usual import happen and then registers our models by
name ("module:Class", so nothing of ours is imported yet) and adds our YAML folder to what
`TaskManager` scans. Of `lm_eval.utils` it has `make_table` say a line under a table of our groups.

The release after 0.4.13 reads the entry-point group `lm_eval.models` itself, and its pull request
4015 reads `lm_eval.tasks`: there models, or tasks, are left to it. `POLYREFUSE_AUTOLOAD=0` turns
the hook off.

This module is imported by interpreters that have nothing to do with us, so it imports only what
every interpreter has loaded already.
"""

import os
import sys

MODELS: dict[str, str] = {
    "baseline-hf": "polyrefuse_models.wrappers.hf:BaselineHF",
    "ablated-hf": "polyrefuse_models.wrappers.hf:AblatedHF",
    "refusal-added-hf": "polyrefuse_models.wrappers.hf:RefusalAddedHF",
    "mcd-hf": "polyrefuse_models.wrappers.hf:McdHF",
    "baseline-vllm": "polyrefuse_models.wrappers.vllm:BaselineVLLM",
    "ablated-vllm": "polyrefuse_models.wrappers.vllm:AblatedVLLM",
    "refusal-added-vllm": "polyrefuse_models.wrappers.vllm:RefusalAddedVLLM",
    "mcd-vllm": "polyrefuse_models.wrappers.vllm:McdVLLM",
}
"""lm-eval's name of each model and where its class is, as `lm_eval.models` in setup.cfg."""

FOLDERS = frozenset({"polyrefuse_models", "polyrefuse_tasks"})
"""What a shell in the repository's root makes of an unquoted `polyrefuse_*`."""


def install() -> None:
    """Put the import hook in place, once, unless `POLYREFUSE_AUTOLOAD=0`."""
    if os.environ.get("POLYREFUSE_AUTOLOAD") == "0":
        return
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def register_models(registry) -> None:
    """Add our models to the `lm_eval.api.registry` module, unless it discovers them itself."""
    if hasattr(registry, "load_plugins"):
        return
    # lm-eval fills an empty registry with its own models on first use; ours must not be what
    # makes it look full.
    import lm_eval.models  # noqa: F401

    for name, target in MODELS.items():
        if name not in registry.model_registry:
            registry.model_registry.register(name, target=target)


def register_tasks(manager) -> None:
    """Make the `TaskManager` of `lm_eval.tasks.manager` scan our YAML folder by default.

    A release that reads the entry-point group `lm_eval.tasks` scans it already; there only the
    folder of translations of one's own is added, which is in no package.
    """
    from functools import wraps
    from inspect import signature

    folders = translated_folders if hasattr(manager, "TASKS_ENTRY_POINT_GROUP") else task_folders

    original_init, original_match = manager.TaskManager.__init__, manager.TaskManager.match_tasks
    expected = signature(original_init)
    if not {"include_path", "include_defaults"} <= expected.parameters.keys():
        raise RuntimeError("TaskManager takes no include_path and include_defaults any more")

    @wraps(original_init)
    def init(self, *args, **kwargs) -> None:
        call = expected.bind(self, *args, **kwargs)
        call.apply_defaults()
        asked = call.arguments["include_path"]
        if call.arguments["include_defaults"]:
            paths = asked if isinstance(asked, (list, tuple)) else [asked]
            # First, so that a user's own --include_path still wins.
            call.arguments["include_path"] = [*folders(), *(path for path in paths if path)]
        original_init(*call.args, **call.kwargs)
        self.include_path = asked

    @wraps(original_match)
    def match_tasks(self, task_list):
        refuse_folder_names(task_list)
        return without_own(original_match(self, task_list), task_list)

    manager.TaskManager.__init__ = init
    manager.TaskManager.match_tasks = match_tasks


def register_note(utils) -> None:
    """Make `lm_eval.utils.make_table` say under a table of our groups what its errors leave out."""
    from functools import wraps

    original = utils.make_table

    @wraps(original)
    def make_table(result_dict, column="results", *args, **kwargs):
        from polyrefuse_tasks.group_errors import note_on_groups

        table = original(result_dict, column, *args, **kwargs)
        note = note_on_groups(result_dict) if column == "groups" else None
        return f"{table}\n{note}\n" if note else table

    utils.make_table = make_table


def task_folders() -> list[str]:
    """Our task YAML, and that of translations of one's own where there are any."""
    from polyrefuse_shared.task_folder import task_folder

    return [str(task_folder()), *translated_folders()]


def translated_folders() -> list[str]:
    """The task YAML of translations of one's own: one folder, or none."""
    from polyrefuse_shared.errors import first_line
    from polyrefuse_shared.log import warn_once

    try:
        from polyrefuse_tasks.translated_tasks import write_translated

        translated = write_translated()
    except Exception as error:
        # A wrong setting concerns other tasks too: a sentence is enough.
        warn_once(f"Translations of one's own are no tasks in this run: {first_line(error)}")
        return []
    return [str(translated)] if translated else []


def without_own(names: list[str], patterns: list[str]) -> list[str]:
    """What patterns of --tasks matched, but data sets of one's own that were not asked for."""
    if not any(name.startswith("polyrefuse") for name in names):
        return names
    from polyrefuse_shared.errors import UserError
    from polyrefuse_tasks import configs

    try:
        return configs.without_own(names, patterns)
    except UserError:
        # Of a data folder that cannot be used no task was found either, which was warned of.
        return names


def refuse_folder_names(names: list[str]) -> None:
    """Say what happened where the shell expanded `polyrefuse_*` to our folders.

    Raises:
        UserError: one of `names` is a folder of this package and no task.
    """
    from polyrefuse_shared.errors import UserError

    for name in names:
        if name in FOLDERS:
            raise UserError(
                f"{name} is a folder here, not a task: your shell expanded an unquoted "
                "polyrefuse_* in this directory; put it in quotes: --tasks 'polyrefuse_*'."
            )


_ACTIONS = {
    "lm_eval.api.registry": register_models,
    "lm_eval.tasks.manager": register_tasks,
    "lm_eval.utils": register_note,
}


class _Finder:
    """Finds the two modules as the other finders do, and has an action run after each."""

    def find_spec(self, name, path=None, target=None):
        action = _ACTIONS.get(name)
        if action is None:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, action)
                return spec
        return None


class _Loader:
    """The module's own loader, which runs `action` once the module is executed."""

    def __init__(self, loader, action) -> None:
        self._loader, self._action = loader, action

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module) -> None:
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        try:
            self._action(module)
        except Exception:
            _warn("could not register with lm_eval")


def _warn(what: str) -> None:
    """Log the exception being handled: the hook can never raise into the user's program."""
    import logging

    logging.getLogger("polyrefuse").warning("lm-eval-polyrefuse %s", what, exc_info=True)
