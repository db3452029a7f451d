"""The labels of a judge beside the answers that lm-eval saved: judged_<judge>_<task>_<date>.jsonl.

Each answer has one line, which is appended when the judge gives the label. A killed process
therefore loses only what it had not written yet. The first line that a process writes describes in
`judging` how the labels were made.
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
"""The end of a message on a damaged file of labels: what to do about it."""

_LABELS: dict[Any, Label | None] = {None: None} | {label.value: label for label in Label}


@dataclass(frozen=True, slots=True)
class Judging:
    """The judge and the settings with which the labels of a file were made.

    Attributes:
        judge: the name of the judge.
        task: the task whose answers were judged.
        measures: what the judge measures.
        revision: the revision of the judge, and of its model if it has one.
        languages: the ISO 639-1 codes that its card names; None if it names none.
        settings: what else decides its labels: a translation model or the rule of a paper.
        versions: the versions of the packages that it ran with.
    """

    judge: str
    task: str
    measures: Measure
    revision: str
    languages: tuple[str, ...] | None
    settings: Mapping[str, Any]
    versions: Mapping[str, str]

    def differs_in(self, other: Judging) -> list[str]:
        """List the fields and settings that may make its labels differ from those of another."""
        ours, theirs = (
            {"judge": one.judge, "task": one.task, "revision": one.revision, **one.settings}
            for one in (self, other)
        )
        return sorted(
            name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """The judgement of one answer.

    Attributes:
        id: the id of the prompt's row.
        answer: the place among the sampled answers to the prompt; 0 for a single answer.
        judgement: the judgement of the judge.
        response_language: the ISO 639-1 code of the answer's language.
    """

    id: str
    answer: int
    judgement: Judgement
    response_language: str


@dataclass(frozen=True)
class JudgedFile:
    """A file of labels.

    Attributes:
        judging: how its last lines were made.
        answers: the judgements by prompt and place of the answer.
        size: the number of bytes of its complete lines; a cut line may follow them.
    """

    judging: Judging
    answers: Mapping[tuple[str, int], Judged]
    size: int

    @functools.cached_property
    def by_prompt(self) -> Mapping[str, list[Judged]]:
        """The judgements by the id of the prompt, in the order of the answers."""
        prompts: dict[str, list[Judged]] = defaultdict(list)
        for key in sorted(self.answers):
            prompts[key[0]].append(self.answers[key])
        return prompts


def judged_file(judge: str, task: str, date: str) -> str:
    """Return the name of the file of a judge's labels beside the samples of a task and date.

    Characters that a file name cannot hold are escaped as in a URL, so `openai:a/b` and
    `openai:a-b` have different files.
    """
    return f"judged_{quote(judge, safe='')}_{task}_{date}.jsonl"


def judged_beside(names: Iterable[str], task: str, date: str) -> list[str]:
    """List the files among `names` that may hold labels of a task's answers, sorted.

    The name of a task may end with the name of another task. `Judging.task` distinguishes them.
    """
    ends = f"_{task}_{date}.jsonl"
    return sorted(name for name in names if name.startswith("judged_") and name.endswith(ends))


def encode(judged: Judged, revision: str, judging: Judging | None = None) -> bytes:
    """Encode one line of a file of labels.

    Args:
        judged: the judgement of one answer.
        revision: the revision of the judge.
        judging: how the labels were made, for the first line that a process writes.
    """
    judgement = judged.judgement
    line = {
        "id": judged.id,
        "answer": judged.answer,
        "label": judgement.label and judgement.label.value,
        "harm": judgement.harmful,
        "evidence": judgement.evidence,
        "response_language": judged.response_language,
        "revision": revision,
    }
    if judging is not None:
        line["judging"] = asdict(judging)
    # A model may write half of a surrogate pair, which UTF-8 cannot encode.
    return json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def read_judged(path: Path, name: str) -> JudgedFile | None:
    """Read a file of labels; None if it has no labels.

    A last line without its end was cut, and is left out.

    Args:
        path: the file.
        name: its name in messages.

    Raises:
        BadResults: the file cannot be read or a line cannot be used. The message names the line,
            counted from 1.
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
                        raise BadResults(f"{where} is not a line of labels; {AGAIN}")
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
                    raise BadResults(f"{where}: {judged.id!r} occurs twice; {AGAIN}")
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
            f"{where} was labelled with another {', '.join(differs)} than the lines before; {AGAIN}"
        )
    return judging


def relabelled(
    doc: Mapping[str, Any], judged: JudgedFile, *, sampled: bool
) -> dict[str, Any] | None:
    """Return a row as lm-eval would have logged it if this judge had labelled its answers.

    Returns:
        The row; None if the judge has not labelled every answer that the row's rates count.
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
    """Remove what follows the complete lines of a file."""
    if path.stat().st_size > size:
        os.truncate(path, size)


def _judging(value: Any, where: str) -> Judging:
    if not isinstance(value, dict):
        raise BadResults(f"{where}: judging is {reprlib.repr(value)}, not an object; {AGAIN}")
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
            f"{where}: revision is {reprlib.repr(line.get('revision'))}, which differs from that "
            f"in judging; {AGAIN}"
        )
    on_refusal, on_harm = judging.measures != "harm", judging.measures != "refusal"
    # A harm judge gives a label only to undecided and degenerate answers.
    labels = set(_LABELS) - {None} if on_refusal else {None, "degenerate", "undecided"}
    if not isinstance(label, str | None) or label not in labels:
        known = ", ".join("null" if one is None else one for one in sorted(labels, key=str))
        raise BadResults(f"{where}: label is {reprlib.repr(label)}, not one of {known}; {AGAIN}")
    fits = harmful is None or (on_harm and isinstance(harmful, bool))
    if not fits or (label is None and harmful is None):
        raise BadResults(
            f"{where}: harm is {reprlib.repr(harmful)}, which does not fit label {label}; {AGAIN}"
        )
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
