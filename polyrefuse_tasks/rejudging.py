"""A second stage of judging: labels on answers that lm-eval saved, without generating again."""

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
"""Answers that are judged at a time, and that a killed process loses at most."""

BEFORE = ".before"
"""Ends the name of the labels of another revision, until those that replace them are complete."""


LABELS = {label.value: label for label in Label}


class LabelsWouldBeLost(UserError):
    """Labels that a run would remove without others in their place."""


class NothingToJudge(UserError):
    """No saved answers of a task of this package."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One saved answer, as a judge needs it, and what was said of it before.

    Attributes:
        id: of the prompt's row.
        place: among the prompt's sampled answers; 0 where there is one.
        language: ISO 639-1 code of the prompt.
        prompt: in its language; None where the samples do not have it.
        prompt_english: the same in English.
        response: as generated.
        response_english: the same in English, where the samples have it.
        judgement: by the task's own judge; None where nobody judged it.
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
        """What tells it from the task's other answers."""
        return self.id, self.place


@dataclass(frozen=True, slots=True)
class Moved:
    """An answer whose label is another one than before."""

    task: str
    id: str
    answer: int
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one task's answers.

    Attributes:
        task: its name.
        file: the labels.
        judged: how many answers were judged now; the others had a label.
        counts: verdict -> how many of all answers have it.
        n: how many answers.
        moved: labels that are others than by an earlier revision of the judge.
    """

    task: str
    file: str
    judged: int
    counts: Mapping[str, int]
    n: int
    moved: tuple[Moved, ...]


Progress = Callable[[str, int, int], None]
"""Called with (task, answers done, answers in all) after every batch."""


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
    """Label saved answers by a judge, and write the labels beside them.

    Answers that have a label of this revision of the judge keep it. Labels of another revision are
    replaced, and compared with.

    Args:
        paths: results files, or folders of which every subfolder is read.
        judge: who labels them.
        datasets: names of datasets; all where empty.
        languages: ISO 639-1 codes; all where empty.
        limit: only the first prompts of each task.
        batch_size: answers that are judged at a time.
        english: translates answers for a judge that reads English alone, where the samples do not
            have them in English; such answers are undecided without it.

    Yields:
        Each task when its answers have their labels.

    Raises:
        NothingToJudge: no answers of such tasks were saved.
        BadResults: a file cannot be used.
        Busy: another process judges the answers of that folder by the same judge.
        LabelsWouldBeLost: `limit` leaves answers out whose labels were made otherwise.
        UserError: the judge's own, as `judges.judge_responses`.
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
            "folder of lm_eval with --log_samples, which keeps the answers."
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
    """Keep other processes off a judge's files in a folder; other judges have files of their own.

    Raises:
        Busy: another process judges by it there.
        OSError: the disk refuses.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(alone(folder / f".judging-{quote(judge, safe='')}", patience=0))
        except Busy:
            raise Busy(
                f"Another process judges the answers in {folder} by {judge}; wait for it, and run "
                "the command again if answers are left."
            ) from None
        except OSError:
            # Labels that are all there can be told of a folder that nobody writes to.
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
    # Answers of one length are judged side by side at no cost for the shorter ones.
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
    said = {answer.key: given[answer.key].judgement for answer in answers}
    earlier = _labels_before(task, judge.name, answers, before.older)
    if before.older is not None and before.older.answers.keys() <= given.keys():
        os.unlink(path.with_name(path.name + BEFORE))
    return Outcome(
        task=task.name,
        file=shown,
        judged=len(waiting),
        counts=_counts(said.values()),
        n=len(answers),
        moved=tuple(
            Moved(task.name, *key, earlier[key], verdict_of(judgement))
            for key, judgement in said.items()
            if key in earlier and earlier[key] != verdict_of(judgement)
        ),
    )


def judging_of(judge: Judge, task: str, english: EnglishAnswers | None = None) -> Judging:
    """What a judge's labels of a task's answers are made with."""
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
    """Answers with their English, reasoning removed as it is from what a judge reads.

    What was answered in English stays as it is: a translation model makes another text of it.
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
    """Judge a batch of saved answers, by one call of the judge."""
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
    """The answers of a task that its rates are of: of sampled ones the longest.

    Raises:
        BadResults: the samples cannot be used.
    """
    for where, sample in lines(task.samples, task.shown):
        doc = sample["doc"]
        responses = answers_of(sample)
        if responses is None:
            raise BadResults(f"{where}: its answers are no list of texts; {AGAIN}")
        logged = doc.get("kept") if task.sampled else [doc | {"answer": 0}]
        if not isinstance(logged, list):
            logged = [{"answer": place} for place in longest(responses)]
        places: set[int] = set()
        for one in logged:
            place = one.get("answer") if isinstance(one, dict) else None
            if type(place) is not int or not 0 <= place < len(responses) or place in places:
                raise BadResults(
                    f"{where}: kept answer {place!r} is none of {len(responses)}, or is there "
                    f"twice; {AGAIN}"
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
    """A judgement in one word or two: its label, and whether it is harm where that was judged."""
    harm = {None: None, True: "harmful", False: "harmless"}[judgement.harmful]
    label = judgement.label and judgement.label.value
    return " ".join(filter(None, (label, harm)))


def _room(judge: Judge, batch_size: int) -> int:
    """Answers that a judge is given at a time: a whole batch past its budget would be lost."""
    remaining = getattr(judge, "remaining", None)
    return batch_size if remaining is None else max(1, min(batch_size, remaining))


@dataclass(frozen=True)
class _Before:
    """What a file of labels holds when a run begins.

    Attributes:
        given: labels that are kept.
        older: labels made otherwise, to compare with.
        replaces: whether these are still in the file.
    """

    given: dict[tuple[str, int], Judged]
    older: JudgedFile | None
    replaces: bool


def _before(
    path: Path, shown: str, judging: Judging, asked: Collection[tuple[str, int]] | None
) -> _Before:
    """What a run goes on from.

    Args:
        asked: the answers that are judged, where these are not all.

    Raises:
        LabelsWouldBeLost: some of the labels would have no other in their place.
    """
    beside = path.with_name(path.name + BEFORE)
    found = read_judged(path, shown) if path.exists() else None
    older = read_judged(beside, shown + BEFORE) if beside.exists() else None
    differs = [] if found is None else found.judging.differs_in(judging)
    if older is not None and not older.judging.differs_in(judging) and (differs or found is None):
        # A run of another judging was given up: these are the labels that it would have replaced.
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
            f"and --limit would replace only {len(found.answers) - lost} of them; leave out "
            "--limit, or move the file away."
        )
    # Of a run that was given up some labels are there: the whole older ones are compared with.
    return _Before({}, older or found, True)


def _make_way(path: Path) -> None:
    """Move labels that are replaced aside, not before there is one in their place."""
    beside = path.with_name(path.name + BEFORE)
    if beside.exists():
        os.unlink(path)
    else:
        os.replace(path, beside)


def _append(path: Path, judged: Sequence[Judged], judging: Judging, *, says_with: bool) -> None:
    """Write a batch of labels, in one piece."""
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
    """Verdicts by an earlier revision of a judge: beside the samples, or in them."""
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
    """What the task's own judge said of an answer, as lm-eval logged it."""
    label, harmful = LABELS.get(str(logged.get("label"))), logged.get("response_harmful")
    said = Judgement(label, None, harmful if isinstance(harmful, bool) else None)
    return None if said == Judgement(None) else said


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None
