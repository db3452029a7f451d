"""What a study asks of other modules, tried before anything is run: each by the code that takes it.

A condition's arguments are read as lm-eval's model reads them before it loads anything, a judge is
chosen as `polyrefuse judge run` chooses it, and tasks are looked up where lm_eval looks.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import json
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polyrefuse_studies.arguments import arguments_of, resolve
from polyrefuse_studies.files import Files
from polyrefuse_studies.options import typed, values
from polyrefuse_studies.plan import RESERVED
from polyrefuse_studies.schema import (
    BadStudy,
    Condition,
    Model,
    Study,
    Training,
    at,
    quoted,
    translating,
    unknown,
)

from polyrefuse_shared.errors import UserError
from polyrefuse_tasks import data


def check(study: Study, files: Files) -> None:
    """Refuse what a job would refuse later.

    Args:
        study: which.
        files: that it names.

    Raises:
        BadStudy: naming the key, and what was meant.
    """
    _check_directions(study)
    _check_training(study.mcd, "mcd")
    for name, condition in study.conditions.items():
        if condition.training is not None:
            _check_training(condition.training, f"conditions.{name}.training")
            if condition.prompt != "trained":
                raise BadStudy(
                    f"conditions.{name} has a training and not prompt: trained; leave one out or "
                    "add the other."
                )
    for judge in study.judges:
        _check_judge(judge.judge, judge.options)
    _check_generation(study)
    with _stand_ins() as words:
        for name in study.models:
            for of_condition in study.conditions:
                _check_arguments(study, name, of_condition, files, words)
    if study.capability is not None:
        _check_tasks(study.capability.tasks, files)


def _one_of(name: Any, known: Collection[str], where: str) -> None:
    if name is not None and name not in known:
        raise BadStudy(f"{where}: {unknown(f'no {quoted(name)}', str(name), known)}.")


def _check_directions(study: Study) -> None:
    from polyrefuse_models.directions.prompts import DATASETS
    from polyrefuse_models.directions.select import RULES

    _one_of(study.directions.dataset, DATASETS, "directions.dataset")
    _one_of(study.directions.rule, RULES, "directions.rule")


def _check_training(training: Training, where: str) -> None:
    from polyrefuse_models.mcd.anchors import DATASETS
    from polyrefuse_models.mcd.loss import Terms
    from polyrefuse_models.mcd.safety_prompts import SAFETY_PROMPTS
    from polyrefuse_models.mcd.settings import PRESETS

    options = training.options
    typed(options, "mcd", "train", f"{where}.options", RESERVED["mcd"])
    _one_of(options.get("preset"), PRESETS, f"{where}.options.preset")
    _one_of(options.get("init"), SAFETY_PROMPTS, f"{where}.options.init")
    _one_of(options.get("dataset"), DATASETS, f"{where}.options.dataset")
    for term in str(options.get("without", "")).split(","):
        _one_of(term.strip() or None, Terms._fields, f"{where}.options.without")
    kinds, _ = DATASETS[str(options.get("dataset", "polyrefuse"))]
    for language in training.languages:
        for kind in kinds:
            if language not in (known := data.languages(kind)):
                said = unknown(f"no language {quoted(language)} of {kind}", language, known)
                raise BadStudy(f"{where}.languages: {said}; {translating(kind, language)}.")


def _check_judge(judge: str, options: Mapping[str, Any]) -> None:
    from polyrefuse_tasks.judge_models.choosing import choose

    where = f"judges.{judge}.options"
    typed(options, "judge", "run", where, RESERVED["judge"])
    given = values(options, "judge", "run")
    taken = inspect.signature(choose).parameters
    # An option of the judge's weights has a name of its own on the command line.
    called = {name.removeprefix("judge_"): value for name, value in given.items()}
    with at("judges"):
        chosen = choose(judge, **{name: called[name] for name in taken if name in called})
    if "translate" in options and not chosen.english_only:
        raise BadStudy(f"{where}.translate: the judge reads every language; leave it out.")


def _check_generation(study: Study) -> None:
    """Refuse a setting that is nearly one of transformers'; vLLM and others have more."""
    from transformers import GenerationConfig

    known = {*GenerationConfig().to_dict(), "until", "max_gen_toks", "min_p"}
    for name in study.generation:
        near = [] if name in known else difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        if near:
            raise BadStudy(
                f"generation: there is no setting {quoted(name)}: did you mean {near[0]!r}?"
            )


def _check_tasks(tasks: tuple[str, ...], files: Files) -> None:
    from lm_eval.tasks import TaskManager

    manager = TaskManager()
    for task in tasks:
        if task.endswith((".yaml", ".yml")):
            files.require(task, "capability.tasks", "file")
        elif not manager.match_tasks([task]):
            near = difflib.get_close_matches(task, manager.all_tasks, n=3)
            meant = f": did you mean {' or '.join(map(repr, near))}?" if near else "."
            raise BadStudy(
                f"capability.tasks: lm_eval has no task {quoted(task)}{meant} "
                "(`lm_eval ls tasks` lists them)"
            )


# --- the arguments of lm-eval's models


@contextmanager
def _stand_ins() -> Iterator[dict[tuple[str, str], str]]:
    """A direction and a soft prompt in the place of those that jobs will write."""
    import torch
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        direction = folder / "direction.safetensors"
        save_file({"direction": torch.ones(1)}, direction)
        save_file({"prompt_embeddings": torch.ones(1, 1)}, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "PROMPT_TUNING"}))
        yield {
            ("direction", "source"): str(direction),
            ("direction", "auto"): str(direction),
            ("prompt", "trained"): str(folder),
        }


def _check_arguments(
    study: Study,
    name: str,
    of_condition: str,
    files: Files,
    words: Mapping[tuple[str, str], str],
) -> None:
    from polyrefuse_models.registration import MODELS
    from polyrefuse_models.vllm_engine.arguments import refuse_unusable
    from polyrefuse_models.wrappers.batching import parse_batching
    from polyrefuse_models.wrappers.direction_arguments import parse_seed

    model, condition, engine = study.models[name], study.conditions[of_condition], study.engine
    given = arguments_of(model, condition)
    resolved, _ = resolve(given, files, f"conditions.{of_condition}", words)
    arguments = _Looked(resolved)
    pretrained = arguments.pop("pretrained")
    # What either engine's model takes for itself is the same.
    wrapper = _named(MODELS[f"{condition.model}-hf"])
    own = {
        one: arguments.pop(one, default)
        for one, default in (("chat", "on"), ("system", "template"), ("system_file", None))
    }
    with at(f"models.{name} under the condition {of_condition!r}"):
        parse_seed(arguments.get("direction_seed", 0))
        wrapper.__new__(wrapper).read_asked(pretrained, arguments, **own)
        if engine == "vllm":
            refuse_unusable(arguments)
        else:
            parse_batching(str(arguments.get("batching", "auto")))
    known = _known_to(engine)
    for argument in arguments:
        of_model = argument in model.arguments
        where = f"models.{name}" if of_model else f"conditions.{of_condition}"
        if argument == "batch_size":  # lm_eval would have it twice.
            raise BadStudy(f"{where} has batch_size, which is a key of the whole study.")
        if known is not None and argument not in known and not _in_config(argument, pretrained):
            keys = Model.model_fields if of_model else Condition.model_fields
            taken = (known | set(keys) | arguments.looked_for) - {argument}
            near = difflib.get_close_matches(argument, sorted(taken), n=1, cutoff=0.7)
            meant = f": did you mean {near[0]!r}?" if near else "."
            raise BadStudy(
                f"{where}: {condition.model}-{engine} has no argument {quoted(argument)}{meant}"
            )


class _Looked(dict[str, Any]):
    """Arguments that know which were looked for among them: there is no other list of those."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__(arguments)
        self.looked_for: set[str] = set()

    def __contains__(self, name: object) -> bool:
        self.looked_for.add(str(name))
        return super().__contains__(name)

    def pop(self, name: str, *default: Any) -> Any:
        self.looked_for.add(name)
        return super().pop(name, *default)


def _named(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


@functools.cache
def _known_to(engine: str) -> frozenset[str] | None:
    """The arguments that a model of an engine passes on; None where they cannot be known here."""
    if engine == "vllm":
        return _known_to_vllm()
    from lm_eval.models.huggingface import HFLM
    from transformers import PreTrainedModel

    from polyrefuse_models.wrappers.hf import BaselineHF

    return frozenset(
        {*_parameters(BaselineHF), *_parameters(HFLM), *_taken_by(PreTrainedModel.from_pretrained)}
    )


def _known_to_vllm() -> frozenset[str] | None:
    try:
        from vllm import EngineArgs  # type: ignore[import-not-found,unused-ignore]

        from polyrefuse_models.wrappers.lm_evals_vllm import VLLM
        from polyrefuse_models.wrappers.vllm import BaselineVLLM
    except (ImportError, UserError):
        return None
    return frozenset(
        {*_parameters(BaselineVLLM), *_parameters(VLLM), *inspect.signature(EngineArgs).parameters}
    )


def _parameters(cls: type) -> list[str]:
    named = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]
    return [one.name for one in named if one.name != "self" and one.kind != one.VAR_KEYWORD]


def _taken_by(function: Callable[..., Any]) -> list[str]:
    """A function's parameters, and the words in it, by which it takes others out of `kwargs`."""
    function = inspect.unwrap(function)
    code = getattr(function, "__func__", function).__code__
    words = [one for one in code.co_consts if isinstance(one, str) and one.isidentifier()]
    return [*inspect.signature(function).parameters, *words]


@functools.cache
def _in_config(argument: str, pretrained: str) -> bool:
    """Whether a model's configuration has it, which `from_pretrained` then sets."""
    from transformers import AutoConfig

    from polyrefuse_models import bundled

    if pretrained in bundled.SHIPPED:
        pretrained = str(bundled.path(pretrained))
    try:
        return hasattr(AutoConfig.from_pretrained(pretrained), argument)
    except Exception as error:  # The model is looked for later, and told of then.
        del error
        return False
