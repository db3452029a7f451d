"""Register our models and tasks with `lm_eval` when it is imported.

lm-eval 0.4.13 does not discover plug-ins. A `.pth` line or a `.start` file in site-packages (see
setup.py) therefore calls `install` in every interpreter of the environment. All that `install` does
is to put one finder in front of `sys.meta_path`. When the program imports `lm_eval.api.registry` or
`lm_eval.tasks.manager`, the finder lets the usual import happen. It then registers our models by
name ("module:Class", so that none of our modules is imported yet), or adds our YAML folder to what
`TaskManager` scans. After an import of `lm_eval.utils`, it changes `make_table`, which then prints
a line under a table of our groups.

The release after 0.4.13 reads the entry-point group `lm_eval.models` itself, and lm-eval's pull
request 4015 reads `lm_eval.tasks`. In such a release the hook leaves models or tasks to lm-eval.
`POLYREFUSE_AUTOLOAD=0` turns the hook off.

Interpreters that have nothing to do with this package import this module too, so it imports only
what every interpreter has loaded already.
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
"""Name of a model in lm-eval -> its class, as in the entry points `lm_eval.models` in setup.cfg."""

FOLDERS = frozenset({"polyrefuse_models", "polyrefuse_tasks"})
"""The names to which a shell in the repository's root expands an unquoted `polyrefuse_*`."""


def model_class(name: str) -> type:
    """Import the class of one of `MODELS`."""
    from importlib import import_module

    module, _, called = MODELS[name].partition(":")
    found: type = getattr(import_module(module), called)
    return found


def install() -> None:
    """Put the import hook in place, unless it is there already or `POLYREFUSE_AUTOLOAD=0`."""
    if os.environ.get("POLYREFUSE_AUTOLOAD") == "0":
        return
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def register_models(registry) -> None:
    """Add our models to the `lm_eval.api.registry` module, unless lm-eval discovers them itself."""
    if hasattr(registry, "load_plugins"):
        return
    # lm-eval fills an empty registry with its own models on first use, so ours must not be the
    # first ones in it.
    import lm_eval.models  # noqa: F401

    for name, target in MODELS.items():
        if name not in registry.model_registry:
            registry.model_registry.register(name, target=target)


def register_tasks(manager) -> None:
    """Make the `TaskManager` of `lm_eval.tasks.manager` scan our YAML folder by default.

    A release that reads the entry-point group `lm_eval.tasks` scans this folder already. There,
    only the folder of the user's own translations is added, which is not part of a package.
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
            # Our folders come first, because tasks of later folders, such as the user's, win.
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
    """Make `lm_eval.utils.make_table` add a note on what our groups' standard errors leave out."""
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
    """List the folders of our task YAML and of the user's own translations, if there are any."""
    from polyrefuse_shared.task_folder import task_folder

    return [str(task_folder()), *translated_folders()]


def translated_folders() -> list[str]:
    """Return a list with the folder of the user's own translations' task YAML; [] without any."""
    from polyrefuse_shared.errors import first_line
    from polyrefuse_shared.log import warn_once

    try:
        from polyrefuse_tasks.translated_tasks import write_translated

        translated = write_translated()
    except Exception as error:
        # The other tasks work without them, so a warning is enough.
        warn_once(f"Your own translations are not tasks in this run: {first_line(error)}")
        return []
    return [str(translated)] if translated else []


def without_own(names: list[str], patterns: list[str]) -> list[str]:
    """Leave out a user's own datasets that --tasks matched by a pattern and did not name."""
    if not any(name.startswith("polyrefuse") for name in names):
        return names
    from polyrefuse_shared.errors import UserError
    from polyrefuse_tasks import configs

    try:
        return configs.without_own(names, patterns)
    except UserError:
        # The data folder cannot be used, so it has no tasks; a warning has said so already.
        return names


def refuse_folder_names(names: list[str]) -> None:
    """Explain the mistake if the shell expanded `polyrefuse_*` to the names of our folders.

    Raises:
        UserError: one of `names` is a folder of this package and not a task.
    """
    from polyrefuse_shared.errors import UserError

    for name in names:
        if name in FOLDERS:
            raise UserError(
                f"{name} is a folder and not a task: your shell expanded an unquoted "
                "polyrefuse_* in this directory; put it in quotes: --tasks 'polyrefuse_*'."
            )


_ACTIONS = {
    "lm_eval.api.registry": register_models,
    "lm_eval.tasks.manager": register_tasks,
    "lm_eval.utils": register_note,
}


class _Finder:
    """Finds modules of lm-eval by the other finders, and has an action run after each import."""

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
    """Wraps a module's own loader, and runs `action` after the module has been executed."""

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
    """Log the exception being handled, because the hook must never raise in the user's program."""
    import logging

    logging.getLogger("polyrefuse").warning("lm-eval-polyrefuse %s", what, exc_info=True)
