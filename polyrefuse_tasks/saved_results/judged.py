"""Labels of a judge beside the answers that lm-eval saved: judged_<judge>_<task>_<date>.jsonl.

One line an answer, appended as the judge gives it, so that a process that is killed loses what was
not written yet and nothing else. The first line that a process writes says in `judging` what the
labels were made with.
"""

from __future__ import annotations

import functools
import json
import os
import reprlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from polyrefuse_shared.reading import regular_file
from polyrefuse_tasks.judges.contract import MEASURES, Measure
from polyrefuse_tasks.judges.labels import Judgement, Label
from polyrefuse_tasks.saved_results import documents
from polyrefuse_tasks.saved_results.documents import BadResults, parse, text
from polyrefuse_tasks.saved_results.samples import AT_MOST, LONGEST_LINE

AGAIN = "remove it and run `polyrefuse judge run` again."
"""What to do about a file of labels that is damaged."""

_LABELS: dict[Any, Label | None] = {None: None} | {label.value: label for label in Label}


@dataclass(frozen=True, slots=True)
class Judging:
    """What the labels of a file were made with.

    Attributes:
        judge: its name.
        task: whose answers it judged.
        measures: what its judgements say.
        revision: of the judge, and of its model where it has one.
        languages: ISO 639-1 codes that its card names; None where the judge names none.
        settings: what else decides its labels: a translation model, a rule of a paper.
        versions: of the packages that it ran with.
    """

    judge: str
    task: str
    measures: Measure
    revision: str
    languages: tuple[str, ...] | None
    settings: Mapping[str, Any]
    versions: Mapping[str, str]

    def differs_in(self, other: Judging) -> list[str]:
        """What may make its labels others than another one's: fields, and names of settings."""
        ours, theirs = (
            {"judge": one.judge, "task": one.task, "revision": one.revision, **one.settings}
            for one in (self, other)
        )
        return sorted(
            name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer's judgement.

    Attributes:
        id: of the prompt's row.
        answer: the answer's place among the prompt's sampled ones; 0 where there is one.
        judgement: what the judge said.
        response_language: ISO 639-1 code of the language that the answer is in.
    """

    id: str
    answer: int
    judgement: Judgement
    response_language: str


@dataclass(frozen=True)
class JudgedFile:
    """A file of labels.

    Attributes:
        judging: what its last lines were made with.
        answers: by prompt and place of the answer.
        size: bytes of its whole lines; a line that was cut off is behind them.
    """

    judging: Judging
    answers: Mapping[tuple[str, int], Judged]
    size: int

    @functools.cached_property
    def by_prompt(self) -> Mapping[str, list[Judged]]:
        """The judgements of each prompt's answers, by its id, in the order of the answers."""
        prompts: dict[str, list[Judged]] = defaultdict(list)
        for key in sorted(self.answers):
            prompts[key[0]].append(self.answers[key])
        return prompts


def judged_file(judge: str, task: str, date: str) -> str:
    """Name of the file of a judge's labels, beside the samples of that task and date.

    What a file's name cannot hold is escaped as in an address, so that `openai:a/b` and
    `openai:a-b` have files of their own.
    """
    return f"judged_{quote(judge, safe='')}_{task}_{date}.jsonl"


def judged_beside(names: Iterable[str], task: str, date: str) -> list[str]:
    """The files among `names` that may hold labels of a task's answers, sorted.

    A task's name may end with another's: `Judging.task` tells whose they are.
    """
    ends = f"_{task}_{date}.jsonl"
    return sorted(name for name in names if name.startswith("judged_") and name.endswith(ends))


def encode(judged: Judged, revision: str, judging: Judging | None = None) -> bytes:
    """One line of a file of labels.

    Args:
        revision: of the judge.
        judging: in the first line that a process writes.
    """
    said = judged.judgement
    line = {
        "id": judged.id,
        "answer": judged.answer,
        "label": said.label and said.label.value,
        "harm": said.harmful,
        "evidence": said.evidence,
        "response_language": judged.response_language,
        "revision": revision,
    }
    if judging is not None:
        line["judging"] = asdict(judging)
    # Half of a surrogate pair, which a model may write, can be in no UTF-8.
    return json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def read_judged(path: Path, name: str) -> JudgedFile | None:
    """A file of labels; None where it holds none.

    A last line without its end was cut off, and is left out.

    Args:
        name: what the file is called in messages.

    Raises:
        BadResults: it cannot be read, or a line cannot be used; names the line, from 1.
    """
    judging: Judging | None = None
    answers: dict[tuple[str, int], Judged] = {}
    size = 0
    try:
        with regular_file(path, AT_MOST) as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), 1):
                where = f"{name}, line {number}"
                if not line.endswith(b"\n"):
                    if len(line) > LONGEST_LINE or b"\r" in line:
                        raise BadResults(f"{where} is no line of labels; {AGAIN}")
                    break
                size += len(line)
                if not line.strip():
                    continue
                read = parse(line, where)
                if "judging" in read or judging is None:
                    judging = _of_one_judge(judging, _judging(read.get("judging"), where), where)
                judged = _judged(read, judging, where)
                key = judged.id, judged.answer
                if key in answers:
                    raise BadResults(f"{where}: {judged.id!r} is there twice; {AGAIN}")
                answers[key] = judged
    except OSError as error:
        raise BadResults(f"{name} cannot be read ({error.strerror}); {AGAIN}") from None
    except BadResults as error:
        raise BadResults(str(error).replace(documents.AGAIN, AGAIN)) from None
    return None if judging is None else JudgedFile(judging, answers, size)


def _of_one_judge(before: Judging | None, judging: Judging, where: str) -> Judging:
    differs = [] if before is None else judging.differs_in(before)
    if differs:
        raise BadResults(
            f"{where} is labelled by another {', '.join(differs)} than the lines before; {AGAIN}"
        )
    return judging


def relabelled(
    doc: Mapping[str, Any], judged: JudgedFile, *, sampled: bool
) -> dict[str, Any] | None:
    """A row as lm-eval would have logged it, had this judge labelled its answers.

    Returns:
        None where the judge has not labelled every answer that the row's rates are of.
    """
    ours = judged.by_prompt.get(str(doc.get("id")), [])
    logged = [_logged(one, judged.judging) for one in ours]
    row = dict(doc) | {"judge": judged.judging.judge}
    if not sampled:
        return row | logged[0] if logged else None
    wanted = doc.get("kept")
    if not logged or (isinstance(wanted, list) and len(logged) < len(wanted)):
        return None
    kept = [{"answer": one.answer} | each for one, each in zip(ours, logged, strict=True)]
    return row | {"kept": kept}


def cut_to(path: Path, size: int) -> None:
    """Remove what stands behind the whole lines of a file."""
    if path.stat().st_size > size:
        os.truncate(path, size)


def _judging(value: Any, where: str) -> Judging:
    if not isinstance(value, dict):
        raise BadResults(
            f"{where}: judging is {reprlib.repr(value)}, not what the labels were made with; "
            f"{AGAIN}"
        )
    measures = value.get("measures")
    if measures not in MEASURES:
        raise BadResults(
            f"{where}: measures is {reprlib.repr(measures)}, not one of {', '.join(MEASURES)}; "
            f"{AGAIN}"
        )
    languages = value.get("languages")
    settings, versions = value.get("settings"), value.get("versions")
    return Judging(
        judge=text(value.get("judge"), "judge", where),
        task=text(value.get("task"), "task", where),
        measures=cast(Measure, measures),
        revision=text(value.get("revision"), "revision", where),
        languages=tuple(map(str, languages)) if isinstance(languages, list) else None,
        settings=settings if isinstance(settings, dict) else {},
        versions=versions if isinstance(versions, dict) else {},
    )


def _judged(line: Mapping[str, Any], judging: Judging, where: str) -> Judged:
    label, harmful, place = line.get("label"), line.get("harm"), line.get("answer", 0)
    if line.get("revision") != judging.revision:
        raise BadResults(
            f"{where}: revision is {reprlib.repr(line.get('revision'))}, not that of judging; "
            f"{AGAIN}"
        )
    on_refusal, on_harm = judging.measures != "harm", judging.measures != "refusal"
    # A judge of harm alone labels what it did not decide, and what is no answer.
    labels = set(_LABELS) - {None} if on_refusal else {None, "degenerate", "undecided"}
    if not isinstance(label, str | None) or label not in labels:
        known = ", ".join("null" if one is None else one for one in sorted(labels, key=str))
        raise BadResults(f"{where}: label is {reprlib.repr(label)}, not one of {known}; {AGAIN}")
    fits = harmful is None or (on_harm and isinstance(harmful, bool))
    if not fits or (label is None and harmful is None):
        raise BadResults(f"{where}: harm is {reprlib.repr(harmful)} beside label {label}; {AGAIN}")
    if type(place) is not int or place < 0:
        raise BadResults(f"{where}: answer is {reprlib.repr(place)}, not a place from 0; {AGAIN}")
    evidence = line.get("evidence")
    return Judged(
        id=text(line.get("id"), "id", where),
        answer=place,
        judgement=Judgement(
            _LABELS[label], evidence if isinstance(evidence, str) else None, harmful
        ),
        response_language=text(line.get("response_language"), "response_language", where),
    )


def _logged(one: Judged, judging: Judging) -> dict[str, Any]:
    label = one.judgement.label and one.judgement.label.value
    logged: dict[str, Any] = {"label": label, "response_language": one.response_language}
    if judging.measures != "refusal":
        logged["response_harmful"] = one.judgement.harmful
    return logged
