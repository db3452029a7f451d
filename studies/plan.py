"""The jobs of a study."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from polyrefuse_leaderboard.card.cards import DRIFT
from polyrefuse_studies.arguments import arguments_of, as_arguments, resolve
from polyrefuse_studies.files import Files
from polyrefuse_studies.jobs import OWN, Job, folder_of
from polyrefuse_studies.models import LOADED
from polyrefuse_studies.options import of_command, typed
from polyrefuse_studies.prompts import asked, checksums
from polyrefuse_studies.schema import Condition, Judge, Model, Study, Training, at

from polyrefuse_models.bundled import own_dataset
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.versions import versions
from polyrefuse_tasks.configs import SampledFamily

ANSWERS = "results"
"""The subfolder of a job's folder into which lm_eval writes."""

LABELS = "labels"
"""The subfolder of a job's folder into which `polyrefuse judge run` writes."""

TRANSFER = "transfer"
GEOMETRY = "geometry"

DRIFT_PROMPTS = 64
"""The largest number of harmless prompts of a language on which drift is measured, because memory
holds the probability of every token for each of them."""

RESERVED = {
    "mcd": {
        "langs": "mcd.languages",
        "output": "its own folder",
        "model": "models",
        "seed": "its own seed",
        "json": "its own report",
        **dict.fromkeys(("device", "dtype", "system", "system-file", "gguf-file"), "models"),
    },
    "judge": {"judge": "judge", "output": "its own folder", "json": "its own report"},
}
"""Command -> its options that a study itself sets -> the part of the study that sets each. `mcd` is
`polyrefuse mcd train`, and `judge` is `polyrefuse judge run`."""

OF_VLLM = ("max_model_len", "kv_cache_dtype")
"""Arguments that say how vLLM runs a model, in addition to those of `identity.WITHOUT_EFFECT`."""

PACKAGES = {
    "peft": "peft",
    "lora_local_path": "peft",
    "gguf_file": "gguf",
    "load_in_4bit": "bitsandbytes",
    "load_in_8bit": "bitsandbytes",
    "autogptq": "auto-gptq",
    "gptqmodel": "gptqmodel",
}
"""Arguments of models, and the package that reads the file that each names."""


class CannotPass(UserError):
    """A job's command has no option for an argument of the model."""


class Identities(Protocol):
    """The identities of weights, as `models.Identities` gives them."""

    def of_model(self, arguments: Mapping[str, Any]) -> Mapping[str, str]: ...

    def of_judge(self, named: str, revision: str | None) -> Mapping[str, str]: ...


def jobs(study: Study, files: Files, identities: Identities) -> list[Job]:
    """Return all jobs of a study, each after those that it waits for.

    Args:
        study: the study.
        files: the files that it names.
        identities: the identities of its models.

    Raises:
        UserError: a file that the study names does not exist, or a command lacks an option that a
            job needs.
    """
    made: list[Job] = []
    for name, model in study.models.items():
        made += _OfModel(study, name, model, files, identities).jobs()
    return made


class _OfModel:
    def __init__(
        self, study: Study, name: str, model: Model, files: Files, identities: Identities
    ) -> None:
        self._study = study
        self._name = name
        self._model = model
        self._files = files
        self._identities = identities
        self._loaded, self._named = resolve(
            arguments_of(model), files, f"models.{name}", self._words()
        )

    def jobs(self) -> Iterator[Job]:
        study, conditions = self._study, self._study.conditions
        asked = study.directions
        under = [arguments_of(self._model, condition) for condition in conditions.values()]
        sources = dict.fromkeys(asked.transfer)
        if asked.geometry or any(one.get("direction") == "source" for one in under):
            sources = dict.fromkeys((asked.source, *sources))
        yield from map(self._direction, sources)
        for what, (training, where) in self._trainings().items():
            yield self._training(what, training, where)
        for name, condition in conditions.items():
            yield self._answers(name, condition)
            if study.capability:
                yield self._capability(name, condition)
            if drift := self._drift(name, condition):
                yield drift
        if asked.transfer:
            yield self._transfer()
        if asked.geometry:
            yield self._geometry()
        for name in conditions:
            for judge in study.judges:
                yield self._judging(name, judge)

    def _direction(self, language: str) -> Job:
        what = f"direction-{language}"
        command = ["polyrefuse", "direction", "extract", "--source-lang", language]
        command += [*self._loading("direction", "extract", what), *self._of_directions()]
        command += ["--output", f"{OWN}/direction"]
        with at("directions"):
            rests_on = self._prompts([language])
        return self._job(what, "direction", command, rests_on=rests_on)

    def _trainings(self) -> dict[str, tuple[Training, str]]:
        """Return the trainings that conditions ask for: each job's settings and their key."""
        found = {}
        for name, condition in self._study.conditions.items():
            if arguments_of(self._model, condition).get("prompt") == "trained":
                own = condition.training
                where = "mcd" if own is None else f"conditions.{name}.training"
                found[self._training_of(condition)] = own or self._study.mcd, where
        return found

    def _training_of(self, condition: Condition) -> str:
        """Return the name of the training of a condition's prompt, without the model's name."""
        conditions, own = self._study.conditions, condition.training
        if own is None or own == self._study.mcd:
            return "mcd-training"
        first = next(name for name in conditions if conditions[name].training == own)
        return f"mcd-training-{first}"

    def _training(self, what: str, training: Training, where: str) -> Job:
        command = ["polyrefuse", "mcd", "train", "--langs", ",".join(training.languages)]
        command += self._loading("mcd", "train", what)
        command += typed(training.options, "mcd", "train", f"{where}.options", RESERVED["mcd"])
        command += ["--seed", str(self._study.seed), "--output", f"{OWN}/prompt"]
        with at(f"{where}.languages"):
            rests_on = self._anchors(training)
        return self._job(what, "training", command, rests_on=rests_on)

    def _answers(self, name: str, condition: Condition) -> Job:
        study = self._study
        families = asked(study.datasets, study.languages)
        data = {
            path: digest
            for family, language in families
            for path, digest in checksums([family.name], [language], "test").items()
        }
        tasks = tuple(family.task(language) for family, language in families)
        return self._evaluation(name, condition, "answers", tasks, study.limit, data)

    def _capability(self, name: str, condition: Condition) -> Job:
        capability = self._study.capability
        assert capability is not None
        data, tasks = {}, []
        for task in capability.tasks:
            own = self._files.find(task) if is_file_of_a_task(task) else None
            tasks.append(str(own or task))
            if own is not None:
                data[task] = self._files.contents(own)
        more = []
        if capability.num_fewshot is not None:
            more = ["--num_fewshot", str(capability.num_fewshot)]
        return self._evaluation(
            name, condition, "capability", tuple(tasks), capability.limit, data, more
        )

    def _evaluation(
        self,
        name: str,
        condition: Condition,
        kind: Any,
        tasks: tuple[str, ...],
        limit: int | None,
        data: Mapping[str, str],
        more: list[str] | None = None,
    ) -> Job:
        study = self._study
        arguments, needs, rests_on, packages = self._under(name, condition)
        if study.engine == "vllm":
            packages.append("vllm")
        command = ["lm_eval", "--model", f"{condition.model}-{study.engine}"]
        command += ["--model_args", as_arguments(arguments)]
        command += ["--tasks", ",".join(tasks), "--batch_size", str(study.batch_size)]
        if limit is not None:
            command += ["--limit", str(limit)]
        if study.generation and kind == "answers":
            command += ["--gen_kwargs", as_arguments(study.generation)]
        command += ["--seed", str(study.seed), *(more or [])]
        command += ["--output_path", f"{OWN}/{ANSWERS}", "--log_samples"]
        # A repeated job does not ask again what a killed run has answered.
        command += ["--use_cache", f"{OWN}/cache"]
        what = name if kind == "answers" else f"{name}-{kind}"
        rests_on |= {"data": dict(data)}
        return self._job(what, kind, command, needs, rests_on, tasks, packages, condition=name)

    def _under(
        self, name: str, condition: Condition
    ) -> tuple[dict[str, Any], list[str], dict[str, Any], list[str]]:
        """Return a model in a condition: arguments, jobs needed, dependencies and packages."""
        from polyrefuse_models.directions.prompts import kinds_of

        given = arguments_of(self._model, condition)
        training = self._training_of(condition)
        words = self._words(training)
        arguments, named = resolve(given, self._files, f"conditions.{name}", words)
        needs = [
            self._called(job)
            for job, asks in (
                (f"direction-{self._study.directions.source}", ("direction", "source")),
                (training, ("prompt", "trained")),
            )
            if given.get(asks[0]) == asks[1]
        ]
        rests_on: dict[str, Any] = {"files": named}
        rests_on |= self._identities.of_model(given)
        # These extract a direction if none is named.
        directed = condition.model in ("ablated", "refusal-added")
        if directed and arguments.get("direction", "auto") == "auto":
            language = str(given.get("source_lang", "en"))
            dataset = given.get("dataset") or own_dataset(given["pretrained"])
            with at(f"conditions.{name}"):
                rests_on |= {"prompts": checksums(kinds_of(dataset), [language])}
        return arguments, needs, rests_on, [PACKAGES[one] for one in PACKAGES if given.get(one)]

    def _drift(self, name: str, condition: Condition) -> Job | None:
        """Return the job that measures a condition's KL divergence, or None if there is none."""
        study = self._study
        harmless = next(
            (family for family, _ in asked(study.datasets, study.languages) if not family.harmful),
            None,
        )
        untouched = arguments_of(self._model, condition) == arguments_of(self._model)
        if harmless is None or (untouched and condition.model == "baseline"):
            return None
        if study.engine == "vllm":  # which has no probabilities of all tokens
            return None
        languages = [
            language
            for family, language in asked(study.datasets, study.languages)
            if family is harmless
        ]
        arguments, needs, rests_on, packages = self._under(name, condition)
        command = ["polyrefuse", "drift", "--model", f"{condition.model}-hf"]
        command += ["--model_args", as_arguments(arguments)]
        command += ["--reference_args", as_arguments(self._loaded)]
        command += ["--dataset", harmless.name, "--langs", ",".join(languages)]
        command += ["--limit", str(min(study.limit or DRIFT_PROMPTS, DRIFT_PROMPTS))]
        command += ["--seed", str(study.seed), "--output", f"{OWN}/{DRIFT}"]
        rests_on |= {"data": checksums([harmless.name], languages, "test")}
        return self._job(
            f"{name}-drift", "drift", command, needs, rests_on, packages=packages, condition=name
        )

    def _transfer(self) -> Job:
        study, directions = self._study, self._study.directions
        targets = directions.targets or study.languages or directions.transfer
        needs = [self._called(f"direction-{source}") for source in directions.transfer]
        folders = (f"{folder_of(need)}/direction" for need in needs)
        command = ["polyrefuse", "direction", "transfer", "--directions", ",".join(folders)]
        command += ["--target-langs", ",".join(targets)]
        if study.limit is not None:
            command += ["--limit", str(study.limit)]
        if directions.dataset is not None:
            command += ["--dataset", directions.dataset]
        command += self._loading("direction", "transfer", "transfer")
        command += ["--output", f"{OWN}/{TRANSFER}"]
        with at("directions.targets"):
            rests_on = self._prompts(list(targets))
        return self._job("transfer", "transfer", command, needs, rests_on)

    def _geometry(self) -> Job:
        directions = self._study.directions
        need = self._called(f"direction-{directions.source}")
        command = ["polyrefuse", "direction", "geometry", "--langs", ",".join(directions.geometry)]
        command += ["--direction", f"{folder_of(need)}/direction"]
        command += self._loading("direction", "geometry", "geometry")
        if directions.dataset is not None:
            command += ["--dataset", directions.dataset]
        # English is always measured, too.
        languages = ["en", *directions.geometry]
        needs = [need]
        if answers := self._untouched_answers(languages):
            needs.append(answers)
            command += ["--results", f"{folder_of(answers)}/{ANSWERS}"]
        command += ["--output", f"{OWN}/{GEOMETRY}"]
        with at("directions.geometry"):
            rests_on = self._prompts(languages)
        return self._job("geometry", "geometry", command, needs, rests_on)

    def _untouched_answers(self, languages: Sequence[str]) -> str | None:
        """Return the name of the job whose answers the geometry divides into refused and answered.

        Returns:
            The name of the job; None if no condition leaves the model untouched, if it gives no
            single answers to prompts in any of these languages, or if vLLM answers, because the
            geometry runs the model with transformers.
        """
        study = self._study
        answered = {
            language
            for family, language in asked(study.datasets, study.languages)
            if not isinstance(family, SampledFamily)
        }
        if study.engine != "hf" or not answered.intersection(languages):
            return None
        untouched = arguments_of(self._model)
        for name, condition in study.conditions.items():
            if condition.model == "baseline" and arguments_of(self._model, condition) == untouched:
                return self._called(name)
        return None

    def _judging(self, condition: str, judge: Judge) -> Job:
        need, where = self._called(condition), f"judges.{judge.judge}.options"
        options = dict(judge.options)
        rests_on: dict[str, Any] = {}
        for name in ("judge-model", "translate"):
            named = options.get(name)
            if isinstance(named, str):
                of_hub = options.get("judge-revision") if name == "judge-model" else None
                with at(f"{where}.{name}"):
                    rests_on[name] = dict(self._identities.of_judge(named, of_hub))
                options[name] = str(self._files.find(named) or named)
        if "judge-model" not in options and (weights := default_weights(judge.judge)):
            revision = options.get("judge-revision")
            rests_on["judge-model"] = dict(self._identities.of_judge(weights, revision))
        rests_on["package"] = _package_of_judge(judge.judge)
        command = ["polyrefuse", "judge", "run", f"{folder_of(need)}/{ANSWERS}"]
        command += ["--judge", judge.judge]
        command += typed(options, "judge", "run", where, RESERVED["judge"])
        # Labels are kept apart from the answers, because each setting of a judge has its own.
        command += ["--output", f"{OWN}/{LABELS}"]
        what = f"{condition}-judged-by-{judge.judge}"
        # By default vLLM runs the judge if it is installed.
        packages = () if options.get("engine") == "transformers" else ("vllm",)
        return self._job(what, "judging", command, [need], rests_on, packages=packages)

    def _of_directions(self) -> list[str]:
        directions = self._study.directions
        options = ["--seed", str(self._study.seed)]
        for option, value in (("--dataset", directions.dataset), ("--rule", directions.rule)):
            options += [] if value is None else [option, value]
        return options

    def _prompts(self, languages: list[str]) -> dict[str, Any]:
        """Return checksums of the prompts on which directions are extracted and validated."""
        from polyrefuse_models.directions.prompts import kinds_of

        dataset = self._study.directions.dataset or own_dataset(self._model.pretrained)
        return {"prompts": checksums(kinds_of(dataset), languages)}

    def _anchors(self, training: Training) -> dict[str, Any]:
        """Return checksums of the prompts on which a soft prompt is trained."""
        from polyrefuse_models.mcd.anchors import source_named

        named = training.options.get("dataset") or own_dataset(self._model.pretrained)
        kinds, _ = source_named(named)
        return {"prompts": checksums(kinds, training.languages)}

    def _loading(self, group: str, name: str, what: str) -> list[str]:
        """Return the model's arguments as options of a `polyrefuse` command.

        Raises:
            CannotPass: the command has no option for one of them.
        """
        from polyrefuse_models.wrappers.identity import WITHOUT_EFFECT

        of_vllm = {*WITHOUT_EFFECT, *OF_VLLM}.difference(LOADED)
        there = of_command(group, name)
        options = ["--model", str(self._loaded["pretrained"])]
        for argument, value in sorted(self._loaded.items()):
            option = argument.replace("_", "-")
            if argument == "pretrained":
                continue
            if option in there:
                options += typed({option: value}, group, name, f"models.{self._name}", {})
            elif self._study.engine == "vllm" and argument in of_vllm:
                continue  # This command runs the model with transformers.
            else:
                raise CannotPass(
                    f"models.{self._name} has {argument}, which the job {self._called(what)} "
                    f"cannot pass on: polyrefuse {group} {name} has no --{option}; leave out the "
                    "argument, or whatever needs that job."
                )
        return options

    def _words(self, training: str = "mcd-training") -> dict[tuple[str, str], str]:
        """Return the folders of jobs for which the words of a condition stand."""
        direction = self._called(f"direction-{self._study.directions.source}")
        return {
            ("direction", "source"): f"{folder_of(direction)}/direction",
            ("direction", "auto"): "auto",
            ("prompt", "trained"): f"{folder_of(self._called(training))}/prompt",
        }

    def _job(
        self,
        what: str,
        kind: Any,
        command: list[str],
        needs: list[str] | None = None,
        rests_on: Mapping[str, Any] | None = None,
        tasks: tuple[str, ...] = (),
        packages: Sequence[str] = (),
        condition: str = "",
    ) -> Job:
        model = arguments_of(self._model)
        of_model: dict[str, Any] = {}
        if kind != "judging":
            of_model |= self._identities.of_model(model)
        if kind not in ("answers", "capability", "judging"):
            of_model["files"] = self._named
            packages = [PACKAGES[one] for one in PACKAGES if model.get(one)]
        with_versions = versions() | {name: _version(name) for name in packages}
        return Job(
            name=self._called(what),
            kind=kind,
            model=self._name,
            command=tuple(command),
            needs=tuple(needs or ()),
            rests_on=of_model | dict(rests_on or {}) | {"versions": with_versions},
            tasks=tasks,
            gpus=self._model.gpus,
            condition=condition,
            cpus=self._model.cpus,
            memory=None if self._model.memory is None else int(self._model.memory),
        )

    def _called(self, what: str) -> str:
        return f"{self._name}/{what}"


def is_file_of_a_task(named: str) -> bool:
    """Return whether lm_eval takes the name of a task for the name of a file."""
    return named.endswith((".yaml", ".yml"))


def default_weights(judge: str) -> str | None:
    """Return the name of a judge's weights on the hub, or None if it has none."""
    from polyrefuse_tasks.judge_models.model_judge import ModelJudge, ScoreJudge
    from polyrefuse_tasks.judges.registry import MODELS, judge_named

    if judge not in MODELS:
        return None
    found = judge_named(judge)
    return found.format.card.model if isinstance(found, ModelJudge | ScoreJudge) else None


def _package_of_judge(judge: str) -> str:
    from polyrefuse_tasks.judges.registry import package_of

    package = package_of(judge)
    return f"{package} {_version(package)}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
