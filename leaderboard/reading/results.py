"""Read lm-eval's files, results_*.json and samples_*.jsonl, into runs.

A file that cannot be used becomes a sentence in `Reading.problems`; the other files are still read.
"""

from __future__ import annotations

import reprlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any, TypeGuard

from polyrefuse_leaderboard.reading import identity
from polyrefuse_leaderboard.reading.capability import (
    Outcome,
    Wanted,
    metrics_of,
    read_outcomes,
    require_found,
    tasks_of,
)
from polyrefuse_leaderboard.reading.duplicates import newest
from polyrefuse_leaderboard.reading.model_names import (
    NO_NAMES,
    Names,
    hide_paths,
    name_models,
    names_in,
)
from polyrefuse_leaderboard.reading.requests import effective
from polyrefuse_leaderboard.reading.runs import Cell, Reading, Response, Run
from polyrefuse_leaderboard.reading.samples import Asked, read_samples

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.lm_eval_internals import metric_key, samples_file
from polyrefuse_shared.printing import clean
from polyrefuse_tasks.metrics import ANY, METRICS, PRINTED, TASK_VERSION, of_one_kind
from polyrefuse_tasks.saved_results.documents import (
    AGAIN,
    BadResults,
    is_number,
    part,
    printable,
    text,
)
from polyrefuse_tasks.saved_results.folders import ResultsFile, find_results
from polyrefuse_tasks.saved_results.judged import Judging, judged_beside, read_judged
from polyrefuse_tasks.saved_results.samples import lines
from polyrefuse_tasks.saved_results.tasks import is_ours, is_unjudged, read_results

ROUNDING = 1e-6
"""The largest difference that rounding makes between a rate and the same rate from the samples."""

MOST_PROMPTS = 10**9
"""The most prompts of a task. A larger count is a mistake, and the statistics might overflow."""

MOST_REASONS = 5
"""The most sentences in the message that nothing could be used."""

PREFIXES = ("polyrefuse_", "toyrefuse_", "mcd_")
"""The beginnings of the names of our tasks."""


class NoResults(UserError):
    """No results could be used."""


def read(
    paths: Sequence[Path],
    *,
    include_samples: bool = False,
    names: Names = NO_NAMES,
    capability: Sequence[Wanted] = (),
) -> Reading:
    """Read every results file in or below the paths, and the samples files beside them.

    Args:
        paths: files, or folders, which are read with all their subfolders.
        include_samples: whether to keep the texts of the answers.
        names: the names of models, as `model_names.read_names` returns them.
        capability: the other lm-eval tasks whose values are read.

    Raises:
        BadCapability: no results have one of these tasks, or its metric.
        NoResults: no results could be used.
        SameName: two models would have the same name.
    """
    runs: list[Run] = []
    names_of_runs: list[Names] = []
    problems: list[str] = []
    notes: list[str] = []
    there: dict[str, set[str]] = {}
    for file in find_results(paths, problems):
        known = len(problems)
        try:
            run = _run(file, include_samples, problems, capability, there)
        except BadResults as error:
            problems.append(str(error))
            continue
        if run.cells or run.capability:
            runs.append(run)
            names_of_runs.append(names_in(names, file.path))
        elif len(problems) == known:
            notes.append(f"{file.name} is left out: it has no task of this package.")
    found = [one for run in runs for one in run.capability]
    require_found(capability, there, found, problems)
    if not runs:
        first, more = [*problems, *notes][:MOST_REASONS], len(problems) + len(notes) - MOST_REASONS
        if more > 0:
            first.append(f"And {more} more files or tasks cannot be used.")
        raise NoResults(
            " ".join(first) or "No results were found; name folders that lm_eval wrote."
        )
    kept, left_out = newest(name_models(runs, names_of_runs))
    # A sentence may quote control characters from a file.
    safe = ([clean(hide_paths(one, names)) for one in each] for each in (problems, notes, left_out))
    problems, notes, left_out = safe
    return Reading(tuple(kept), tuple(problems), (*notes, *left_out))


def _run(
    file: ResultsFile,
    include_samples: bool,
    problems: list[str],
    capability: Sequence[Wanted],
    there: dict[str, set[str]],
) -> Run:
    """Read one results file, and add a sentence to `problems` for each task that cannot be used.

    Args:
        there: task -> metrics. If `capability` names tasks, the metrics of every task in the file
            are added.

    Raises:
        BadResults: nothing in the file can be used.
    """
    where = file.name
    document = read_results(file)
    for name in ("config", "configs", "results"):
        part(document, name, where)
    date = document.get("date")
    if not is_number(date):
        raise BadResults(f"{where}: date is {reprlib.repr(date)}, not a number; {AGAIN}")
    arguments = identity.arguments_of(document["config"], where)
    condition, intervention = identity.intervention(document, where)
    cells = []
    faults: dict[str, str] = {}
    for task in _tasks(document):
        try:
            cells += _cells(file, document, task, arguments, include_samples, faults)
        except BadResults as error:
            faults[printable(task)] = str(error)
    model = identity.model(document, arguments, where)
    outcomes: list[Outcome] = []
    for one in capability:
        try:
            outcomes += read_outcomes(file, document, arguments, [one])
        except BadResults as error:
            problems.append(str(error))
    for task in tasks_of(document) if capability else ():
        there.setdefault(task, set()).update(metrics_of(document, task))
    run = Run(
        run=printable(f"{file.path.absolute().parent.name}/{file.date_id}"),
        file=file.name,
        date=float(date),
        given=model,
        model=model,
        revision=identity.revision(document, arguments, where),
        condition=condition,
        intervention=intervention,
        cells=tuple(cells),
        settings=identity.settings(document, arguments),
        anchors_overlap=identity.anchors_overlap(document["config"]),
        warnings=(*identity.warnings(document["config"]), *_unsaved(cells)),
        capability=tuple(outcomes),
    )
    problems.extend(_together(faults))
    return run


def _unsaved(cells: Sequence[Cell]) -> Iterator[str]:
    """Yield a warning if only some tasks of a run have samples.

    lm-eval writes the samples of one task after the other, and may be stopped in between.
    """
    bare: dict[str, list[str]] = defaultdict(list)
    for cell in cells:
        if cell.responses is None:
            bare[cell.dataset].append(cell.language)
    if bare and any(cell.responses is not None for cell in cells):
        which = "; ".join(f"{name} in {', '.join(languages)}" for name, languages in bare.items())
        yield (
            f"There are no samples of {which}, but there are samples of the run's other tasks. The "
            "run was interrupted while it wrote them, or they were moved. These rates are not "
            "checked and have no loophole rates."
        )


def _together(faults: Mapping[str, str]) -> Iterator[str]:
    """Yield one sentence for all tasks of a file with the same fault."""
    alike: dict[str, list[str]] = defaultdict(list)
    for task, fault in faults.items():
        alike[fault.replace(task, "")].append(fault)
    for fault, *others in alike.values():
        yield (
            f"{fault[:-1]}; {len(others)} more of its tasks have the same fault."
            if others
            else fault
        )


def _tasks(document: Mapping[str, Any]) -> list[str]:
    """Return the names of this package's tasks, without those of other packages and groups."""
    groups = document.get("groups"), document.get("group_subtasks")
    not_tasks = {name for group in groups if isinstance(group, dict) for name in group}
    configs = document["configs"]
    return [
        name
        for name in sorted(configs.keys() | document["results"].keys())
        if name not in not_tasks and (name.startswith(PREFIXES) or is_ours(configs.get(name)))
    ]


def _cells(
    file: ResultsFile,
    document: Mapping[str, Any],
    task: str,
    arguments: Mapping[str, Any],
    include_samples: bool,
    faults: dict[str, str],
) -> list[Cell]:
    """Read one task of a results file, with the labels of lm-eval's judge and of later judges.

    Args:
        faults: name of a task or a file -> its fault. The faults of files of labels are added.

    Raises:
        BadResults: the task cannot be used.
    """
    outcome = part(document["results"], task, f"{file.name}, results")
    later = judged_beside(file.beside, task, file.date_id)
    frame = _frame(file, document, task, arguments)
    cells = {}
    if not is_unjudged(outcome) or not later:
        cell = _cell(frame, file, document, task, include_samples)
        cells[cell.judge] = cell
    for name in later:
        try:
            cell_or_none = _judged_later(frame, file, document, task, include_samples, name)
        except BadResults as error:
            faults[printable(name)] = str(error)
            continue
        if cell_or_none is not None:
            # If the judge is the same, these labels are newer than those in the samples.
            cells[cell_or_none.judge] = cell_or_none
    return list(cells.values())


def _cell(
    frame: Cell,
    file: ResultsFile,
    document: Mapping[str, Any],
    task: str,
    include_samples: bool,
) -> Cell:
    """Read one task of a results file, with its samples if there are any.

    Args:
        frame: the task's `_frame`.

    Raises:
        BadResults: the task cannot be used.
    """
    where = f"{file.name}, {printable(task)}"
    config = part(document["configs"], task, f"{file.name}, configs")
    outcome = part(document["results"], task, f"{file.name}, results")
    if is_unjudged(outcome) and "imported" in document["config"]:
        raise BadResults(
            f"{where} has answers and no labels, like the file that it was imported from; label "
            "them with `polyrefuse judge run`."
        )
    if is_unjudged(outcome):
        raise BadResults(
            f"{where} has answers and no labels, because it was run with --predict_only; label "
            "them with `polyrefuse judge run`, or run lm_eval again without this option, and with "
            "the same --use_cache if you used one, which keeps the answers."
        )
    rates = _rates(outcome, where)
    if not rates:
        raise BadResults(
            f"{where} has none of this package's rates ({', '.join(PRINTED[:3])}, ...): its "
            "metric_list or its process_results was changed; run the package's own task."
        )
    harmful = _is_harmful(config, rates)
    if harmful is None:
        raise BadResults(
            f"{where} has rates of both harmful and harmless prompts, or of neither "
            f"({', '.join(rates) or 'none'}); {AGAIN}"
        )
    cell = replace(
        frame,
        harmful=harmful,
        rates=rates,
        n=_count(outcome, where),
        sampled=frame.sampled or not rates.keys().isdisjoint(ANY),
    )
    name = samples_file(task, file.date_id)
    if name not in file.beside:
        return cell
    settings = effective(config["generation_kwargs"])
    return _checked(cell, file, name, where, settings, include_samples)


def _frame(
    file: ResultsFile, document: Mapping[str, Any], task: str, arguments: Mapping[str, Any]
) -> Cell:
    """Make a cell of a task without `harmful`, `rates` and `n`, which are filled in later.

    Raises:
        BadResults: the task cannot be used.
    """
    where = f"{file.name}, {printable(task)}"
    config = part(document["configs"], task, f"{file.name}, configs")
    prompts = part(config, "dataset_kwargs", where)
    metadata = part(config, "metadata", where)
    version = metadata.get("version")
    if version != TASK_VERSION:
        raise BadResults(
            f"{where}: the task's version is {reprlib.repr(version)}, and this leaderboard reads "
            f"{TASK_VERSION}; run the task again with this version of lm-eval-polyrefuse."
        )
    repeats = config.get("repeats")
    return Cell(
        dataset=text(prompts.get("family"), "family", where),
        language=text(prompts.get("lang"), "lang", where),
        harmful=False,
        judge=text(metadata.get("judge"), "judge", where),
        generation=identity.generation(document, config, arguments, where),
        rates={},
        n=0,
        responses=None,
        data_sha256=_checksums(metadata.get("sha256")),
        warnings=_limited(document, task),
        sampled=isinstance(repeats, int) and repeats > 1,
    )


def _judged_later(
    frame: Cell,
    file: ResultsFile,
    document: Mapping[str, Any],
    task: str,
    include_samples: bool,
    name: str,
) -> Cell | None:
    """Read a task with the labels of a later judge; None if the labels belong to another task.

    Args:
        frame: the task's `_frame`.
        name: the name of the file of labels.

    Raises:
        BadResults: the labels, or the samples that they label, cannot be used.
    """
    shown = str(Path(file.name).with_name(name))
    judged = read_judged(file.path.with_name(name), shown)
    if judged is None or judged.judging.task != task:
        return None
    judging = judged.judging
    logged = file.path.with_name(samples_file(task, file.date_id))
    if logged.name not in file.beside:
        raise BadResults(f"{shown} has no {logged.name} beside it; put the two into one folder.")
    logged_as = str(Path(file.name).with_name(logged.name))
    nothing: dict[str, Any] = {"doc": {}}
    where, first = next(lines(logged, logged_as), (logged_as, nothing))
    harmful = first["doc"].get("harmful")
    if not isinstance(harmful, bool):
        raise BadResults(f"{where}: harmful is {reprlib.repr(harmful)}, not a boolean; {AGAIN}")
    config = document["configs"][task]
    samples = read_samples(
        logged,
        logged_as,
        Asked(frame.language, judging.judge, harmful, judging.measures != "harm", frame.sampled),
        effective(config["generation_kwargs"]),
        include_samples=include_samples,
        judged=judged,
    )
    if not samples.responses:
        raise BadResults(f"{shown} labels no answer in {logged_as}; remove it.")
    unnamed = judging.languages is not None and frame.language not in judging.languages
    return replace(
        frame,
        harmful=harmful,
        judge=judging.judge,
        judge_revision=printable(", ".join(filter(None, _makers(judging)))),
        rates=_recomputed(samples.responses),
        n=len(samples.responses),
        responses=samples.responses,
        warnings=(
            *frame.warnings,
            *samples.warnings,
            *(_of_unnamed_language(judging.judge, frame.language) if unnamed else ()),
        ),
    )


def _makers(judging: Judging) -> Iterator[str]:
    """Yield the revisions of the judge and of a translation model before it."""
    yield judging.revision
    yield str(judging.settings.get("translation", ""))


def _of_unnamed_language(judge: str, language: str) -> Iterator[str]:
    yield (
        f"The card of judge {judge} does not name {language}: the judge may err more often in this "
        "language."
    )


def _recomputed(responses: Sequence[Response]) -> dict[str, float]:
    """Compute the rates of responses, in the order of `metrics.PRINTED`."""
    values = responses[0].values
    return {
        metric: fmean(response.values[metric] for response in responses)
        for metric in PRINTED
        if metric in values
    }


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= MOST_PROMPTS


def _limited(document: Mapping[str, Any], task: str) -> tuple[str, ...]:
    """Return a warning if a run used only some of a task's prompts."""
    limit = document["config"].get("limit")
    if not is_number(limit):
        return ()
    counts = document.get("n-samples")
    count = counts.get(task) if isinstance(counts, dict) else None
    if not isinstance(count, dict):
        return ()
    asked, every = count.get("effective"), count.get("original")
    if not _is_count(asked) or not _is_count(every) or asked >= every:
        return ()
    return (f"Only the first {asked} of {every} prompts were used (--limit {limit:g}).",)


def _is_harmful(config: Mapping[str, Any], rates: Mapping[str, float]) -> bool | None:
    """Return whether a task's prompts are harmful; None if it has rates of both kinds or neither.

    A judge that measures only harm gives harmless prompts no rate of their own. In this case the
    metrics that the task lists decide.
    """
    metrics = set(rates)
    if metrics.isdisjoint((*of_one_kind("harmful"), *of_one_kind("harmless"))):
        listed = config.get("metric_list")
        entries = listed if isinstance(listed, list) else []
        metrics = {str(entry.get("metric")) for entry in entries if isinstance(entry, dict)}
    harmful = not metrics.isdisjoint(of_one_kind("harmful"))
    harmless = not metrics.isdisjoint(of_one_kind("harmless"))
    return None if harmful == harmless else harmful


def _rates(outcome: Mapping[str, Any], where: str) -> dict[str, float]:
    rates = {}
    for metric in PRINTED:
        if metric_key(metric) in outcome:
            value = outcome[metric_key(metric)]
            if not is_number(value) or not 0 <= value <= 1:
                raise BadResults(
                    f"{where}: {metric} is {reprlib.repr(value)}, not a number from 0 to 1; {AGAIN}"
                )
            rates[metric] = float(value)
    return rates


def _count(outcome: Mapping[str, Any], where: str) -> int:
    n = outcome.get("sample_len")
    if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n <= MOST_PROMPTS:
        raise BadResults(
            f"{where}: sample_len is {reprlib.repr(n)}, not a number of prompts; {AGAIN}"
        )
    if n == 0:
        raise BadResults(f"{where}: its rates are computed from no prompts (n = 0); {AGAIN}")
    return n


def _checksums(sha256: Any) -> Mapping[str, str]:
    pairs = sha256.items() if isinstance(sha256, dict) else ()
    return _shared(
        tuple(
            (printable(name), printable(digest))
            for name, digest in pairs
            if isinstance(digest, str)
        )
    )


@lru_cache
def _shared(pairs: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    """Return a mapping that all cells with the same checksums share."""
    return dict(pairs)


def _checked(
    cell: Cell,
    file: ResultsFile,
    name: str,
    where: str,
    settings: Mapping[str, Any],
    include_samples: bool,
) -> Cell:
    """Add its samples to a cell, and recompute its rates from them.

    Raises:
        BadResults: the samples cannot be used, or they contradict the results.
    """
    on_refusal = any(METRICS[metric].measured_by == "refusal" for metric in cell.rates)
    asked = Asked(cell.language, cell.judge, cell.harmful, on_refusal, cell.sampled)
    shown = str(Path(file.name).with_name(name))
    logged = read_samples(
        file.path.with_name(name), shown, asked, settings, include_samples=include_samples
    )
    responses = logged.responses
    if len(responses) != cell.n:
        raise BadResults(
            f"{where} has n = {cell.n}, but {shown} has {len(responses)} prompts; {AGAIN}"
        )
    recomputed = _recomputed(responses)
    for metric, value in recomputed.items():
        claimed = cell.rates.get(metric, value)
        if abs(claimed - value) > ROUNDING:
            raise BadResults(
                f"{where}: {metric} is {claimed:.6g}, but the labels in {shown} give "
                f"{value:.6g}; {AGAIN}"
            )
    every = dict(cell.rates) | recomputed
    return replace(
        cell,
        rates={metric: every[metric] for metric in PRINTED if metric in every},
        responses=responses,
        warnings=(*cell.warnings, *logged.warnings),
    )
