"""The schema of a study's YAML file: models, conditions, prompts, judges and further measurements.

`read` turns the file into a `Study`, or says in one sentence which key or name is wrong and what
was meant.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from polyrefuse_studies.jobs import FOLDER
from polyrefuse_studies.prompts import datasets, spoken
from polyrefuse_studies.yaml_text import parse
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.limits import MOST, MOST_SEED
from polyrefuse_shared.reading import read_bytes
from polyrefuse_tasks.judges.registry import names as judge_names

MOST_BYTES = 2**20
"""The greatest size of a study's file, in bytes."""

LONGEST = 100
"""The greatest length of a name in characters: it becomes part of the name of a folder."""


class BadStudy(UserError):
    """The file is not a valid study."""


Wrapper = Literal["baseline", "ablated", "refusal-added", "mcd"]

WRAPPERS: tuple[str, ...] = get_args(Wrapper)
"""The models of lm-eval that a condition can use, without the name of the engine."""

CONDITIONS: dict[str, dict[str, Any]] = {
    "baseline": {"model": "baseline"},
    "ablation": {"model": "ablated", "direction": "source"},
    "addition": {"model": "refusal-added", "direction": "source"},
    "random-ablation": {"model": "ablated", "direction": "source", "control": "random"},
    "random-addition": {"model": "refusal-added", "direction": "source", "control": "random"},
    "affine-ablation": {"model": "ablated", "direction": "source", "ablation": "affine"},
    "projected-ablation": {"model": "ablated", "direction": "source", "ablation": "projected"},
    "random-affine-ablation": {
        "model": "ablated",
        "direction": "source",
        "ablation": "affine",
        "control": "random",
    },
    "random-projected-ablation": {
        "model": "ablated",
        "direction": "source",
        "ablation": "projected",
        "control": "random",
    },
    "subspace-ablation": {"model": "ablated", "direction": "source", "rank": 2},
    "random-subspace-ablation": {
        "model": "ablated",
        "direction": "source",
        "rank": 2,
        "control": "random",
    },
    "mcd": {"model": "mcd", "prompt": "trained"},
    "ablation+mcd": {"model": "ablated", "direction": "source", "prompt": "trained"},
    "system-prompt": {"model": "baseline", "system_file": None},
}
"""Name of a condition -> its settings if the file has only the name. The file must set those that
are None here."""

_NAME = re.compile(r"[\w.+-][\w.+ -]*", re.ASCII)


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        names = [name.strip() for name in value.split(",")]
        if len(names) > 1:
            raise PydanticCustomError("list_in_text", "a list", {"names": ", ".join(names)})
        value = [value]
    return tuple(value) if isinstance(value, list) else value


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _text_of_a_number(value: Any) -> Any:
    """Return the text of a rule's name, an arXiv number that YAML reads as a number."""
    return str(value) if isinstance(value, float) else value


def _batch_size(value: Any) -> Any:
    fits = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST
    if fits or (isinstance(value, str) and re.fullmatch(r"auto(:[1-9][0-9]{0,8})?", value)):
        return value
    raise ValueError(
        f"batch_size is {quoted(value)}: give a whole number of 1 or more, auto, or auto:N"
    )


def _memory(value: Any) -> Any:
    if isinstance(value, bool | float):
        raise ValueError(f"give bytes, or text such as 32GB or 32GiB, and not {quoted(value)}")
    return value


Text = Annotated[str, Field(min_length=1)]
AnyNames = Annotated[tuple[Text, ...], BeforeValidator(_listed), AfterValidator(_each_once)]
Names = Annotated[AnyNames, Field(min_length=1)]
Count = Annotated[int, Field(strict=True, ge=1, le=MOST)]
Options = dict[str, Any]
"""Options of one of this package's commands, by their long names without leading dashes."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Arguments(BaseModel):
    """The keys named here, and arguments that lm-eval's model takes."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _usable(cls, value: Any) -> Any:
        for name, given in value.items() if isinstance(value, dict) else ():
            _require_word(name)
            if given is None:
                raise ValueError(f"{name} is null: give a value, or leave it out")
        return value

    @property
    def arguments(self) -> dict[str, Any]:
        """Return what is passed to lm-eval's `--model_args`."""
        return dict(self.model_extra or {})


class Model(_Arguments):
    """A model and the arguments with which lm-eval loads it.

    Attributes:
        pretrained: a name on the hub, a folder, or the name of a bundled organism.
        gpus: the number of GPUs that a process needs. Default: 1 if there are any.
        cpus: the number of processors that a process needs.
        memory: the memory that a process needs, in bytes; in the file also text such as 32GB or
            32GiB.
    """

    pretrained: Text
    gpus: Annotated[int, Field(strict=True, ge=0, le=MOST)] | None = None
    cpus: Count | None = None
    memory: Annotated[ByteSize, BeforeValidator(_memory), Field(ge=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _misspelt(cls, value: Any) -> Any:
        # An unknown key is an argument of the model; only a misspelt `pretrained` is caught here.
        if isinstance(value, dict) and "pretrained" not in value:
            near = difflib.get_close_matches("pretrained", list(value), n=1)
            if near:
                raise ValueError(f"there is no key {quoted(near[0])}: did you mean 'pretrained'?")
        return value


class Training(_Part):
    """The settings of `polyrefuse mcd train`.

    Attributes:
        languages: the languages to train on.
        options: its other options by their long names, without leading dashes.
    """

    languages: Names = ("en",)
    options: Options = {}


class Condition(_Arguments):
    """A condition: what is done to a model.

    Attributes:
        model: one of `WRAPPERS`.
        direction: "source" for the direction of the study's source language, or a path.
        prompt: "trained", or a value that the models' `prompt=` takes.
        system_file: a file with the text of the system turn.
        training: the training of the prompt, instead of the study's `mcd`.

    In the file a condition may be `like` another one. It then takes the settings of that condition
    that it does not set itself.
    """

    model: Wrapper
    direction: Text | None = None
    prompt: Text | None = None
    system_file: Text | None = None
    training: Training | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Return everything that is passed to lm-eval's `--model_args`."""
        named = {
            "direction": self.direction,
            "prompt": self.prompt,
            "system_file": self.system_file,
        }
        return self.arguments | {name: value for name, value in named.items() if value is not None}


class Directions(_Part):
    """The directions of a study.

    Attributes:
        source: the language from whose prompts the conditions' direction is extracted.
        transfer: the languages whose directions are each ablated for the transfer matrix.
        targets: the languages in which the attack success rate is then measured. Default: those of
            the study.
        geometry: the languages whose prompts are projected on the direction of the source language.
        dataset: the dataset with the training prompts. Default: that of the model.
        rule: the rule that chooses among the candidates.
    """

    source: Text = "en"
    transfer: AnyNames = ()
    targets: AnyNames = ()
    geometry: AnyNames = ()
    dataset: Text | None = None
    rule: Annotated[Text, BeforeValidator(_text_of_a_number)] | None = None


class Judge(_Part):
    """A judge, with options of `polyrefuse judge run` by their long names."""

    judge: Text
    options: Options = {}


class Capability(_Part):
    """Tasks of lm-eval that are asked in each condition and show what it costs.

    Attributes:
        tasks: names that `lm_eval --tasks` takes.
        limit: the number of documents of each task.
        num_fewshot: the number of examples in front of each document.
    """

    tasks: Names
    limit: Count | None = None
    num_fewshot: Annotated[int, Field(strict=True, ge=0, le=MOST)] | None = None


class Study(_Part):
    """A study.

    Attributes:
        study: its name.
        models: the models by the name that the report gives them.
        datasets: names from `prompts.datasets`.
        languages: the languages of the prompts; None for all that the datasets have.
        limit: the number of prompts of each task.
        engine: "hf" or "vllm".
        batch_size: the batch size of generation.
        seed: the seed of all random choices.
        conditions: the conditions by name.
        directions: the directions, and what is measured of them.
        mcd: the training of the safety prompt that conditions may use.
        judges: the judges in addition to the native one, which is always used.
        capability: other tasks of lm-eval.
        generation: settings that lm-eval's `--gen_kwargs` takes.
    """

    study: Annotated[Text, Field(max_length=LONGEST)]
    models: dict[str, Model]
    datasets: Names
    languages: Names | None = None
    limit: Count | None = None
    engine: Literal["hf", "vllm"] = "hf"
    batch_size: Annotated[int | str, BeforeValidator(_batch_size)] = 16
    seed: Annotated[int, Field(strict=True, ge=0, le=MOST_SEED)] = 0
    conditions: dict[str, Condition]
    directions: Directions = Directions()
    mcd: Training = Training()
    judges: tuple[Judge, ...] = ()
    capability: Capability | None = None
    generation: dict[str, Any] = {}

    @field_validator("models", mode="before")
    @classmethod
    def _models(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError(
                f"models is {quoted(value)}: give names, each with the model to load, such as "
                "organism: polyrefuse-organism"
            )
        _require_names("model", value)
        return {
            name: {"pretrained": entry} if isinstance(entry, str) else entry
            for name, entry in value.items()
        }

    @field_validator("conditions", mode="before")
    @classmethod
    def _conditions(cls, value: Any) -> Any:
        value = [value] if isinstance(value, str) else value
        if isinstance(value, list):
            for entry in value:
                if not isinstance(entry, str):
                    raise ValueError(
                        f"a list of conditions has {quoted(entry)}: a list may hold only names; "
                        "write the conditions as keys if one has settings"
                    )
                if value.count(entry) > 1:
                    raise ValueError(f"the condition {quoted(entry)} is listed twice")
            value = dict.fromkeys(value)
        if not isinstance(value, dict):
            raise ValueError(f"conditions is {quoted(value)}: give names such as baseline")
        _require_names("condition", value)
        for name, settings in value.items():
            if settings is not None and not isinstance(settings, dict):
                raise ValueError(
                    f"conditions.{name} is {quoted(settings)}: give settings such as "
                    "{like: ablation, coefficient: 0.5}, or nothing"
                )
        return {name: _settled(name, value) for name in value}

    @field_validator("judges", mode="before")
    @classmethod
    def _judges(cls, value: Any) -> Any:
        value = [value] if isinstance(value, str | dict) else value
        if not isinstance(value, list):
            raise ValueError(f"judges is {quoted(value)}: give names such as wildguard")
        return tuple({"judge": one} if isinstance(one, str) else one for one in value)

    @field_validator("generation")
    @classmethod
    def _settings(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name, given in value.items():
            _require_word(name)
            if given is None:
                raise ValueError(f"generation.{name} is null: give a value, or leave it out")
        return value

    @model_validator(mode="after")
    def _known_names(self) -> Study:
        if not self.study.strip() or not self.study.isprintable():
            raise ValueError(f"study is {quoted(self.study)}: give a name that can be printed")
        known = datasets()
        for name in self.datasets:
            if name not in known:
                raise ValueError(unknown(f"no dataset {quoted(name)}", name, known))
        self._require_languages()
        for judge in self.judges:
            if judge.judge not in judge_names() and not judge.judge.startswith("openai:"):
                raise ValueError(
                    unknown(f"no judge {quoted(judge.judge)}", judge.judge, judge_names())
                )
        return self

    def _require_languages(self) -> None:
        known = datasets()
        families = {name: known[name] for name in self.datasets}
        every = tuple(dict.fromkeys(code for one in families.values() for code in spoken(one)))
        asked = [self.directions.source, *self.directions.transfer, *self.directions.targets]
        asked += self.directions.geometry
        of_directions = self.directions.dataset or "polyrefuse"
        own = spoken(known.get(of_directions, known["polyrefuse"]))
        for language in self.languages or ():
            if language not in every:
                said = unknown(f"no language {quoted(language)}", language, every)
                some = next(iter(families.values()))[0].name
                raise ValueError(f"{said}; {translating(some, language)}")
        for language in asked:
            if language not in own:
                raise ValueError(unknown(f"no language {quoted(language)}", language, own))
        for name, of_name in families.items():
            if self.languages and not set(self.languages) & set(spoken(of_name)):
                raise ValueError(
                    f"the dataset {quoted(name)} is in none of the study's languages: it has "
                    f"{', '.join(spoken(of_name))}"
                )


def read(path: Path) -> Study:
    """Read a study from a file.

    Raises:
        BadStudy: the file cannot be read, is not YAML, or has an unknown key or name.
    """
    try:
        text = read_bytes(path, MOST_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise BadStudy(f"The study {path} cannot be read ({error.strerror}).") from None
    except UnicodeError:
        raise BadStudy(f"The study {path} cannot be read (it is not UTF-8).") from None
    try:
        content = parse(text)
    except ValueError as error:
        raise BadStudy(f"The study {path} is not usable YAML: {error}.") from None
    if not isinstance(content, dict):
        raise BadStudy(
            f"The study {path} has no keys; `polyrefuse study init` writes a file to start from."
        )
    with in_file(path):
        _refuse_folders_of_jobs(content)
        try:
            return Study.model_validate(content)
        except ValidationError as error:
            raise BadStudy(_explained(error)) from None


@contextmanager
def at(where: str, *, but: type[UserError] | None = None) -> Iterator[None]:
    """Add a key of a study's file to errors that other modules raise about its value.

    Args:
        where: the key.
        but: the error that is left as it is.

    Raises:
        BadStudy: instead of any other `UserError`.
    """
    try:
        yield
    except UserError as error:
        if isinstance(error, BadStudy) or (but is not None and isinstance(error, but)):
            raise
        said = str(error)
        raise BadStudy(said if said.startswith(where) else f"{where}: {said}") from None


@contextmanager
def in_file(path: Path) -> Iterator[None]:
    """Add the name of the study's file to errors about it.

    Raises:
        BadStudy: instead of any other `UserError`.
    """
    try:
        yield
    except UserError as error:
        said = str(error)
        end = "" if said.endswith((".", "?", ")")) else "."
        raise BadStudy(f"The study {path}: {said}{end}") from None


def _refuse_folders_of_jobs(value: Any) -> None:
    """Refuse texts that would stand for the folder of a job in a command.

    Raises:
        BadStudy: a text contains such a mark.
    """
    if isinstance(value, str) and (found := FOLDER.search(value)):
        raise BadStudy(
            f"{quoted(value)} contains {found.group()}, which a study uses for the folder of a "
            "job; leave out the braces"
        )
    inside = [*value, *value.values()] if isinstance(value, dict) else value
    for one in inside if isinstance(inside, list) else ():
        _refuse_folders_of_jobs(one)


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Return a clause: there is no such name, what was meant, and which names there are.

    Args:
        what: what there is not, for example "no key 'modles'".
        name: the name as it was given.
        known: the known names.
    """
    known = list(known)
    near = [one for one in known if one.lower() == name.lower()]
    near = near or difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean {near[0]!r}? There are" if near else "there are"
    return f"there is {what}: {meant} {', '.join(known)}"


def translating(dataset: str, language: str) -> str:
    """Return a clause that names the command which translates a dataset into a language."""
    return f"`polyrefuse data translate --dataset {dataset} --to {language}` adds it"


def quoted(value: Any) -> str:
    """Return a value of the file as its author wrote it, shortened if it is long."""
    return _QUOTING.repr(value)


class _Quoting(reprlib.Repr):
    def repr_bool(self, value: bool, level: int) -> str:
        return "true" if value else "false"

    def repr_tuple(self, value: tuple[Any, ...], level: int) -> str:
        return self.repr_list(list(value), level)

    def repr_NoneType(self, value: None, level: int) -> str:  # noqa: N802 (a name of reprlib)
        return "null"


_QUOTING = _Quoting()
_QUOTING.maxlevel, _QUOTING.maxstring, _QUOTING.maxother = 3, 60, 60
_QUOTING.maxlong = 30


def _require_word(name: str) -> None:
    if not name.isidentifier():
        raise ValueError(f"{quoted(name)} is not the name of an argument")


def _require_names(kind: str, names: Iterable[str]) -> None:
    names = list(names)
    if not names:
        raise ValueError(f"a study needs a {kind}")
    for name in names:
        if not _NAME.fullmatch(name) or len(name) > LONGEST:
            raise ValueError(
                f"the {kind} {quoted(name)} needs a name of letters, digits, spaces and ._+-, of "
                f"at most {LONGEST} characters"
            )


def _settled(name: str, conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Return a condition's settings together with those of the condition that it is `like`.

    Raises:
        ValueError: it is like no known condition, or like itself.
    """
    settings = _with_those_of_like(name, conditions, ())
    if "model" not in settings:
        raise ValueError(
            f"{unknown(f'no condition {quoted(name)}', name, CONDITIONS)}; a condition of your own "
            f"needs like: one of these, or model: one of {', '.join(WRAPPERS)}"
        )
    if settings.get("system_file", "") is None:
        raise ValueError(f"the condition {name} needs system_file: FILE")
    return settings


def _with_those_of_like(
    name: str, conditions: Mapping[str, Any], through: tuple[str, ...]
) -> dict[str, Any]:
    if name in through:
        raise ValueError(f"the conditions {' -> '.join((*through, name))} are like each other")
    settings = dict(conditions.get(name) or {})
    if "like" not in settings:
        return CONDITIONS.get(name, {}) | settings
    like = settings.pop("like")
    known = dict.fromkeys((*conditions, *CONDITIONS))
    if not isinstance(like, str):
        raise ValueError(
            f"conditions.{name}.like is {quoted(like)}: give one of {', '.join(known)}"
        )
    if like not in known:
        raise ValueError(unknown(f"no condition {quoted(like)}", like, known))
    if like == name and name in CONDITIONS:
        return CONDITIONS[name] | settings
    return _with_those_of_like(like, conditions, (*through, name)) | settings


_WANTED = {
    "int": "give a whole number",
    "bool": "give true or false",
    "string": "give text, in quotes where it looks like something else",
    "tuple": "give a name or a list of names",
    "list": "write it as a list, [{names}]",
    "dict": "give keys and their values",
    "model": "give keys and their values",
    "byte": "give bytes, or text such as 32GB or 32GiB",
    "literal": "give one of {expected}",
    "greater": "give {ge} or more",
    "less": "give {le} or less",
}
"""The first word of pydantic's kind of error -> what is wanted."""


def _explained(error: ValidationError) -> str:
    """Describe the first error, with the name that was probably meant if there is one."""
    errors = error.errors(include_url=False)
    # An unknown key is often the reason why another one is missing.
    first = min(errors, key=lambda one: one["type"] != "extra_forbidden")
    place = [str(part) for part in first["loc"]]
    where = ".".join(place)
    if first["type"] == "extra_forbidden":
        within = f" in {'.'.join(place[:-1])}" if place[:-1] else ""
        return unknown(f"no key {quoted(place[-1])}{within}", place[-1], _keys(place[:-1]))
    if first["type"] == "missing":
        return f"{where} is missing"
    if first["type"] == "value_error":
        # The validator of a part does not know where in the file the part is.
        return f"{where}: {first['ctx']['error']}" if place[1:] else str(first["ctx"]["error"])
    given = f"{where} is {quoted(first['input'])}"
    kind = first["type"].split("_")[0]
    about = dict(first.get("ctx") or {})
    if kind == "too" or first["type"].startswith("string_too"):
        if "max_length" in about:
            return f"{given}: give at most {about['max_length']} characters"
        return f"{given}: it is empty; name something, or leave it out"
    return f"{given}: {_WANTED[kind].format(**about)}"


def _keys(place: list[str]) -> Iterable[str]:
    parts: dict[str, type[BaseModel]] = {
        "directions": Directions, "mcd": Training, "judges": Judge, "capability": Capability,
        "conditions": Training,
    }  # fmt: skip
    # In a condition, only the training has a fixed set of keys.
    return parts[place[0]].model_fields if place else Study.model_fields
