"""From a study to its jobs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from polyrefuse_studies.jobs import OWN, Job, folder_of
from polyrefuse_studies.prompts import tasks
from polyrefuse_studies.schema import Condition, Model, Study

from polyrefuse_shared.errors import UserError

ANSWERS = "results"
"""In a job's folder, what lm_eval writes."""

LABELS = "labels"
"""In a job's folder, what `polyrefuse judge run` writes."""

TRANSFER = "transfer"
GEOMETRY = "geometry"


def jobs(study: Study, beside: Path, identities: Mapping[str, Any]) -> list[Job]:
    """All jobs of a study, each behind those that it waits for.

    Args:
        study: which.
        beside: folder of the study's file, where relative paths in it begin.
        identities: of each model, by the study's name of it: what tells its weights from others.

    Raises:
        UserError: a file that the study names is not there.
    """
    made: list[Job] = []
    for name, model in study.models.items():
        made += _OfModel(study, name, model, beside, identities[name]).jobs()
    return made


class _OfModel:
    def __init__(
        self, study: Study, name: str, model: Model, beside: Path, identity: Mapping[str, Any]
    ) -> None:
        self._study = study
        self._name = name
        self._model = model
        self._beside = beside
        self._identity = dict(identity)
        self._pretrained = self._path(model.pretrained)

    def jobs(self) -> Iterator[Job]:
        study, conditions = self._study, self._study.conditions
        asked = study.directions
        sources = dict.fromkeys(asked.transfer)
        if asked.geometry or any(c.direction == "source" for c in conditions.values()):
            sources = dict.fromkeys((asked.source, *sources))
        yield from map(self._direction, sources)
        if any(condition.prompt == "trained" for condition in conditions.values()):
            yield self._training()
        for name, condition in conditions.items():
            yield self._answers(name, condition)
            if study.capability:
                yield self._capability(name, condition)
        if asked.transfer:
            yield self._transfer()
        if asked.geometry:
            yield self._geometry()
        for name in conditions:
            for judge in study.judges:
                yield self._judging(name, judge.judge, judge.options)

    def _direction(self, language: str) -> Job:
        command = ["polyrefuse", "direction", "extract", "--source-lang", language]
        command += [*self._loading(), *self._of_directions(), "--output", f"{OWN}/direction"]
        return self._job(f"direction-{language}", "direction", command)

    def _training(self) -> Job:
        mcd = self._study.mcd
        command = ["polyrefuse", "mcd", "train", "--langs", ",".join(mcd.languages)]
        command += [*self._loading(), *_options(mcd.options), "--output", f"{OWN}/prompt"]
        return self._job("mcd-training", "training", command)

    def _answers(self, name: str, condition: Condition) -> Job:
        study = self._study
        asked = tuple(tasks(study.datasets, study.languages))
        return self._evaluation(name, condition, "answers", asked, study.limit)

    def _capability(self, name: str, condition: Condition) -> Job:
        capability = self._study.capability
        assert capability is not None
        more = []
        if capability.num_fewshot is not None:
            more = ["--num_fewshot", str(capability.num_fewshot)]
        return self._evaluation(
            name, condition, "capability", capability.tasks, capability.limit, more
        )

    def _evaluation(
        self,
        name: str,
        condition: Condition,
        kind: Any,
        asked: tuple[str, ...],
        limit: int | None,
        more: list[str] | None = None,
    ) -> Job:
        study = self._study
        arguments: dict[str, Any] = {"pretrained": self._pretrained} | self._model.arguments
        arguments |= condition.arguments
        needs, rests_on = [], {}
        if condition.direction == "source":
            needs.append(self._called(f"direction-{study.directions.source}"))
            arguments["direction"] = f"{folder_of(needs[-1])}/direction"
        elif condition.direction is not None:
            arguments["direction"] = self._path(condition.direction)
        if condition.prompt == "trained":
            needs.append(self._called("mcd-training"))
            arguments["prompt"] = f"{folder_of(needs[-1])}/prompt"
        elif condition.prompt is not None:
            arguments["prompt"] = self._path(condition.prompt)
        if condition.system_file is not None:
            arguments["system_file"] = self._path(condition.system_file)
        for key in ("direction", "prompt", "system_file"):
            if (path := Path(str(arguments.get(key, "")))).is_absolute():
                rests_on[key] = _contents(path)
        command = ["lm_eval", "--model", f"{condition.model}-{study.engine}"]
        command += ["--model_args", ",".join(f"{k}={_said(v)}" for k, v in arguments.items())]
        command += ["--tasks", ",".join(asked), "--batch_size", str(study.batch_size)]
        if limit is not None:
            command += ["--limit", str(limit)]
        if study.generation and kind == "answers":
            said = ",".join(f"{k}={_said(v)}" for k, v in study.generation.items())
            command += ["--gen_kwargs", said]
        command += ["--seed", str(study.seed), *(more or [])]
        command += ["--output_path", f"{OWN}/{ANSWERS}", "--log_samples"]
        # What a run that is killed has answered is not asked again.
        command += ["--use_cache", f"{OWN}/cache"]
        what = name if kind == "answers" else f"{name}-{kind}"
        return self._job(what, kind, command, needs, rests_on, asked, condition=name)

    def _transfer(self) -> Job:
        study, asked = self._study, self._study.directions
        targets = asked.targets or study.languages or asked.transfer
        needs = [self._called(f"direction-{source}") for source in asked.transfer]
        folders = (f"{folder_of(need)}/direction" for need in needs)
        command = ["polyrefuse", "direction", "transfer", "--directions", ",".join(folders)]
        command += ["--target-langs", ",".join(targets)]
        if study.limit is not None:
            command += ["--limit", str(study.limit)]
        if asked.dataset is not None:
            command += ["--dataset", asked.dataset]
        command += [*self._loading(), "--output", f"{OWN}/{TRANSFER}"]
        return self._job("transfer", "transfer", command, needs)

    def _geometry(self) -> Job:
        asked = self._study.directions
        need = self._called(f"direction-{asked.source}")
        command = ["polyrefuse", "direction", "geometry", "--langs", ",".join(asked.geometry)]
        command += ["--direction", f"{folder_of(need)}/direction", *self._loading()]
        if asked.dataset is not None:
            command += ["--dataset", asked.dataset]
        command += ["--output", f"{OWN}/{GEOMETRY}"]
        return self._job("geometry", "geometry", command, [need])

    def _judging(self, condition: str, judge: str, options: Mapping[str, Any]) -> Job:
        need = self._called(condition)
        command = ["polyrefuse", "judge", "run", f"{folder_of(need)}/{ANSWERS}", "--judge", judge]
        # Apart from the answers: each setting of a judge keeps its own labels.
        command += [*_options(options), "--output", f"{OWN}/{LABELS}"]
        return self._job(f"{condition}-judged-by-{judge}", "judging", command, [need])

    def _of_directions(self) -> list[str]:
        asked = self._study.directions
        options = ["--seed", str(self._study.seed)]
        for option, value in (("--dataset", asked.dataset), ("--rule", asked.rule)):
            options += [] if value is None else [option, value]
        return options

    def _loading(self) -> list[str]:
        """Options of `polyrefuse` commands that load the model as lm_eval does."""
        options = ["--model", self._pretrained]
        taken = ("dtype", "system", "system_file", "gguf_file", "device")
        for name, value in self._model.arguments.items():
            if name in taken:
                options += [f"--{name.replace('_', '-')}", _said(value)]
        return options

    def _job(
        self,
        what: str,
        kind: Any,
        command: list[str],
        needs: list[str] | None = None,
        rests_on: Mapping[str, Any] | None = None,
        asked: tuple[str, ...] = (),
        condition: str = "",
    ) -> Job:
        return Job(
            name=self._called(what),
            kind=kind,
            model=self._name,
            command=tuple(command),
            needs=tuple(needs or ()),
            rests_on=self._identity | dict(rests_on or {}),
            tasks=asked,
            gpus=self._model.gpus,
            condition=condition,
            cpus=self._model.cpus,
            memory=None if self._model.memory is None else int(self._model.memory),
        )

    def _called(self, what: str) -> str:
        return f"{self._name}/{what}"

    def _path(self, named: str) -> str:
        """A path that is in the file, from anywhere; any other name as it is."""
        path = self._beside / Path(named).expanduser()
        return str(path.resolve()) if path.exists() else named


def _options(options: Mapping[str, Any]) -> list[str]:
    said: list[str] = []
    for name, value in options.items():
        if isinstance(value, bool):
            said.append(f"--{'' if value else 'no-'}{name}")
        else:
            said += [f"--{name}", str(value)]
    return said


def _said(value: Any) -> str:
    if isinstance(value, str) and ("," in value or "=" in value.strip("=")):
        raise UserError(
            f"lm_eval takes no value with a comma or an equals sign in it: {value!r}; name another."
        )
    return str(value)


def _contents(path: Path) -> str:
    """A checksum of a file, or of all files in a folder."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(f"{file.relative_to(path)}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()
