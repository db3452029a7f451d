"""Label the answers that lm-eval saved in a second stage, without generating again."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from polyrefuse_shared.drafts import Busy, alone
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.versions import versions
from polyrefuse_shared.writing import cannot_write
from polyrefuse_tasks.english_answers import EnglishAnswers
from polyrefuse_tasks.harness import longest
from polyrefuse_tasks.judges import Judge, Judgement, Label, judge_responses
from polyrefuse_tasks.judges.reasoning import strip_reasoning
from polyrefuse_tasks.judges.registry import revision_of
from polyrefuse_tasks.language_identification import response_language
from polyrefuse_tasks.saved_results.documents import AGAIN, BadResults, printable, text
from polyrefuse_tasks.saved_results.folders import find_results
from polyrefuse_tasks.saved_results.judged import (
    Judged,
    JudgedFile,
    Judging,
    cut_to,
    encode,
    judged_file,
    read_judged,
)
from polyrefuse_tasks.saved_results.samples import answers_of, lines
from polyrefuse_tasks.saved_results.tasks import SavedTask, read_results, saved_tasks

_log = logging.getLogger(__name__)

BATCH = 32
"""The number of answers that are judged at a time, which is also the most that a killed process
loses."""

BEFORE = ".before"
"""The ending of a file of labels of another revision, until the labels that replace them are
complete."""


LABELS = {label.value: label for label in Label}


class LabelsWouldBeLost(UserError):
    """A run would remove labels without replacing them."""


class NothingToJudge(UserError):
    """There are no saved answers of a task of this package."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One saved answer with everything that a judge needs, and its earlier judgement.

    Attributes:
        id: the id of the prompt's row.
        place: the place among the sampled answers to the prompt; 0 for a single answer.
        language: the ISO 639-1 code of the prompt.
        prompt: the prompt in its language; None if the samples do not have it.
        prompt_english: the prompt in English, or None.
        response: the answer as generated.
        response_english: the answer in English, if the samples have it.
        judgement: the judgement of the task's own judge; None without one.
    """

    id: str
    place: int
    language: str
    prompt: str | None
    prompt_english: str | None
    response: str
    response_english: str | None
    judgement: Judgement | None

    @property
    def key(self) -> tuple[str, int]:
        """The id and place, which identify the answer within its task."""
        return self.id, self.place


@dataclass(frozen=True, slots=True)
class Moved:
    """An answer whose verdict differs from the earlier one."""

    task: str
    id: str
    answer: int
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of judging one task's answers.

    Attributes:
        task: the name of the task.
        file: the file of the labels.
        judged: the number of answers that were judged now; the others already had a label.
        counts: verdict -> the number of answers that have it.
        n: the number of answers.
        moved: verdicts that differ from those of an earlier revision of the judge.
    """

    task: str
    file: str
    judged: int
    counts: Mapping[str, int]
    n: int
    moved: tuple[Moved, ...]


Progress = Callable[[str, int, int], None]
"""A function that is called with (task, judged answers, all answers) after every batch."""


def rejudge(
    paths: Sequence[Path],
    judge: Judge,
    *,
    datasets: Collection[str] = (),
    languages: Collection[str] = (),
    limit: int | None = None,
    batch_size: int = BATCH,
    english: EnglishAnswers | None = None,
    progress: Progress = lambda task, done, total: None,
) -> Iterator[Outcome]:
    """Label saved answers with a judge, and write the labels beside them.

    Answers keep a label that this revision of the judge gave. Labels of another revision are
    replaced, and the differences are reported.

    Args:
        paths: results files, or folders, whose subfolders are read as well.
        judge: the judge that labels the answers.
        datasets: names of datasets; empty for all.
        languages: ISO 639-1 codes; empty for all.
        limit: the number of prompts of each task whose answers are judged, counted from the first;
            None for all.
        batch_size: the number of answers to judge at a time.
        english: translates answers for a judge that reads only English, unless the samples have
            them in English. Without it, such answers are undecided.
        progress: the function to call after each batch; see `Progress`.

    Yields:
        The outcome of each task, when all its answers have labels.

    Raises:
        NothingToJudge: no answers of such tasks were saved.
        BadResults: a file cannot be used.
        Busy: another process uses the same judge in that folder.
        CannotWrite: the labels cannot be written.
        LabelsWouldBeLost: `limit` leaves out answers that have labels of another revision.
        UserError: the judge cannot be used; see `judges.judge_responses`.
    """
    problems: list[str] = []
    every = [
        (file, list(saved_tasks(file, read_results(file))))
        for file in find_results(paths, problems)
    ]
    saved = [task for _, tasks in every for task in tasks]
    if not saved:
        raise NothingToJudge(
            " ".join(problems)
            or f"{', '.join(map(str, paths))}: no samples to judge; name a results file or a "
            "folder that lm_eval wrote with --log_samples, which saves the answers."
        )
    _check_choice("--datasets", datasets, {task.dataset for task in saved})
    _check_choice("--languages", languages, {task.language for task in saved})
    for problem in problems:
        _log.warning("%s", problem)
    for file, tasks in every:
        chosen = [
            task
            for task in tasks
            if (not datasets or task.dataset in datasets)
            and (not languages or task.language in languages)
        ]
        if not chosen:
            continue
        try:
            with _alone_with(judge.name, file.path.parent):
                for task in chosen:
                    yield _rejudge(task, judge, limit, batch_size, english, progress)
        except OSError as error:
            raise cannot_write(file.path.parent, error) from None


@contextmanager
def _alone_with(judge: str, folder: Path) -> Iterator[None]:
    """Keep other processes from the files of a judge in a folder; each judge has its own files.

    Raises:
        Busy: another process uses the same judge there.
        OSError: the folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(alone(folder / f".judging-{quote(judge, safe='')}", patience=0))
        except Busy:
            raise Busy(
                f"Another process judges the answers in {folder} with {judge}: wait until it ends, "
                "and run the command again if answers without a label are left."
            ) from None
        except OSError:
            # A folder that cannot be written may already have all labels.
            if os.access(folder, os.W_OK):
                raise
        yield


def _check_choice(option: str, given: Collection[str], there: Collection[str]) -> None:
    unknown = [name for name in given if name not in there]
    if unknown:
        raise NothingToJudge(
            f"{option}: the results have no samples of {', '.join(map(printable, unknown))}; they "
            f"have {', '.join(sorted(there))}."
        )


def _rejudge(
    task: SavedTask,
    judge: Judge,
    limit: int | None,
    batch_size: int,
    english: EnglishAnswers | None,
    progress: Progress,
) -> Outcome:
    answers = list(read_answers(task))
    if limit is not None:
        first = set(list(dict.fromkeys(answer.id for answer in answers))[:limit])
        answers = [answer for answer in answers if answer.id in first]
    if not judge.english_only:
        english = None
    judging = judging_of(judge, task.name, english)
    path = task.samples.with_name(judged_file(judge.name, task.name, task.date))
    shown = str(Path(task.shown).with_name(path.name))
    asked = {answer.key for answer in answers}
    before = _before(path, shown, judging, None if limit is None else asked)
    given = before.given
    waiting = [answer for answer in answers if answer.key not in given]
    # Answers of similar length in one batch waste no padding.
    waiting.sort(key=lambda answer: len(answer.response))
    kept = len(answers) - len(waiting)
    progress(task.name, kept, len(answers))
    begin = 0
    while begin < len(waiting):
        batch = waiting[begin : begin + _room(judge, batch_size)]
        judged = judge_answers(batch if english is None else in_english(batch, english), judge)
        if before.replaces and begin == 0:
            _make_way(path)
        _append(path, judged, judging, says_with=begin == 0)
        given |= {(one.id, one.answer): one for one in judged}
        begin += len(batch)
        progress(task.name, kept + begin, len(answers))
    judgements = {answer.key: given[answer.key].judgement for answer in answers}
    earlier = _labels_before(task, judge.name, answers, before.older)
    if before.older is not None and before.older.answers.keys() <= given.keys():
        os.unlink(path.with_name(path.name + BEFORE))
    return Outcome(
        task=task.name,
        file=shown,
        judged=len(waiting),
        counts=_counts(judgements.values()),
        n=len(answers),
        moved=tuple(
            Moved(task.name, *key, earlier[key], verdict_of(judgement))
            for key, judgement in judgements.items()
            if key in earlier and earlier[key] != verdict_of(judgement)
        ),
    )


def judging_of(judge: Judge, task: str, english: EnglishAnswers | None = None) -> Judging:
    """Describe the judge and the settings with which a task's answers are labelled."""
    translation = {} if english is None else {"translation": english.revision}
    return Judging(
        judge=judge.name,
        task=task,
        measures=judge.measures,
        revision=revision_of(judge),
        languages=getattr(judge, "languages", None),
        settings=getattr(judge, "settings", {}) | translation,
        versions=versions(),
    )


def in_english(answers: Sequence[Answer], english: EnglishAnswers) -> list[Answer]:
    """Add the English text to answers, without reasoning, which is removed for judges too.

    An answer in English stays as it is, because a translation model would change it.
    """
    translated = list(answers)
    waiting: dict[str, list[int]] = defaultdict(list)
    for place, answer in enumerate(answers):
        if answer.response_english is not None or answer.language == "en":
            continue
        if response_language(answer.response, answer.language) == "en":
            translated[place] = replace(answer, response_english=_read(answer))
        else:
            waiting[answer.language].append(place)
    for language, places in sorted(waiting.items()):
        texts = [_read(answers[place]) for place in places]
        for place, answer_english in zip(places, english.translate(texts, language), strict=True):
            translated[place] = replace(answers[place], response_english=answer_english)
    return translated


def _read(answer: Answer) -> str:
    return strip_reasoning(answer.response) or ""


def judge_answers(answers: Sequence[Answer], judge: Judge) -> list[Judged]:
    """Judge a batch of saved answers with one call of the judge."""
    judgements = judge_responses(
        [answer.response for answer in answers],
        [answer.language for answer in answers],
        [answer.prompt for answer in answers],
        judge=judge,
        responses_translated=[answer.response_english for answer in answers],
        prompts_translated=[answer.prompt_english for answer in answers],
    )
    return [
        Judged(
            answer.id,
            answer.place,
            judgement,
            response_language(answer.response, answer.language),
        )
        for answer, judgement in zip(answers, judgements, strict=True)
    ]


def read_answers(task: SavedTask) -> Iterator[Answer]:
    """Yield the answers that a task's rates count: for sampled answers, the longest ones.

    Raises:
        BadResults: the samples cannot be used.
    """
    for where, sample in lines(task.samples, task.shown):
        doc = sample["doc"]
        responses = answers_of(sample)
        if responses is None:
            raise BadResults(f"{where}: its answers are not a list of texts; {AGAIN}")
        logged = doc.get("kept") if task.sampled else [doc | {"answer": 0}]
        if not isinstance(logged, list):
            logged = [{"answer": place} for place in longest(responses)]
        places: set[int] = set()
        for one in logged:
            place = one.get("answer") if isinstance(one, dict) else None
            if type(place) is not int or not 0 <= place < len(responses) or place in places:
                raise BadResults(
                    f"{where}: kept answer {place!r} is none of {len(responses)}, or occurs twice; "
                    f"{AGAIN}"
                )
            places.add(place)
            yield Answer(
                id=text(doc.get("id"), "id", where),
                place=place,
                language=text(doc.get("language"), "language", where),
                prompt=_text_or_none(doc.get("prompt")),
                prompt_english=_text_or_none(doc.get("prompt_en")),
                response=responses[place],
                response_english=_text_or_none(doc.get("response_translated")),
                judgement=_logged_judgement(one),
            )


def verdict_of(judgement: Judgement) -> str:
    """Write a judgement in one or two words: its label, and harmful or harmless if known."""
    harm = {None: None, True: "harmful", False: "harmless"}[judgement.harmful]
    label = judgement.label and judgement.label.value
    return " ".join(filter(None, (label, harm)))


def _room(judge: Judge, batch_size: int) -> int:
    """Return the size of the next batch: a batch beyond the judge's budget would be lost."""
    remaining = getattr(judge, "remaining", None)
    return batch_size if remaining is None else max(1, min(batch_size, remaining))


@dataclass(frozen=True)
class _Before:
    """The content of a file of labels when a run begins.

    Attributes:
        given: labels that are kept.
        older: labels of another revision, with which the new ones are compared.
        replaces: whether the older labels are still in the file.
    """

    given: dict[tuple[str, int], Judged]
    older: JudgedFile | None
    replaces: bool


def _before(
    path: Path, shown: str, judging: Judging, asked: Collection[tuple[str, int]] | None
) -> _Before:
    """Return the labels from which a run continues.

    Args:
        path: the file of labels.
        shown: its name in messages.
        judging: how this run judges.
        asked: the answers that are judged; None for all.

    Raises:
        LabelsWouldBeLost: some of the labels would not be replaced.
    """
    beside = path.with_name(path.name + BEFORE)
    found = read_judged(path, shown) if path.exists() else None
    older = read_judged(beside, shown + BEFORE) if beside.exists() else None
    differs = [] if found is None else found.judging.differs_in(judging)
    if older is not None and not older.judging.differs_in(judging) and (differs or found is None):
        # A run with other settings was given up, and these are the labels that it was to replace.
        os.replace(beside, path)
        found, older, differs = older, None, []
    if found is None or not differs:
        if path.exists():
            cut_to(path, 0 if found is None else found.size)
        return _Before({} if found is None else dict(found.answers), older, False)
    lost = 0 if asked is None else len(found.answers.keys() - asked)
    if lost:
        raise LabelsWouldBeLost(
            f"{shown} holds {len(found.answers)} labels made with another {', '.join(differs)}, "
            f"and --limit would replace only {len(found.answers) - lost} of them: leave out "
            "--limit, or move the file away."
        )
    # A run that was given up left some labels; the complete older ones are the ones to compare.
    return _Before({}, older or found, True)


def _make_way(path: Path) -> None:
    """Move aside the labels that are replaced, once there is a first new one."""
    beside = path.with_name(path.name + BEFORE)
    if beside.exists():
        os.unlink(path)
    else:
        os.replace(path, beside)


def _append(path: Path, judged: Sequence[Judged], judging: Judging, *, says_with: bool) -> None:
    """Append a batch of labels in one piece."""
    batch = b"".join(
        encode(one, judging.revision, judging if says_with and place == 0 else None)
        for place, one in enumerate(judged)
    )
    try:
        file: BinaryIO
        with open(path, "ab") as file:
            file.write(batch)
    except OSError as error:
        raise cannot_write(path, error) from None


def _labels_before(
    task: SavedTask, judge: str, answers: Sequence[Answer], older: JudgedFile | None
) -> dict[tuple[str, int], str]:
    """Return the verdicts of an earlier revision of a judge, beside the samples or in them."""
    if older is not None:
        return {key: verdict_of(one.judgement) for key, one in older.answers.items()}
    if task.judge != judge:
        return {}
    return {
        answer.key: verdict_of(answer.judgement)
        for answer in answers
        if answer.judgement is not None
    }


def _counts(judgements: Collection[Judgement]) -> dict[str, int]:
    counts: dict[str, Any] = {label.value: 0 for label in Label}
    for judgement in judgements:
        if judgement.label is not None:
            counts[judgement.label.value] += 1
        if judgement.harmful is not None:
            name = "harmful" if judgement.harmful else "harmless"
            counts[name] = counts.get(name, 0) + 1
    return counts


def _logged_judgement(logged: Mapping[str, Any]) -> Judgement | None:
    """Return the judgement of the task's own judge on an answer, as lm-eval logged it."""
    label, harmful = LABELS.get(str(logged.get("label"))), logged.get("response_harmful")
    judgement = Judgement(label, None, harmful if isinstance(harmful, bool) else None)
    return None if judgement == Judgement(None) else judgement


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None
