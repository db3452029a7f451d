"""The content of a file of published answers, whatever its format."""

from __future__ import annotations

import hashlib
import re
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.reading import parse_json, read_bytes
from polyrefuse_tasks.data import catalogue
from polyrefuse_tasks.judges.contract import Measure
from polyrefuse_tasks.judges.labels import Judgement, Label

AT_MOST = 2**31
"""The largest size of a file of answers, in bytes."""

NAME = r".*\S.*"
FORMS: dict[str, tuple[str, str]] = {
    "id": (NAME, "a name"),
    "judge": (NAME, "a name"),
    "condition": (NAME, "a name"),
    # It becomes the name of a folder, and dots alone would name another folder.
    "model": (r"(?!\.+$)" + NAME, "a name"),
    # These two become parts of file names.
    "dataset": (r"\w[\w.-]*", "a name of letters, digits, hyphens, dots and underscores"),
    "language": (r"[a-z]{2,3}", "an ISO 639-1 code such as de"),
}
"""The pattern that each name must match, and its description in messages."""


class BadAnswers(UserError):
    """A file does not hold answers in the named format."""


@dataclass(frozen=True)
class About:
    """What the user says about a file.

    Attributes:
        model: the model that answered; None if the file says it.
        condition: what was done to the model; None if the file says it.
        language: the ISO 639-1 code of the prompts; None if the file says it.
        dataset: the name of the dataset; None if the file says it, or for the default.
        harmless: whether the prompts are harmless.
    """

    model: str | None = None
    condition: str | None = None
    language: str | None = None
    dataset: str | None = None
    harmless: bool = False

    def name(self, name: str, of_file: str | None, path: Path) -> str:
        """Return the model, condition, language or dataset that the user or the file gives.

        Args:
            name: the name of the entry.
            of_file: the value that the file or its format gives.
            path: the path of the file.

        Raises:
            BadAnswers: neither gives a value, or the value is not a name.
        """
        given: str | None = getattr(self, name)
        value = of_file if given is None else given
        if value is None:
            raise BadAnswers(f"{path} does not name the {name}: give it with --{name}.")
        return checked(name, value, str(path))


@dataclass(frozen=True)
class Published:
    """One published answer.

    Attributes:
        prompt: the prompt in its language.
        response: the answer to it.
        judgements: the judgements by the name of the judge.
        response_english: the answer in English.
        prompt_english: the prompt in English.
        id: the id that the prompt shares with its translations; None if the file gives none.
    """

    prompt: str
    response: str
    judgements: Mapping[str, Judgement] = field(default_factory=dict)
    response_english: str | None = None
    prompt_english: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class PublishedRun:
    """The answers of one model to one dataset in one language.

    Attributes:
        model: the name of the model.
        condition: what was done to the model.
        intervention: the fields of results that identify the intervention within the condition.
        dataset: the name of the dataset.
        language: the ISO 639-1 code of the prompts.
        harmful: whether the prompts are harmful.
        made: the time of the run, such as `20250519-232436`; "" if unknown.
        file: the file and its checksum.
        answers: the answers in the order of the file.
        ids: the ids of the prompts. Equal ids in two languages mark translations of one prompt.
        measures: what each judge measures, by its name.
    """

    model: str
    condition: str
    intervention: Mapping[str, Any]
    dataset: str
    language: str
    harmful: bool
    made: str
    file: Mapping[str, str]
    answers: Sequence[Published]
    ids: Sequence[str]
    measures: Mapping[str, Measure]

    @property
    def task(self) -> str:
        """The name of the task that asks these prompts."""
        return f"polyrefuse_{self.dataset}_{self.language}"


def run_of(
    path: Path,
    about: About,
    answers: Sequence[Published],
    file: Mapping[str, str],
    measures: Mapping[str, Measure],
    *,
    model: str | None = None,
    condition: str | None = None,
    dataset: str | None = None,
    language: str | None = None,
    intervention: Mapping[str, Any] | None = None,
    made: str = "",
    in_order: bool = False,
) -> PublishedRun:
    """Build a run from what the user, the file and its format say.

    Args:
        path: the path of the file.
        about: what the user says, which takes precedence.
        answers, file, measures, made: see `PublishedRun`.
        model, condition, dataset, language: the values that the file or its format gives. Without
            any, the dataset is `harmful`, or `harmless` if the user says that the prompts are.
        intervention: the intervention of a condition other than the baseline.
        in_order: whether the file lists the test rows of the dataset in the same order in every
            language, so that the place of an answer identifies its prompt.

    Raises:
        BadAnswers: a value is missing or is not a name, `--harmless` contradicts the dataset, or an
            id occurs twice.
    """
    by_default = "harmless" if about.harmless else "harmful"
    names = {
        "model": about.name("model", model, path),
        "condition": about.name("condition", condition, path),
        "dataset": about.name("dataset", dataset or by_default, path),
        "language": about.name("language", language, path),
    }
    ours = catalogue.datasets().get(names["dataset"])
    if about.harmless and ours is not None and ours.harmful:
        raise BadAnswers(
            f"{path}: the prompts of dataset {ours.name!r} are harmful, but --harmless says that "
            "they are not: leave it out, or name another dataset with --dataset."
        )
    # Ids of our own rows begin with the name of their dataset, and no dataset is "imported".
    unpaired = f"imported/{names['dataset']}/{names['language']}"
    places = f"{names['dataset']}/test" if in_order else unpaired
    ids = [
        f"{places}/{place:04}" if answer.id is None else answer.id
        for place, answer in enumerate(answers)
    ]
    twice = next((id_ for id_, count in Counter(ids).items() if count > 1), None)
    if twice is not None:
        raise BadAnswers(
            f"{path} has the id {twice!r} twice in language {names['language']!r}; give each "
            "prompt an id of its own."
        )
    return PublishedRun(
        **names,
        intervention={} if names["condition"] == "baseline" else intervention or {},
        harmful=not about.harmless if ours is None else ours.harmful,
        made=made,
        file=file,
        answers=answers,
        ids=ids,
        measures=measures,
    )


def read_file(path: Path) -> tuple[Any, dict[str, str]]:
    """Read the content of a JSON file, and its name and checksum.

    Raises:
        BadAnswers: the file cannot be read or is not JSON.
    """
    content, file = read_content(path)
    try:
        return parse_json(content), file
    except ValueError as error:
        raise BadAnswers(f"{path} is not JSON ({error}); name a file of answers.") from None


def read_content(path: Path) -> tuple[bytes, dict[str, str]]:
    """Read the bytes of a file, and its name and checksum.

    Raises:
        BadAnswers: the file cannot be read.
    """
    try:
        content = read_bytes(path, AT_MOST)
    except OSError as error:
        raise BadAnswers(f"{path} cannot be read ({error.strerror}); name another file.") from None
    return content, {"name": path.name, "sha256": hashlib.sha256(content).hexdigest()}


def entries(document: Any, name: str, path: Path) -> list[dict[str, Any]]:
    """Return the list of objects under a name of a document.

    Raises:
        BadAnswers: the list is missing or empty.
    """
    rows = document.get(name) if isinstance(document, dict) else None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise BadAnswers(f"{path} has no list {name!r} of answers; check --format.")
    return rows


def text_in(row: Mapping[str, Any], name: str, where: str) -> str:
    """Return a text of a row.

    Raises:
        BadAnswers: the row has no such text.
    """
    value = row.get(name)
    if not isinstance(value, str):
        raise BadAnswers(f"{where} has no text {name!r}; check --format.")
    return value


def text_or_none(row: Mapping[str, Any], name: str, where: str) -> str | None:
    """Return a text of a row; None if it is null or missing.

    Raises:
        BadAnswers: the value is something else.
    """
    return None if row.get(name) is None else text_in(row, name, where)


def name_or_none(row: Mapping[str, Any], name: str, where: str) -> str | None:
    """Return a text of a row that matches its pattern in `FORMS`; None if null or missing.

    Raises:
        BadAnswers: the value is something else or does not match.
    """
    value = text_or_none(row, name, where)
    return None if value is None else checked(name, value, where)


def object_in(row: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """Return an object of a row, which is empty if it is null or missing.

    Raises:
        BadAnswers: the value is something else.
    """
    value = row.get(name)
    if value is not None and not isinstance(value, dict):
        raise BadAnswers(
            f"{where}: {name} is {reprlib.repr(value)}, not an object; check --format."
        )
    return value or {}


def checked(name: str, value: str, where: str) -> str:
    """Return a name after checking that results and the names of their files may contain it.

    Raises:
        BadAnswers: they may not.
    """
    form, put = FORMS[name]
    if not value.isprintable() or not re.fullmatch(form, value):
        raise BadAnswers(f"{where}: the {name} {value!r} is not {put}: give one.")
    return value


def flag_in(row: Mapping[str, Any], name: str, where: str) -> bool | None:
    """Return a label of a row (true, false, 1 or 0); None, which is undecided, if null or missing.

    Raises:
        BadAnswers: the value is something else.
    """
    value = row.get(name)
    if value is None:
        return None
    if not isinstance(value, bool | int | float) or value not in (0, 1):
        raise BadAnswers(f"{where}: {name} is {reprlib.repr(value)}, not 0 or 1; check --format.")
    return bool(value)


def on_refusal(refused: bool | None) -> Judgement:
    """Return the judgement of a refusal judge."""
    if refused is None:
        return UNDECIDED
    return Judgement(Label.REFUSAL if refused else Label.COMPLIANCE, PUBLISHED)


def on_harm(harmful: bool | None) -> Judgement:
    """Return the judgement of a harm judge."""
    return UNDECIDED if harmful is None else Judgement(None, PUBLISHED, harmful)


def on_both(refused: bool | None, harmful: bool | None) -> Judgement:
    """Return the judgement of a judge of refusal and harm."""
    label = on_refusal(refused).label
    return Judgement(label, PUBLISHED, harmful)


PUBLISHED = "published label"
UNDECIDED = Judgement(Label.UNDECIDED, "no published label")
