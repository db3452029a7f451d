"""What a file of published answers holds, whatever its format."""

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
"""Bytes of a file of answers, at most."""

NAME = r".*\S.*"
FORMS: dict[str, tuple[str, str]] = {
    "id": (NAME, "a name"),
    "judge": (NAME, "a name"),
    "condition": (NAME, "a name"),
    # The name of a folder is made of it, and dots alone are the name of another one.
    "model": (r"(?!\.+$)" + NAME, "a name"),
    # Names of files are made of these two.
    "dataset": (r"\w[\w.-]*", "a name of letters, digits, hyphens, dots and underscores"),
    "language": (r"[a-z]{2,3}", "an ISO 639-1 code such as de"),
}
"""What each name has to match, and how a message puts it."""


class BadAnswers(UserError):
    """A file that does not hold answers in the format that was named."""


@dataclass(frozen=True)
class About:
    """What the user says of a file.

    Attributes:
        model: whose answers they are; None where the file says it.
        condition: what was done to the model; None where the file says it.
        language: ISO 639-1 code of the prompts; None where the file says it.
        dataset: name of the dataset; None where the file says it, or for the default.
        harmless: whether the prompts are harmless.
    """

    model: str | None = None
    condition: str | None = None
    language: str | None = None
    dataset: str | None = None
    harmless: bool = False

    def name(self, name: str, of_file: str | None, path: Path) -> str:
        """The model, condition, language or dataset: as the user says, or as the file does.

        Args:
            name: of the entry.
            of_file: what the file, or its format, says.
            path: of the file.

        Raises:
            BadAnswers: neither says it, or it is no name.
        """
        given: str | None = getattr(self, name)
        value = of_file if given is None else given
        if value is None:
            raise BadAnswers(f"{path} does not say the {name}: name it with --{name}.")
        return checked(name, value, str(path))


@dataclass(frozen=True)
class Published:
    """One published answer.

    Attributes:
        prompt: in its language.
        response: to it.
        judgements: by the name of each judge that labelled it.
        response_english: a translation of the response.
        prompt_english: the prompt that `prompt` is a translation of.
        id: of the prompt, which its translations have too; None where the file gives it none.
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
        model: its name.
        condition: what was done to it.
        intervention: what tells it from others of that condition, as results name it.
        dataset: name of the dataset.
        language: ISO 639-1 code of the prompts.
        harmful: whether the prompts are.
        made: when, as `20250519-232436`; "" where that is not known.
        file: the file, and its checksum.
        answers: in the order of the file.
        ids: of the answers' prompts. Equal ids in two languages are translations of one prompt.
        measures: what each judge's labels say, by its name.
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
        """Name of the task that asks these prompts."""
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
    """A run of a file: what the user said of it, or what the file or its format says.

    Args:
        path: of the file.
        about: what the user said; it goes first.
        answers, file, measures, made: as of `PublishedRun`.
        model, condition, dataset, language: that the file says, or its format. Where nobody names
            the dataset it is `harmful`, or `harmless` where the user says that the prompts are.
        intervention: under a condition other than the baseline.
        in_order: whether the file lists the test rows of the dataset in their order, in every
            language the same, so that an answer's place tells whose answer it is.

    Raises:
        BadAnswers: nobody says one of them, one of them is no name, `--harmless` contradicts the
            dataset, or an id is there twice.
    """
    by_default = "harmless" if about.harmless else "harmful"
    said = {
        "model": about.name("model", model, path),
        "condition": about.name("condition", condition, path),
        "dataset": about.name("dataset", dataset or by_default, path),
        "language": about.name("language", language, path),
    }
    ours = catalogue.datasets().get(said["dataset"])
    if about.harmless and ours is not None and ours.harmful:
        raise BadAnswers(
            f"{path}: the prompts of dataset {ours.name!r} are harmful ones, and --harmless says "
            "that they are not; leave it out, or name another dataset with --dataset."
        )
    # Ids of our own rows begin with the name of their dataset, and none of ours is "imported".
    unpaired = f"imported/{said['dataset']}/{said['language']}"
    places = f"{said['dataset']}/test" if in_order else unpaired
    ids = [
        f"{places}/{place:04}" if answer.id is None else answer.id
        for place, answer in enumerate(answers)
    ]
    twice = next((id_ for id_, count in Counter(ids).items() if count > 1), None)
    if twice is not None:
        raise BadAnswers(
            f"{path} has the id {twice!r} twice in language {said['language']!r}; give each "
            "prompt an id of its own."
        )
    return PublishedRun(
        **said,
        intervention={} if said["condition"] == "baseline" else intervention or {},
        harmful=not about.harmless if ours is None else ours.harmful,
        made=made,
        file=file,
        answers=answers,
        ids=ids,
        measures=measures,
    )


def read_file(path: Path) -> tuple[Any, dict[str, str]]:
    """What a JSON file holds, and its name and checksum.

    Raises:
        BadAnswers: it cannot be read, or is no JSON.
    """
    content, told = read_content(path)
    try:
        return parse_json(content), told
    except ValueError as error:
        raise BadAnswers(f"{path} is not JSON ({error}); name a file of answers.") from None


def read_content(path: Path) -> tuple[bytes, dict[str, str]]:
    """The bytes of a file, and its name and checksum.

    Raises:
        BadAnswers: it cannot be read.
    """
    try:
        content = read_bytes(path, AT_MOST)
    except OSError as error:
        raise BadAnswers(f"{path} cannot be read ({error.strerror}); name a file.") from None
    return content, {"name": path.name, "sha256": hashlib.sha256(content).hexdigest()}


def entries(document: Any, name: str, path: Path) -> list[dict[str, Any]]:
    """The list of objects under a name of a document.

    Raises:
        BadAnswers: there is none, or it is empty.
    """
    rows = document.get(name) if isinstance(document, dict) else None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise BadAnswers(f"{path} has no list {name!r} of answers; check --format.")
    return rows


def text_in(row: Mapping[str, Any], name: str, where: str) -> str:
    """A text of a row.

    Raises:
        BadAnswers: there is none.
    """
    value = row.get(name)
    if not isinstance(value, str):
        raise BadAnswers(f"{where} has no text {name!r}; check --format.")
    return value


def text_or_none(row: Mapping[str, Any], name: str, where: str) -> str | None:
    """A text of a row; None where it is null or missing.

    Raises:
        BadAnswers: it is something else.
    """
    return None if row.get(name) is None else text_in(row, name, where)


def name_or_none(row: Mapping[str, Any], name: str, where: str) -> str | None:
    """A text of a row that `FORMS` knows; None where it is null or missing.

    Raises:
        BadAnswers: it is something else, or does not match.
    """
    value = text_or_none(row, name, where)
    return None if value is None else checked(name, value, where)


def object_in(row: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """An object of a row; an empty one where it is null or missing.

    Raises:
        BadAnswers: it is something else.
    """
    value = row.get(name)
    if value is not None and not isinstance(value, dict):
        raise BadAnswers(f"{where}: {name} is {reprlib.repr(value)}, no object; check --format.")
    return value or {}


def checked(name: str, value: str, where: str) -> str:
    """A name that may be written into results, and into the names of their files.

    Raises:
        BadAnswers: it may not.
    """
    form, put = FORMS[name]
    if not value.isprintable() or not re.fullmatch(form, value):
        raise BadAnswers(f"{where}: the {name} {value!r} is not {put}; give one.")
    return value


def flag_in(row: Mapping[str, Any], name: str, where: str) -> bool | None:
    """A label of a row: true, false, 1 or 0; None where it is null or missing, and so undecided.

    Raises:
        BadAnswers: it is something else.
    """
    value = row.get(name)
    if value is None:
        return None
    if not isinstance(value, bool | int | float) or value not in (0, 1):
        raise BadAnswers(f"{where}: {name} is {reprlib.repr(value)}, not 0 or 1; check --format.")
    return bool(value)


def on_refusal(refused: bool | None) -> Judgement:
    """A judgement on refusal alone."""
    if refused is None:
        return UNDECIDED
    return Judgement(Label.REFUSAL if refused else Label.COMPLIANCE, PUBLISHED)


def on_harm(harmful: bool | None) -> Judgement:
    """A judgement on harm alone."""
    return UNDECIDED if harmful is None else Judgement(None, PUBLISHED, harmful)


def on_both(refused: bool | None, harmful: bool | None) -> Judgement:
    """A judgement on both."""
    label = on_refusal(refused).label
    return Judgement(label, PUBLISHED, harmful)


PUBLISHED = "published label"
UNDECIDED = Judgement(Label.UNDECIDED, "no published label")
