"""What a file of published answers holds, whatever its format."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.reading import parse_json, read_bytes
from polyrefuse_tasks.judges.contract import Measure
from polyrefuse_tasks.judges.labels import Judgement, Label

AT_MOST = 2**31
"""Bytes of a file of answers, at most."""


class BadAnswers(UserError):
    """A file that does not hold answers in the format that was named."""


@dataclass(frozen=True)
class About:
    """What a file does not say of itself.

    Attributes:
        model: whose answers they are; None where the file says it.
        condition: what was done to the model; None where the file says it.
        language: ISO 639-1 code of the prompts; None where the file says it.
        dataset: name of the data set.
        harmful: whether its prompts are.
    """

    model: str | None = None
    condition: str | None = None
    language: str | None = None
    dataset: str = "harmful"
    harmful: bool = True

    def required(self, name: str, path: Path) -> str:
        """An entry that the file does not say.

        Raises:
            BadAnswers: it was not given.
        """
        value = getattr(self, name)
        if value is None:
            raise BadAnswers(f"{path} does not say the {name}: name it with --{name}.")
        return str(value)


@dataclass(frozen=True)
class Published:
    """One published answer.

    Attributes:
        prompt: in its language.
        response: to it.
        judgements: by the name of each judge that labelled it.
        response_english: a translation of the response.
    """

    prompt: str
    response: str
    judgements: Mapping[str, Judgement] = field(default_factory=dict)
    response_english: str | None = None


@dataclass(frozen=True)
class PublishedRun:
    """The answers of one model to one data set in one language.

    Attributes:
        model: its name.
        condition: what was done to it.
        intervention: what tells it from others of that condition, as results name it.
        dataset: name of the data set.
        language: ISO 639-1 code of the prompts.
        harmful: whether the prompts are.
        made: when, as `20250519-232436`; "" where that is not known.
        file: the file, and its checksum.
        answers: in the order of the data set.
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
    measures: Mapping[str, Measure]


def run_of(
    path: Path,
    about: About,
    answers: Sequence[Published],
    file: Mapping[str, str],
    measures: Mapping[str, Measure],
    *,
    model: str | None = None,
    language: str | None = None,
    condition: str = "baseline",
    intervention: Mapping[str, Any] | None = None,
    made: str = "",
) -> PublishedRun:
    """A run of a file: what the user said of it, or what the file itself says.

    Args:
        path: of the file.
        about: what the user said; it goes first.
        answers, file, measures, made: as of `PublishedRun`.
        model: that the file names.
        language: that the file names; English where neither does.
        condition: that the file names.
        intervention: under a condition other than the baseline.

    Raises:
        BadAnswers: nobody names the model.
    """
    condition = about.condition or condition
    return PublishedRun(
        model=about.model or model or about.required("model", path),
        condition=condition,
        intervention={} if condition == "baseline" else intervention or {},
        dataset=about.dataset,
        language=about.language or language or "en",
        harmful=about.harmful,
        made=made,
        file=file,
        answers=answers,
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


def flag_in(row: Mapping[str, Any], name: str, where: str) -> bool | None:
    """A label of a row: true, false, 1 or 0; None where it is null or missing, and so undecided.

    Raises:
        BadAnswers: it is something else.
    """
    value = row.get(name)
    if value is None:
        return None
    if not isinstance(value, bool | int | float) or value not in (0, 1):
        raise BadAnswers(f"{where}: {name} is {value!r}, not 0 or 1; check --format.")
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
