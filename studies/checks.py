"""Checks of a study before anything is run, each by the code that will use the value.

The arguments of a condition are read as lm-eval's model reads them before it loads anything, a
judge is chosen as `polyrefuse judge run` chooses it, and tasks are looked up where lm_eval looks.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Collection, Mapping
from typing import Any

from polyrefuse_studies.arguments import arguments_of, resolve
from polyrefuse_studies.files import Files
from polyrefuse_studies.options import typed, values
from polyrefuse_studies.plan import RESERVED, is_file_of_a_task
from polyrefuse_studies.prompts import asked
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

from polyrefuse_shared.lm_eval_internals import unknown_tasks
from polyrefuse_tasks import data


def check(study: Study, files: Files) -> None:
    """Refuse what a job would refuse later.

    Args:
        study: the study.
        files: the files that it names.

    Raises:
        BadStudy: a value is wrong; the message names the key and what was meant.
    """
    _check_directions(study)
    _check_training(study.mcd, "mcd")
    for name, condition in study.conditions.items():
        if condition.training is not None:
            _check_training(condition.training, f"conditions.{name}.training")
            if condition.prompt != "trained":
                raise BadStudy(
                    f"conditions.{name} has a training but not prompt: trained; leave out the "
                    "training or add the prompt."
                )
    for judge in study.judges:
        _check_judge(study, judge.judge, judge.options)
    _check_generation(study)
    _check_arguments(study, files)
    if study.capability is not None:
        _check_tasks(study.capability.tasks, files)


def _one_of(name: Any, known: Collection[str], where: str) -> None:
    if name is not None and name not in known:
        raise BadStudy(f"{where}: {unknown(f'no {quoted(name)}', str(name), known)}.")


def _check_directions(study: Study) -> None:
    from polyrefuse_models.directions.prompts import sources
    from polyrefuse_models.directions.select import RULES

    _one_of(study.directions.dataset, sources(), "directions.dataset")
    _one_of(study.directions.rule, RULES, "directions.rule")


def _check_training(training: Training, where: str) -> None:
    from polyrefuse_models.mcd.anchors import sources
    from polyrefuse_models.mcd.loss import Terms
    from polyrefuse_models.mcd.safety_prompts import SAFETY_PROMPTS
    from polyrefuse_models.mcd.settings import PRESETS

    options = training.options
    typed(options, "mcd", "train", f"{where}.options", RESERVED["mcd"])
    _one_of(options.get("preset"), PRESETS, f"{where}.options.preset")
    _one_of(options.get("init"), SAFETY_PROMPTS, f"{where}.options.init")
    _one_of(options.get("dataset"), sources(), f"{where}.options.dataset")
    for term in str(options.get("without", "")).split(","):
        _one_of(term.strip() or None, Terms._fields, f"{where}.options.without")
    kinds, _ = sources()[str(options.get("dataset", "polyrefuse"))]
    for language in training.languages:
        for kind in kinds:
            if language not in (known := data.languages(kind)):
                said = unknown(f"no language {quoted(language)} of {kind}", language, known)
                raise BadStudy(f"{where}.languages: {said}; {translating(kind, language)}.")


def _check_judge(study: Study, judge: str, options: Mapping[str, Any]) -> None:
    from polyrefuse_models.wrappers.known_arguments import parse_dtype
    from polyrefuse_tasks.judge_models.choosing import choose

    where = f"judges.{judge}.options"
    typed(options, "judge", "run", where, RESERVED["judge"])
    given = values(options, "judge", "run")
    tasks = asked(study.datasets, study.languages)
    names = {
        "datasets": sorted({family.name for family, _ in tasks}),
        "languages": sorted({language for _, language in tasks}),
    }
    for option, known in names.items():
        for name in str(options.get(option, "")).split(","):
            _one_of(name.strip() or None, known, f"{where}.{option}")
    parse_dtype(f"{where}.dtype: ", options.get("dtype", "auto"))
    taken = inspect.signature(choose).parameters
    # On the command line the option for the judge's weights has another name.
    called = {name.removeprefix("judge_"): value for name, value in given.items()}
    with at("judges"):
        chosen = choose(judge, **{name: called[name] for name in taken if name in called})
    if "translate" in options and not chosen.english_only:
        raise BadStudy(f"{where}.translate: the judge reads every language; leave it out.")


def _check_generation(study: Study) -> None:
    """Refuse a setting that is a misspelling of one of transformers'; vLLM and others have more."""
    from polyrefuse_models.wrappers.known_arguments import generation_settings

    _require_tokens(study.generation, "generation")
    known = generation_settings()
    for name in study.generation:
        near = [] if name in known else difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        if near:
            raise BadStudy(
                f"generation: there is no setting {quoted(name)}: did you mean {near[0]!r}?"
            )


def _require_tokens(settings: Mapping[str, Any], where: str) -> None:
    tokens = settings.get("max_gen_toks", 1)
    if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1:
        raise BadStudy(
            f"{where}.max_gen_toks is {quoted(tokens)}: give a whole number of 1 or more tokens."
        )


def _check_tasks(tasks: tuple[str, ...], files: Files) -> None:
    named = [task for task in tasks if not is_file_of_a_task(task)]
    for task in set(tasks).difference(named):
        files.require(task, "capability.tasks", "file")
    for task, near in unknown_tasks(named).items():
        meant = f": did you mean {' or '.join(map(repr, near))}?" if near else "."
        raise BadStudy(
            f"capability.tasks: lm_eval has no task {quoted(task)}{meant} "
            "(`lm_eval ls tasks` lists them)"
        )


def _check_arguments(study: Study, files: Files) -> None:
    from polyrefuse_models.wrappers.known_arguments import stand_ins

    with stand_ins() as (direction, prompt):
        # A word that stands for an artifact of a later job is replaced by an artifact of its kind.
        words = {
            ("direction", "source"): direction,
            ("direction", "auto"): direction,
            ("prompt", "trained"): prompt,
        }
        for name, model in study.models.items():
            resolve(arguments_of(model), files, f"models.{name}", words)
            for called, condition in study.conditions.items():
                given = arguments_of(model, condition)
                arguments, _ = resolve(given, files, f"conditions.{called}", words)
                _try_arguments(study, name, called, arguments)


def _try_arguments(study: Study, name: str, called: str, arguments: Mapping[str, Any]) -> None:
    from polyrefuse_models.registration import model_class
    from polyrefuse_models.wrappers.known_arguments import UnknownArgument, try_arguments

    model, condition = study.models[name], study.conditions[called]

    def place(argument: str) -> tuple[str, set[str]]:
        if argument in model.arguments and argument not in condition.settings:
            return f"models.{name}", set(Model.model_fields)
        return f"conditions.{called}", set(Condition.model_fields)

    if "batch_size" in arguments:  # lm_eval would receive it twice.
        where, _ = place("batch_size")
        raise BadStudy(f"{where} has batch_size, which is a key of the whole study.")
    _require_tokens(arguments, place("max_gen_toks")[0])
    wrapper = model_class(f"{condition.model}-hf")
    try:
        with at(f"models.{name} under the condition {called!r}", but=UnknownArgument):
            try_arguments(wrapper, arguments, vllm=study.engine == "vllm")
    except UnknownArgument as error:
        where, keys = place(error.argument)
        taken = sorted((error.known | keys) - {error.argument})
        near = difflib.get_close_matches(error.argument, taken, n=1, cutoff=0.7)
        meant = f": did you mean {near[0]!r}?" if near else "."
        raise BadStudy(
            f"{where}: {condition.model}-{study.engine} has no argument "
            f"{quoted(error.argument)}{meant}"
        ) from None
