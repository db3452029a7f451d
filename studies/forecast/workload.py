"""The workload of a job: its prompts, and the tokens that its model reads and writes.

The parser of the command reads the job's command, and the modules that do the work count it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from polyrefuse_studies.parameters import parameters

from polyrefuse_models.bundled import own_dataset
from polyrefuse_models.workload import Part, Workload
from polyrefuse_shared.errors import UserError, first_line
from polyrefuse_tasks import data
from polyrefuse_tasks.configs import families
from polyrefuse_tasks.data import cache

if TYPE_CHECKING:
    from polyrefuse_models.chat_model import ChatModel
    from polyrefuse_models.wrappers.hf import BaselineHF
    from polyrefuse_models.wrappers.workload import Noted


class NotKnown(UserError):
    """The workload of a job cannot be known here; the message is a clause without a full stop."""


@dataclass(frozen=True)
class Asked:
    """The parts of a job that are counted.

    Attributes:
        name, kind, needs: those of the job.
        command: the command as a user would type it.
        tasks: the tasks of lm-eval that it asks.
    """

    name: str
    kind: str
    needs: tuple[str, ...]
    command: tuple[str, ...]
    tasks: tuple[str, ...]


@dataclass
class Counter:
    """Counts the jobs of one model.

    Args:
        jobs: all jobs of the model, each after those that it needs.
        timed: whether `harness` will be called.
    """

    jobs: Sequence[Asked]
    timed: bool
    _counted: dict[str, Workload] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from polyrefuse_models.wrappers.workload import Evaluations

        self._evaluations = Evaluations(self.timed)
        self._of_kind: Mapping[str, Callable[[Asked], Workload]] = {
            "direction": self._direction,
            "training": self._training,
            "answers": self._evaluation,
            "capability": self._evaluation,
            "transfer": self._transfer,
            "geometry": self._geometry,
            "drift": self._drift,
            "judging": self._judging,
        }

    def count(self, job: Asked) -> Workload:
        """Count the workload of a job.

        Raises:
            NotKnown: the workload cannot be known here.
        """
        try:
            counted = self._of_kind[job.kind](job)
        except NotKnown:
            raise
        except Exception as error:  # transformers, lm-eval and data raise many kinds
            raise NotKnown(first_line(error).rstrip(".")) from error
        self._counted[job.name] = counted
        return counted

    def note(self, job: Asked) -> Noted:
        """Return the requests of a job of lm-eval.

        Raises:
            NotKnown: prompts are not on this machine.
            Exception: whatever lm-eval and its tasks raise.
        """
        tasks = {
            family.task(of): (family.name, of) for family in families() for of in family.languages
        }
        for task in job.tasks:
            if task in tasks:
                name, language = tasks[task]
                wanted = {language, "en"} & {*data.languages(name)}
                _require_here([name], sorted(wanted), ["test"])
        return self._evaluations.note(job.command)

    def harness(self, job: Asked) -> float:
        """Return the seconds that lm-eval takes for a counted job without a model."""
        of_lm_eval = job.kind in ("answers", "capability")
        return self._evaluations.note(job.command).seconds if of_lm_eval else 0.0

    def prompts(self, jobs: Sequence[Asked]) -> tuple[list[str], int]:
        """Return the prompts of the first counted job, and the greatest length of its answers."""
        for job in jobs:
            counted = self._counted.get(job.name)
            if counted is not None:
                asked = [request.args[0] for request in self.note(job).requests]
                return asked, max(part.tokens_each for part in counted.parts)
        return [], 0

    def _evaluation(self, job: Asked) -> Workload:
        from polyrefuse_models.wrappers.workload import of_evaluation

        lm = self._wrapper(model_arguments(job.command))
        return of_evaluation(lm, self.note(job).requests, judged=job.kind == "answers")

    def _direction(self, job: Asked) -> Workload:
        from polyrefuse_models.directions.prompts import kinds_of, sample, splits_of
        from polyrefuse_models.directions.select import rule_named
        from polyrefuse_models.directions.workload import of_direction

        given = parameters(job.command)
        dataset = given["dataset"] or own_dataset(given["model"])
        for kind in kinds_of(dataset):
            _require_here([kind], [given["source_lang"]], splits_of(kind).values())
        prompts = sample(dataset, given["source_lang"], given["seed"])
        return of_direction(
            self._chat(given), prompts, rule_named(given["rule"]), all_scores=given["all_scores"]
        )

    def _training(self, job: Asked) -> Workload:
        from polyrefuse_models.mcd.anchors import HELD_OUT, load_anchors, source_named
        from polyrefuse_models.mcd.settings import settings_of
        from polyrefuse_models.mcd.workload import of_training

        given = parameters(job.command)
        dataset = given["dataset"] or own_dataset(given["model"])
        languages = given["langs"].split(",")
        _require_here(source_named(dataset)[0], languages, source_named(dataset)[1])
        if dataset == "polyrefuse":
            _require_here(HELD_OUT, ["en"], ["test"])
        anchors = load_anchors(dataset, languages)
        return of_training(self._chat(given), anchors, settings_of(given))

    def _transfer(self, job: Asked) -> Workload:
        from polyrefuse_models.directions.prompts import kinds_of
        from polyrefuse_models.directions.workload import of_transfer

        given = parameters(job.command)
        dataset = given["dataset"] or own_dataset(given["model"])
        targets = given["target_langs"].split(",")
        _require_here(kinds_of(dataset)[:1], targets, ["test"])
        return of_transfer(
            self._chat(given),
            given["directions"].split(","),
            targets,
            dataset=dataset,
            limit=given["limit"],
            max_gen_toks=given["max_gen_toks"],
        )

    def _geometry(self, job: Asked) -> Workload:
        from polyrefuse_models.directions.prompts import kinds_of
        from polyrefuse_models.directions.workload import of_geometry

        given = parameters(job.command)
        dataset = given["dataset"] or own_dataset(given["model"])
        languages = given["langs"].split(",")
        _require_here(kinds_of(dataset), dict.fromkeys(["en", *languages]), ["test"])
        answered = [
            request.args[0]
            for run in self.jobs
            if run.kind == "answers" and run.name in job.needs
            for request in self.note(run).requests
            if request.doc.get("language") in ("en", *languages)
        ]
        return of_geometry(
            self._chat(given),
            languages,
            dataset=dataset,
            limit=given["limit"],
            answered=answered,
        )

    def _drift(self, job: Asked) -> Workload:
        from polyrefuse_models.wrappers.known_arguments import parse_arguments

        given = parameters(job.command)
        languages = given["langs"].split(",")
        _require_here([given["dataset"]], dict.fromkeys(["en", *languages]), ["test"])
        asked = [
            row.prompt
            for language in languages
            for row in data.load(given["dataset"], language)[: given["limit"]]
        ]
        parts = (
            Part(what, len(asked), sum(map(len, self._wrapper(of).chat_model.token_ids(asked))))
            for what, of in (
                ("untouched", parse_arguments("--reference_args", given["reference_args"])),
                ("under the condition", parse_arguments("--model_args", given["model_args"])),
            )
        )
        return Workload(len(asked), tuple(parts))

    def _judging(self, job: Asked) -> Workload:
        """Count the answers of the job that a judge without a model waits for."""
        from polyrefuse_tasks.judges.registry import names

        judge = parameters(job.command)["judge"]
        if is_model(judge):
            where = "is a model" if judge in names() else "is asked elsewhere"
            raise NotKnown(
                f"the judge {judge} {where}, and its prompts contain answers that do not exist yet"
            )
        (needed,) = job.needs
        if needed not in self._counted:
            raise NotKnown(f"it is not known how many answers {needed} has")
        answers = self._counted[needed].judged
        return Workload(answers, judged=answers)

    def _chat(self, given: Mapping[str, Any]) -> ChatModel:
        """Return the model of a `polyrefuse` command without weights, with the same batch size."""
        from polyrefuse_models.chat_model import rows_here

        names = ("system", "system_file", "gguf_file")
        arguments = {"pretrained": given["model"]} | {name: given[name] for name in names}
        rows = rows_here(given["batch_size"], given["device"])
        return replace(self._wrapper(arguments).chat_model, batch_size=rows)

    def _wrapper(self, arguments: Mapping[str, Any]) -> BaselineHF:
        from polyrefuse_models.wrappers.weightless import PROMPTING

        given = {name: value for name, value in arguments.items() if value is not None}
        trained = self._trained(str(given.get("prompt", "")))
        if trained is not None:
            del given["prompt"]
        decisive = {"pretrained", "tokenizer", "revision", "gguf_file", *PROMPTING} & given.keys()
        key = repr((trained, sorted((name, given[name]) for name in decisive)))
        return self._made(key, given, trained)

    def _made(self, key: str, given: Mapping[str, Any], init: str | None) -> BaselineHF:
        if key not in self._wrappers:
            from polyrefuse_models.mcd.workload import stand_in
            from polyrefuse_models.wrappers.weightless import weightless

            lm = weightless(given)
            if init is not None:
                lm.prompting.put_in_front([stand_in(lm.tokenizer, init)], lm.max_length)
            self._wrappers[key] = lm
        return self._wrappers[key]

    @functools.cached_property
    def _wrappers(self) -> dict[str, BaselineHF]:
        return {}

    def _trained(self, prompt: str) -> str | None:
        """Return the words from which a job will train this soft prompt, or None."""
        from polyrefuse_models.mcd.settings import settings_of

        for job in self.jobs:
            if job.kind == "training" and not os.path.isdir(prompt):
                given = parameters(job.command)
                if str(given["output"]) == prompt:
                    return settings_of(given).init
        return None


def is_model(judge: str) -> bool:
    """Return whether a judge is a model, here or elsewhere."""
    from polyrefuse_tasks.judge_models.endpoint_judge import PREFIX
    from polyrefuse_tasks.judges.registry import MODELS

    return judge in MODELS or judge.startswith(PREFIX)


def model_arguments(command: Sequence[str]) -> dict[str, Any]:
    """Return the `--model_args` of an `lm_eval` command."""
    from polyrefuse_models.wrappers.workload import parse

    return dict(parse(command).model_args)


def _require_here(datasets: Iterable[str], languages: Iterable[str], splits: Iterable[str]) -> None:
    """Check that all files of prompts are on this machine, because a plan downloads nothing.

    Raises:
        NotKnown: a file is missing.
    """
    languages, splits = list(languages), list(splits)
    for name in datasets:
        for language in languages:
            for split in splits:
                for file in data.needed(name, language, split):
                    if cache.find(file) is None:
                        raise NotKnown(
                            f"{file.path} is not here; `{cache.fetch_command(file)}` fetches it"
                        )
