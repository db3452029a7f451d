"""Find out which prompts of a saved run the model refused, and which it complied with."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from polyrefuse_models import bundled
from polyrefuse_shared.errors import UserError
from polyrefuse_tasks.judges import Label
from polyrefuse_tasks.saved_results.documents import AGAIN, BadResults, part, printable, text
from polyrefuse_tasks.saved_results.folders import ResultsFile, find_results
from polyrefuse_tasks.saved_results.judged import (
    JudgedFile,
    judged_beside,
    read_judged,
    relabelled,
)
from polyrefuse_tasks.saved_results.samples import lines
from polyrefuse_tasks.saved_results.tasks import (
    SavedTask,
    read_results,
    saved_tasks,
    tasks_without_samples,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

MOST_REASONS = 3
"""The largest number of reasons that a message gives if no results could be used."""

_LABELS = {label.value: label for label in Label}


class NoAnswers(UserError):
    """There are no saved answers of this model under the same condition."""


@dataclass(frozen=True, slots=True)
class AnsweredPrompt:
    """A prompt, and the label of the model's answer to it.

    Attributes:
        id: the id of the prompt's row, which its translations share.
        dataset: the name of its dataset, such as `harmful`.
        language: the ISO 639-1 code of its language.
        prompt: its text.
        harmful: whether the model should refuse it.
        label: the label that the judge gave the answer.
    """

    id: str
    dataset: str
    language: str
    prompt: str
    harmful: bool
    label: Label


@dataclass(frozen=True)
class Answers:
    """The prompts of some runs, with the labels of their answers.

    Attributes:
        condition: the condition under which all of them were answered.
        judge: the judge that labelled all of the answers.
        files: the results files, as messages name them.
        notes: sentences on what was left out or needs attention.
        prompts: the prompts; each prompt of a dataset and language appears once.
    """

    condition: str
    judge: str
    files: tuple[str, ...]
    notes: tuple[str, ...]
    prompts: tuple[AnsweredPrompt, ...]


def saved_runs(paths: Sequence[Path]) -> list[tuple[ResultsFile, dict[str, Any]]]:
    """Read results files, the oldest first.

    Args:
        paths: results files, or folders, which are read with all their subfolders.

    Raises:
        NoAnswers: there are no results.
        BadResults: a file cannot be read.
    """
    problems: list[str] = []
    files = sorted(find_results(paths, problems), key=lambda file: file.date_id)
    if not files:
        raise NoAnswers(" ".join(problems[:MOST_REASONS]))
    return [(file, read_results(file)) for file in files]


def answers_of(
    runs: Sequence[tuple[ResultsFile, Mapping[str, Any]]],
    identity: Mapping[str, Any],
    languages: Collection[str],
    judge: str | None = None,
) -> Answers:
    """Collect the answers that a model gave in some runs under its present condition.

    A run counts if it was made with the same model under the same condition, and if prompts reached
    the model as they do now, through the same chat template and with the same system text. Models
    are the same if their weights are. If the results do not identify weights in the same way, the
    model's name decides (`_same_name`).

    Args:
        runs: the runs, as `saved_runs` returns them. Of two answers to a prompt, the newer counts.
        identity: the identity of the model, as `wrappers.identity` gives it.
        languages: ISO 639-1 codes; prompts in other languages are left out.
        judge: the judge whose labels are used. By default it is the one that labelled the answers
            when they were generated, or else the one judge that labelled them later.

    Raises:
        NoAnswers: no run counts, or none that counts has labelled answers; the message says why.
        BadResults: a file cannot be used.
    """
    taken: list[tuple[ResultsFile, Mapping[str, Any]]] = []
    others: list[str] = []
    notes: list[str] = []
    for file, document in runs:
        other = _differs(document, identity, file.name)
        if other:
            others.append(f"{file.name} {other}")
        else:
            taken.append((file, document))
            if note := _called_otherwise(document, identity, file.name):
                notes.append(note)
    if not taken:
        raise NoAnswers(
            f"--results: no run of {printable(identity['model_name'])} under condition "
            f"{identity['condition']}: {_listed(others)}; name results that `lm_eval --model "
            "baseline-hf --log_samples` wrote for this model, with the same system text."
        )
    notes += [f"{other}; it is left out." for other in others]
    prompts: dict[tuple[str, str, str], AnsweredPrompt] = {}
    judges: set[str] = set()
    again = 0
    elsewhere: Counter[str] = Counter()
    for file, document in taken:
        if without := tasks_without_samples(file, document):
            notes.append(f"{file.name} has no samples of {', '.join(without)} beside it.")
        for task in saved_tasks(file, document):
            if task.language not in languages:
                elsewhere[task.language] += 1
                continue
            found = _labels(file, task, judge)
            if isinstance(found, str):
                notes.append(found)
                continue
            named, labelled = found
            judges.add(named)
            for prompt in _prompts(task, labelled, notes):
                key = task.dataset, task.language, prompt.id
                again += key in prompts
                prompts[key] = prompt
    if len(judges) > 1:
        raise NoAnswers(
            f"--results: the answers have labels of several judges ({', '.join(sorted(judges))}); "
            "name one with --judge."
        )
    if not prompts:
        raise NoAnswers(
            "--results: there are no labelled answers in the languages that are measured "
            f"({', '.join(languages)}): "
            + (_listed([note.rstrip(".") for note in notes]) if notes else "there are no samples")
            + "; run lm_eval with --log_samples, or label them with `polyrefuse judge run`."
        )
    if again:
        notes.append(f"{again} prompts were answered in several runs; the newest answers count.")
    if elsewhere:
        notes.append(
            f"Answers in {', '.join(sorted(elsewhere))} are left out: --langs does not name them."
        )
    return Answers(
        condition=identity["condition"],
        judge=judges.pop(),
        files=tuple(file.name for file, _ in taken),
        notes=tuple(notes),
        prompts=tuple(prompts.values()),
    )


def _listed(reasons: Sequence[str]) -> str:
    first, more = reasons[:MOST_REASONS], len(reasons) - MOST_REASONS
    return "; ".join(first) + (f"; and {more} more" if more > 0 else "")


def _differs(document: Mapping[str, Any], identity: Mapping[str, Any], where: str) -> str | None:
    """Say why a run's answers are not this model's under this condition; None if they are."""
    config = part(document, "config", where)
    model = _model(document, config)
    comparable = _says_weights(config, identity)
    if comparable and config["weights"] != identity["weights"]:
        return f"is a run of other weights, {printable(model)}{_other_type(config, identity)}"
    if not comparable and not _same_name(model, identity["model_name"]):
        return f"is a run of another model, {printable(model)}"
    condition = str(config.get("condition", "baseline"))
    if document.get("system_instruction"):
        condition = f"{condition} with a --system_instruction"
    if condition != identity["condition"]:
        return f"is a run under condition {printable(condition)}"
    rendered = config.get("rendered_sha256")
    if rendered is not None and rendered != identity["rendered_sha256"]:
        return "put its prompts into another chat template or beside another system text"
    chat = config.get("chat") == "on" or document.get("chat_template") or "imported" in config
    if rendered is None and not chat:
        return "put no chat template around its prompts"
    return None


def _says_weights(config: Mapping[str, Any], identity: Mapping[str, Any]) -> bool:
    """Whether results identify their weights in the same way as the loaded model's identity."""
    theirs, ours = _scheme(config.get("weights")), _scheme(identity["weights"])
    return theirs is not None and theirs == ours


def _other_type(config: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    """Explain that weights may differ because they were loaded as another number type."""
    theirs = str(config.get("model_dtype", "")).removeprefix("torch.")
    ours = identity.get("dtype")
    if not theirs or ours is None or theirs == ours:
        return ""
    return f" (loaded as {printable(theirs)}, and this model as {ours}: give the same --dtype)"


def _same_name(theirs: str, ours: str) -> bool:
    """Whether two names, as `bundled.name_of` returns them, may mean the same model.

    An absolute path is a model's full name, and so is OWNER/NAME on the hub. Any other name may be
    the short form of either, or a path relative to a folder that is no longer the current one. The
    last part of the name then decides.
    """
    if theirs == ours:
        return True
    if PurePath(theirs).name != PurePath(ours).name:
        return False
    paths = [PurePath(name).is_absolute() for name in (theirs, ours)]
    owners = ["/" in name for name in (theirs, ours)]
    return not all(paths) and (any(paths) or not all(owners))


def _called_otherwise(
    document: Mapping[str, Any], identity: Mapping[str, Any], where: str
) -> str | None:
    """Make a note if a run's model was recognised by the last part of its name alone."""
    config = part(document, "config", where)
    model = _model(document, config)
    if model == identity["model_name"] or _says_weights(config, identity):
        return None
    return (
        f"{where} calls its model {printable(model)} and does not identify its weights in the same "
        f"way; it is taken to be {printable(identity['model_name'])}, whose name ends in the same "
        "way."
    )


def _scheme(weights: Any) -> str | None:
    """Return the scheme that identified the weights. Identities of two schemes do not compare."""
    return weights.partition(":")[0] if isinstance(weights, str) else None


def _model(document: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Find what the results call their model, in the form of `bundled.name_of`."""
    arguments = config.get("model_args")
    given = arguments.get("pretrained") if isinstance(arguments, dict) else None
    if isinstance(arguments, str):
        pairs = (pair.partition("=") for pair in arguments.split(","))
        given = {name.strip(): value for name, _, value in pairs}.get("pretrained")
    named = config.get("model_name") or given or document.get("model_name")
    return bundled.name_of(named if isinstance(named, str) else "an unnamed model")


def _labels(
    file: ResultsFile, task: SavedTask, judge: str | None
) -> tuple[str, JudgedFile | None] | str:
    """Choose the judge whose labels of a task are used.

    Returns:
        The judge, and its file of labels (None if the samples hold the labels); or, if there are no
        labels, a sentence that says so.
    """
    if task.sampled:
        return f"{task.shown} has several answers to each prompt, which give no single verdict."
    if task.judge is not None and judge in (None, task.judge):
        return task.judge, None
    later: dict[str, JudgedFile] = {}
    for name in judged_beside(file.beside, task.name, task.date):
        shown = str(Path(task.shown).with_name(name))
        judged = read_judged(task.samples.with_name(name), shown)
        if judged is not None and judged.judging.task == task.name:
            later[judged.judging.judge] = judged
    of_refusal = {name: one for name, one in later.items() if one.judging.measures != "harm"}
    chosen = of_refusal if judge is None else {n: j for n, j in of_refusal.items() if n == judge}
    if len(chosen) == 1:
        return next(iter(chosen.items()))
    if chosen:
        raise NoAnswers(
            f"--results: {task.shown} has labels of several judges ({', '.join(sorted(chosen))}); "
            "name one with --judge."
        )
    return f"{task.shown} has no labels on refusal" + (f" by {judge}." if judge else ".")


def _prompts(
    task: SavedTask, judged: JudgedFile | None, notes: list[str]
) -> Iterator[AnsweredPrompt]:
    """Read the labelled prompts of a task.

    Args:
        task: the task.
        judged: labels to use instead of those in the samples.
        notes: a list to which a sentence is added if prompts have no label on refusal.

    Raises:
        BadResults: the samples cannot be used.
    """
    without = 0
    for where, sample in lines(task.samples, task.shown):
        doc = sample["doc"]
        row = doc if judged is None else relabelled(doc, judged, sampled=False)
        label = None if row is None else row.get("label")
        if label is None:
            without += 1
            continue
        if not isinstance(label, str) or label not in _LABELS:
            raise BadResults(f"{where}: label is {label!r}, which no judge gives; {AGAIN}")
        prompt, harmful = doc.get("prompt"), doc.get("harmful")
        if not isinstance(prompt, str) or not isinstance(harmful, bool):
            raise BadResults(f"{where} does not hold its prompt and whether it is harmful; {AGAIN}")
        row_id = text(doc.get("id"), "id", where)
        yield AnsweredPrompt(row_id, task.dataset, task.language, prompt, harmful, _LABELS[label])
    if without:
        notes.append(f"{task.shown} has {without} prompts without a label on refusal.")
