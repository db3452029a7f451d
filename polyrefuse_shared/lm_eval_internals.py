"""Every internal of lm-eval on which this package relies, and which lm-eval may change at any time.

`COUPLINGS` lists them, each with the module that relies on it and a check. A test runs the checks,
and after an upgrade its message says what broke. Above the list stand the names that lm-eval writes
into its files, and `asked_of_lm_eval`, which reads arguments that lm-eval does not pass on.

This module lies below all others. It imports lm-eval only inside its functions, because
`polyrefuse_leaderboard` takes names from here and must never import lm-eval.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import re
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.log import warn_once

# --- what lm-eval was asked for

ENTRIES = ("evaluate", "simple_evaluate")
"""The functions of `lm_eval` that run an evaluation; the second calls the first."""

ASKED = (
    "apply_chat_template",
    "system_instruction",
    "gen_kwargs",
    "evaluation_tracker",
    "lm",
    "eval_tasks",
)
"""What is read from the frames of these functions: arguments, except for the last two names, which
are local variables."""


class LmEvalChanged(RuntimeError):
    """lm-eval no longer has something on which this package relies."""


class UnclearEvaluation(UserError):
    """Several evaluations run at once, and it cannot be known which of them is calling."""


def asked_of_lm_eval(argument: str) -> Any | None:
    """Return an argument of the `lm_eval` evaluation that is running this code.

    Whether the harness applies the chat template, which system instruction it adds and whether it
    will publish the samples are arguments of `lm_eval.evaluate` or `lm_eval.simple_evaluate` that
    are not passed on. A model that must not apply a template twice needs them, and so does a task
    whose samples must stay on this machine. They are read from the frame of the function, the only
    place where they exist. The frame is looked for on this thread and then on all others, because a
    model may be called from a pool of threads while the evaluation waits.

    Args:
        argument: the name of an argument or a variable of one of the two functions.

    Returns:
        The value. It is None where no evaluation is running in this process, or where the argument
        was not given. (`apply_chat_template` is False in an evaluation that applies none.)

    Raises:
        LmEvalChanged: neither function has a variable of that name any more.
        UnclearEvaluation: evaluations on several other threads have different values.
    """
    own = _evaluation(sys._getframe(1))
    others = [] if own is not None else _evaluations_on_other_threads()
    values = [one[argument] for one in ([own] if own is not None else others) if argument in one]
    if not values:
        _require_variable(argument)
        return None
    if any(value is not values[0] and value != values[0] for value in values):
        raise UnclearEvaluation(
            f"Several evaluations run in this process with different {argument}, and this thread "
            "belongs to none of them; run them one after another, or each in its own process."
        )
    return values[0]


def unknown_tasks(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the names that match no task of lm_eval's --tasks, each with the most similar names.

    Args:
        names: names of tasks, groups and tags, or patterns of names.
    """
    from lm_eval.tasks import TaskManager

    manager = TaskManager()
    return {
        name: difflib.get_close_matches(name, manager.all_tasks, n=3)
        for name in names
        if not manager.match_tasks([name])
    }


def _evaluation(frame: FrameType | None) -> dict[str, Any] | None:
    """Return the variables of the innermost evaluation among a frame and its callers."""
    seen: dict[str, dict[str, Any]] = {}
    while frame is not None and "simple_evaluate" not in seen:
        name = frame.f_code.co_name
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if name in ENTRIES and package == "lm_eval":
            if name in seen:  # An evaluation around this one.
                break
            seen[name] = dict(frame.f_locals)
        frame = frame.f_back
    return seen.get("simple_evaluate", {}) | seen.get("evaluate", {}) if seen else None


def _evaluations_on_other_threads() -> list[dict[str, Any]]:
    frames = dict(sys._current_frames())
    frames.pop(threading.get_ident(), None)
    return [one for one in map(_evaluation, frames.values()) if one is not None]


def _require_variable(name: str) -> None:
    """Check that one of lm-eval's functions has a variable of that name.

    Raises:
        LmEvalChanged: neither function has it.
    """
    lm_eval = sys.modules.get("lm_eval")
    if lm_eval is None:  # It was not imported, so nobody has asked it for anything.
        return
    known = (getattr(lm_eval, entry, None) for entry in ENTRIES)
    functions = [inspect.unwrap(one) for one in known if one is not None]
    if any(str(one.__module__).partition(".")[0] != "lm_eval" for one in functions):
        return  # Other code has replaced a function, and a replacement cannot be inspected.
    codes = [code for one in functions if (code := getattr(one, "__code__", None)) is not None]
    if not any(name in code.co_varnames for code in codes):
        raise LmEvalChanged(
            f"lm_eval.evaluate and lm_eval.simple_evaluate have no {name} any more. This package "
            "therefore cannot know how they were called, and a prompt might get its chat template "
            "twice; use lm-eval 0.4.13, or a newer lm-eval-polyrefuse."
        )


def warn_before_publishing() -> None:
    """Warn once in each process where lm-eval's `push_samples_to_hub` would publish completions."""
    tracker = asked_of_lm_eval("evaluation_tracker")
    if getattr(tracker, "push_samples_to_hub", False):
        warn_once(
            "push_samples_to_hub is on: lm-eval will upload every completion, harmful ones "
            "included, to the Hugging Face Hub; remove it from --hf_hub_log_args to keep them here."
        )


# --- what a model is given


class CacheHook(Protocol):
    """What a model needs of lm-eval's response cache; any object with these attributes will do.

    `dbdict` is the cache, a dictionary on disk, or None without `--use_cache`. lm-eval's models
    only call `add_partial` and never read `dbdict`.
    """

    dbdict: Any

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        """Store the answer `res` to the request `req` of the method `attr`."""


# --- what lm-eval writes

DEFAULT_FILTER = "none"
"""The name of a task's default filter, in the keys of its results and in its samples."""

UNJUDGED = "bypass"
"""The only metric of a task that was run with lm-eval's --predict_only."""

RESULTS: Mapping[str, tuple[str, ...]] = {
    "": (
        *("results", "configs", "groups", "group_subtasks", "n-samples", "config", "date"),
        *("lm_eval_version", "transformers_version", "model_source", "model_name"),
        *("system_instruction", "system_instruction_sha", "chat_template"),
    ),
    "results": ("sample_len",),
    "configs": (
        *("dataset_kwargs", "metadata", "generation_kwargs", "repeats", "num_fewshot"),
        "output_type",
    ),
    "n-samples": ("original", "effective"),
    "config": ("model", "model_args", "model_revision", "limit", "gen_kwargs"),
}
"""The keys of a results file that are read: at the top, for each task in three places, and for the
model."""

SAMPLE = ("doc", "filter", "arguments", "filtered_resps")
"""The keys that are read from each line of a samples file."""

ARGUMENTS = ("gen_args_0", "arg_0", "arg_1")
"""The keys of a sample's `arguments`: the first request, its prompt, its generation settings."""

_DATE = re.compile(r"_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.jsonl?$")


def metric_key(metric: str) -> str:
    """Return the key of a metric in a task's results."""
    return f"{metric},{DEFAULT_FILTER}"


def samples_file(task: str, date: str) -> str:
    """Return the name of a task's samples file, beside the results file of that date."""
    return f"samples_{task}_{date}.jsonl"


def is_results_file(name: str) -> bool:
    """Return whether a name is results_<date>.json, or <name>_<date>.json from --output_path."""
    return name.endswith(".json") and (name.startswith("results_") or bool(_DATE.search(name)))


def is_samples_file(name: str) -> bool:
    """Return whether a name is samples_<task>_<date>.jsonl."""
    return name.startswith("samples_") and name.endswith(".jsonl")


def date_of(name: str) -> str:
    """Return the date in the name of a results or samples file, or the name's stem without one."""
    match = _DATE.search(name)
    return match[1] if match else Path(name).stem


# --- the table

Check = Callable[[Any], str | None]
"""A check of one thing in lm-eval: returns what has changed, as the end of a sentence, or None."""


@dataclass(frozen=True)
class Coupling:
    """One thing inside lm-eval on which this package relies.

    Attributes:
        target: its dotted name.
        ours: the module that relies on it, and how, as a sentence without its full stop.
        checks: the checks of what the module relies on.
    """

    target: str
    ours: str
    checks: tuple[Check, ...] = ()

    def check(self) -> None:
        """Run the checks.

        Raises:
            LmEvalChanged: something changed; the message says what, and which module relies on it.
        """
        thing = resolve(self.target)
        faults = ["is gone"] if thing is _GONE else [each(thing) for each in self.checks]
        fault = "; it ".join(filter(None, faults))
        if fault:
            raise LmEvalChanged(f"{self.target} {fault}; {self.ours}.")


_GONE = object()


def resolve(target: str) -> Any:
    """Return the module, class, function or attribute of a dotted name, or `_GONE`."""
    parts = target.split(".")
    thing: Any = importlib.import_module(parts[0])
    for place, name in enumerate(parts[1:], start=2):
        if isinstance(thing, type):  # A class method with all its parameters, a property as it is.
            thing = inspect.getattr_static(thing, name, _GONE)
            thing = getattr(thing, "__func__", thing)
        else:
            thing = getattr(thing, name, _GONE)
        if thing is _GONE:
            try:
                thing = importlib.import_module(".".join(parts[:place]))
            except ImportError:
                return _GONE
    return thing


def parameters(function: Any) -> tuple[str, ...]:
    """Return the names of a function's parameters without `self` and `cls`."""
    return tuple(name for name in inspect.signature(function).parameters if name not in _OWNERS)


_OWNERS = ("self", "cls")


def takes(*names: str) -> Check:
    """Check that a function has parameters of these names, among others."""

    def check(function: Any) -> str | None:
        lost = [name for name in names if name not in parameters(function)]
        now = ", ".join(parameters(function))
        return f"takes ({now}) now, and no {' and no '.join(lost)}" if lost else None

    return check


def takes_exactly(*names: str) -> Check:
    """Check that a function has exactly these parameters in this order."""

    def check(function: Any) -> str | None:
        now = parameters(function)
        return None if now == names else f"takes ({', '.join(now)}) now, not ({', '.join(names)})"

    return check


def has(*names: str) -> Check:
    """Check that a class, module or object has these attributes."""

    def check(thing: Any) -> str | None:
        lost = [name for name in names if not hasattr(thing, name)]
        return f"has no {' and no '.join(lost)} any more" if lost else None

    return check


def sets(*names: str) -> Check:
    """Check that a class or its bases set these attributes of their objects."""

    def check(cls: Any) -> str | None:
        own = [each for base in cls.__mro__ for each in vars(base).values()]
        known = {
            name for each in filter(inspect.isfunction, own) for name in each.__code__.co_names
        }
        lost = [name for name in names if name not in known]
        return f"sets no {' and no '.join(lost)} any more" if lost else None

    return check


def has_keys(*names: str) -> Check:
    """Check that a dataclass or a typed dictionary has these entries."""

    def check(cls: Any) -> str | None:
        is_dataclass = dataclasses.is_dataclass(cls)
        known = [field.name for field in dataclasses.fields(cls)] if is_dataclass else None
        lost = [name for name in names if name not in (known or cls.__annotations__)]
        return f"has no {' and no '.join(lost)} any more" if lost else None

    return check


def has_variables(*names: str) -> Check:
    """Check that a function has arguments or local variables of these names."""

    def check(function: Any) -> str | None:
        code = inspect.unwrap(function).__code__
        lost = [name for name in names if name not in code.co_varnames]
        if code.co_name != function.__name__:
            return f"is called {code.co_name} on the stack"
        return f"has no variable {' and no '.join(lost)} any more" if lost else None

    return check


REGISTRATION = "polyrefuse_models/registration.py"
WRAPPER = "polyrefuse_models/wrappers/hf.py"
MEASURED = "polyrefuse_models/wrappers/measured.py"
VLLM_WRAPPER = "polyrefuse_models/wrappers/vllm.py"
BATCHING = "polyrefuse_models/wrappers/batching.py"
RESPONSE_CACHE = "polyrefuse_models/wrappers/response_cache.py"
READING = "leaderboard/reading/"

_HFLM = "lm_eval.models.huggingface.HFLM"
OVERRIDES = {
    "create_from_arg_obj": ("arg_dict", "additional_config"),
    "get_model_info": (),
    "apply_chat_template": ("chat_history", "add_generation_prompt"),
    "chat_template": ("chat_template",),
    "set_cache_hook": ("cache_hook",),
    "generate_until": ("requests", "disable_tqdm"),
    "loglikelihood_rolling": ("requests", "disable_tqdm"),
    "_loglikelihood_tokens": ("requests", "disable_tqdm", "override_bs"),
    "tok_batch_encode": ("strings", "padding_side", "left_truncate_len", "truncation"),
    "tok_decode": ("tokens", "skip_special_tokens"),
    "all_gather": ("tensor",),
    "gather_object": ("obj", "dst"),
}
"""The methods of HFLM that our wrappers override, and their parameters."""

COUPLINGS: tuple[Coupling, ...] = (
    Coupling(
        "lm_eval.evaluate",
        "asked_of_lm_eval reads these variables from its frame",
        (has_variables("lm", "apply_chat_template", "system_instruction", "eval_tasks"),),
    ),
    Coupling(
        "lm_eval.simple_evaluate",
        "asked_of_lm_eval reads these variables from its frame",
        (
            has_variables(
                *("lm", "apply_chat_template", "system_instruction"),
                *("gen_kwargs", "evaluation_tracker"),
            ),
        ),
    ),
    Coupling(
        "lm_eval.loggers.EvaluationTracker",
        "warn_before_publishing reads whether samples will be published",
        (sets("push_samples_to_hub"),),
    ),
    Coupling(
        "lm_eval.models",
        f"{REGISTRATION} imports it so that lm-eval's own models are registered first",
    ),
    Coupling(
        "lm_eval.api.registry.model_registry",
        f"{REGISTRATION} registers our models there where lm-eval has no load_plugins",
        (has("register", "__contains__"),),
    ),
    Coupling(
        "lm_eval.api.registry.Registry.register",
        f"{REGISTRATION} calls register(name, target='module:Class')",
        (takes("aliases", "target"),),
    ),
    Coupling(
        "lm_eval.tasks.manager.TaskManager.__init__",
        f"{REGISTRATION} wraps it and adds our folder to include_path",
        (takes("include_path", "include_defaults"),),
    ),
    Coupling(
        "lm_eval.tasks.manager.TaskManager",
        f"{REGISTRATION} hides our folder from code that reads which paths the user gave",
        (sets("include_path"),),
    ),
    Coupling(
        "lm_eval.tasks.manager.TaskManager.match_tasks",
        f"{REGISTRATION} wraps it and refuses folder names",
        (takes_exactly("task_list"),),
    ),
    Coupling(
        "lm_eval.utils.make_table",
        f"{REGISTRATION} wraps it and adds a line under tables of groups",
        (takes("result_dict", "column"),),
    ),
    Coupling(
        "lm_eval.utils.simple_parse_args_string",
        "polyrefuse_models/system.py relies on its reading the word none as None",
    ),
    Coupling(
        "lm_eval.utils.setup_logging",
        "polyrefuse_shared/log.py logs below the logger that it sets up",
    ),
    Coupling(
        f"{_HFLM}.__init__",
        f"{WRAPPER} passes arguments on to it and reads them",
        (
            takes(
                *("pretrained", "revision", "device", "truncation", "max_length", "peft", "delta"),
                *("think_end_token", "chat_template_args", "enable_thinking", "batch_size"),
            ),
        ),
    ),
    *(
        Coupling(f"{_HFLM}.{name}", f"{WRAPPER} overrides it", (takes_exactly(*names),))
        for name, names in OVERRIDES.items()
    ),
    Coupling(f"{_HFLM}.tokenizer_name", f"{WRAPPER} overrides it"),
    Coupling(
        _HFLM,
        f"{WRAPPER} reads or sets these attributes",
        (
            has("backend", "batch_size", "max_gen_toks", "max_length", "model", "prefix_token_id"),
            sets(
                *("tokenizer", "cache_hook", "truncation", "pretrained", "revision", "peft"),
                *("delta", "think_end_token", "chat_template_args"),
                *("accelerator", "_rank", "_world_size"),
            ),
        ),
    ),
    Coupling(
        "lm_eval.models.utils.normalize_gen_kwargs",
        f"{WRAPPER} calls it, and {READING}requests.py normalises results in the same way",
        (takes_exactly("gen_kwargs", "default_max_gen_toks"),),
    ),
    Coupling(
        _HFLM,
        f"{BATCHING} reads these attributes",
        (has("device", "rank", "eot_token_id"), sets("mixed_precision_dtype")),
    ),
    Coupling(
        "lm_eval.models.utils.handle_stop_sequences",
        f"{BATCHING} calls it",
        (takes_exactly("until", "eos"),),
    ),
    Coupling(
        "lm_eval.models.utils.postprocess_generated_text",
        f"{BATCHING} calls it",
        (takes_exactly("generation", "stop", "think_end_token"),),
    ),
    Coupling(
        "lm_eval.models.utils_hf.stop_sequences_criteria",
        f"{BATCHING} calls it",
        (
            takes_exactly(
                *("tokenizer", "stop_sequences", "initial_decoder_input_length", "batch_size")
            ),
        ),
    ),
    Coupling(
        "lm_eval.api.model.CacheHook",
        f"{RESPONSE_CACHE} reads its cache and replaces it",
        (sets("dbdict"), has("add_partial")),
    ),
    Coupling(
        "lm_eval.api.model.CacheHook.add_partial",
        f"{RESPONSE_CACHE} replaces it with a method of the same name",
        (takes_exactly("attr", "req", "res"),),
    ),
    Coupling(
        "lm_eval.api.instance.Instance",
        f"{WRAPPER} replaces its arguments, and polyrefuse_models/directions/transfer.py makes one",
        (
            has_keys("request_type", "doc", "arguments", "idx", "task_name", "doc_id"),
            has("args"),
        ),
    ),
    Coupling(
        "lm_eval.api.task.TaskConfig",
        "the YAML in task_configs/ has these keys, and results are read by them",
        (
            has_keys(
                *("custom_dataset", "process_results", "dataset_kwargs", "metadata", "repeats"),
                *("filter_list", "generation_kwargs", "num_fewshot", "metric_list"),
            ),
        ),
    ),
    Coupling(
        "lm_eval.result_schema.EvalResults",
        f"{READING} and polyrefuse_tasks/group_errors.py read these keys",
        (has_keys(*RESULTS[""]),),
    ),
    Coupling(
        "lm_eval.loggers.EvaluationTracker.save_results_aggregated",
        "polyrefuse_tasks/saved_results/folders.py finds its files by their names",
    ),
    Coupling(
        "lm_eval.loggers.EvaluationTracker.save_results_samples",
        "polyrefuse_tasks/saved_results/folders.py finds its files by their names",
    ),
    *(
        Coupling(f"lm_eval.models.hf_steered.{name}", "benchmarks/hooks.py compares with it")
        for name in ("SteeredModel", "steer")
    ),
    Coupling(
        "lm_eval.api.model.TemplateLM",
        f"{MEASURED} is a subclass, and a wrapper's other base class implements the rest",
        (has("tokenizer_name", "chat_template", "create_from_arg_obj", "set_cache_hook"),),
    ),
    Coupling(
        "lm_eval.models.utils.configure_pad_token",
        "polyrefuse_models/wrappers/known_model.py sets a tokenizer's padding with it, like VLLM",
        (takes("tokenizer", "model_config"),),
    ),
    Coupling(
        "lm_eval.api.model.LM",
        "polyrefuse_models/wrappers/workload.py has a subclass that answers nothing",
        (has("generate_until", "loglikelihood", "loglikelihood_rolling"),),
    ),
    Coupling(
        "lm_eval.tasks.TaskManager",
        "polyrefuse_models/wrappers/workload.py makes it look only in our folder",
        (has("match_tasks"),),
    ),
    Coupling(
        "lm_eval.api.registry.get_model",
        "polyrefuse_models/wrappers/rates.py loads a model with it as lm-eval does",
    ),
    Coupling(
        "lm_eval._cli.harness.HarnessCLI.parse_args",
        "polyrefuse_models/wrappers/workload.py reads a job's command with it, from sys.argv",
    ),
    Coupling(
        "lm_eval.config.evaluate_config.EvaluatorConfig",
        "polyrefuse_models/wrappers/workload.py reads a job's settings and finds its tasks",
        (
            has("from_cli", "process_tasks"),
            has_keys("tasks", "model_args", "limit", "num_fewshot", "gen_kwargs", "seed"),
        ),
    ),
    Coupling(
        "lm_eval.simple_evaluate",
        "polyrefuse_models/wrappers/workload.py calls it with a model that records its requests",
        (takes("model", "tasks", "task_manager", "bootstrap_iters", "log_samples"),),
    ),
    Coupling(
        "lm_eval.caching.cache.PATH",
        "tests/polyrefuse_models/test_generation.py moves the cache of requests to its own folder",
    ),
)
"""What this package relies on by name. Other tests cover the behaviour of lm-eval: the names and
keys of its files, that it logs a row as scoring left it, that models call only `add_partial` of a
cache hook, and that the level of its logger applies to ours."""

_VLLM = "lm_eval.models.vllm_causallms.VLLM"
VLLM_OVERRIDES = {
    "generate_until": ("requests", "disable_tqdm"),
    "loglikelihood_rolling": ("requests", "disable_tqdm"),
    "_loglikelihood_tokens": ("requests", "disable_tqdm"),
    "_model_generate": ("requests", "generate", "sampling_params"),
    "apply_chat_template": ("chat_history", "add_generation_prompt"),
}
"""The methods of VLLM that our wrappers override, and their parameters."""

COUPLINGS_WITH_VLLM: tuple[Coupling, ...] = (
    Coupling(
        f"{_VLLM}.__init__",
        f"{VLLM_WRAPPER} passes arguments on to it",
        (
            takes(
                *("pretrained", "dtype", "revision", "trust_remote_code", "tokenizer"),
                *("tokenizer_revision", "add_bos_token", "tensor_parallel_size", "quantization"),
                *("data_parallel_size", "lora_local_path", "enable_thinking", "max_model_len"),
                *("chat_template_args", "think_end_token", "max_length"),
            ),
        ),
    ),
    *(
        Coupling(f"{_VLLM}.{name}", f"{VLLM_WRAPPER} overrides it", (takes_exactly(*names),))
        for name, names in VLLM_OVERRIDES.items()
    ),
    Coupling(
        _VLLM,
        f"{VLLM_WRAPPER} reads or sets these attributes",
        (
            has("max_length", "max_gen_toks", "tok_encode", "prefix_token_id"),
            sets(
                *("model", "model_args", "tokenizer", "think_end_token", "lora_request"),
                *("data_parallel_size", "batch_size"),
            ),
        ),
    ),
)
"""The same for lm-eval's VLLM, which can be inspected where vLLM is installed."""
