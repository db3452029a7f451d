"""What a study's YAML file may say: models, conditions, prompts, judges, and what else is measured.

`read` turns the file into a `Study`, or says in one sentence which key or name is wrong and what
was meant.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from polyrefuse_studies.prompts import DATASETS, LANGUAGES
from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from polyrefuse_shared.errors import UserError, first_line
from polyrefuse_shared.reading import read_bytes
from polyrefuse_tasks.judges.registry import names as judge_names

MOST_BYTES = 2**20
"""Of a study's file."""


class BadStudy(UserError):
    """A file that is no study."""


CONDITIONS: dict[str, dict[str, Any]] = {
    "baseline": {"model": "baseline"},
    "ablation": {"model": "ablated", "direction": "source"},
    "addition": {"model": "refusal-added", "direction": "source"},
    "random-ablation": {"model": "ablated", "direction": "source", "control": "random"},
    "random-addition": {"model": "refusal-added", "direction": "source", "control": "random"},
    "mcd": {"model": "mcd", "prompt": "trained"},
    "ablation+mcd": {"model": "ablated", "direction": "source", "prompt": "trained"},
    "system-prompt": {"model": "baseline"},
}
"""What a condition is where the study's file has only its name; `system-prompt` needs a text."""

WRAPPERS = ("baseline", "ablated", "refusal-added", "mcd")
"""The models of lm-eval that a condition may be, without the name of the engine."""

_NAME = re.compile(r"[\w.+-][\w.+ -]*", re.ASCII)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Arguments(BaseModel):
    """Keys that are named here, and arguments that lm-eval's model takes."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @property
    def arguments(self) -> dict[str, Any]:
        """What goes to lm-eval's `--model_args`."""
        return dict(self.model_extra or {})


class Model(_Arguments):
    """A model, and the arguments with which lm-eval loads it.

    Attributes:
        pretrained: name on the hub, a folder, or a bundled organism.
        gpus: that a process of it needs; 1 by default where there are any.
        cpus: processors that a process of it needs.
        memory: bytes that a process of it needs; in the file also text such as 32GB or 32GiB.
    """

    pretrained: str
    gpus: int | None = Field(default=None, ge=0)
    cpus: int | None = Field(default=None, ge=1)
    memory: ByteSize | None = Field(default=None, ge=1)


class Condition(_Arguments):
    """What is done to a model.

    Attributes:
        model: one of `WRAPPERS`.
        direction: "source", the language whose direction it is, or a path.
        prompt: "trained", or what `prompt=` of the models takes.
        system_file: a file with the text of the system turn.

    In the file a condition may be `like` another, whose settings it has unless it has its own.
    """

    model: Literal["baseline", "ablated", "refusal-added", "mcd"]
    direction: str | None = None
    prompt: str | None = None
    system_file: str | None = None


class Directions(_Part):
    """Attributes:
    source: the language whose prompts the conditions' direction is extracted from.
    transfer: languages whose directions are each ablated, for the transfer matrix.
    targets: languages in which attack success is then measured; the study's own by default.
    geometry: languages whose prompts are laid along the source's direction.
    dataset: whose training prompts; by default the model's own.
    rule: that chooses among candidates.
    """

    source: str = "en"
    transfer: Names = ()
    targets: Names = ()
    geometry: Names = ()
    dataset: str | None = None
    rule: str | None = None


class Training(_Part):
    """What `polyrefuse mcd train` is asked for.

    Attributes:
        languages: to train on.
        options: its other options by their long names, without dashes in front.
    """

    languages: Names = ("en",)
    options: dict[str, str | int | float | bool] = {}


class Judge(_Part):
    """A judge, and options of `polyrefuse judge run` by their long names."""

    judge: str
    options: dict[str, str | int | float | bool] = {}


class Capability(_Part):
    """Tasks of lm-eval that are asked under each condition, to see what it costs.

    Attributes:
        tasks: names that `lm_eval --tasks` takes.
        limit: documents of each task.
        num_fewshot: examples in front of each.
    """

    tasks: Names
    limit: int | None = Field(default=None, ge=1)
    num_fewshot: int | None = Field(default=None, ge=0)


class Study(_Part):
    """A study.

    Attributes:
        study: its name.
        models: by the name that the report gives them.
        datasets: names of `prompts.DATASETS`.
        languages: of the prompts; all that the data sets have where None.
        limit: prompts of each task.
        engine: "hf" or "vllm".
        batch_size: of answers.
        seed: of everything that draws.
        conditions: by name.
        directions: whose directions, and what else is measured of them.
        mcd: how the safety prompt is trained that a condition may ask for.
        judges: beside the native one, which is always there.
        capability: other tasks.
        generation: settings that lm-eval's `--gen_kwargs` takes.
    """

    study: str
    models: dict[str, Model]
    datasets: Names
    languages: Names | None = None
    limit: int | None = Field(default=None, ge=1)
    engine: Literal["hf", "vllm"] = "hf"
    batch_size: int | str = 16
    seed: int = Field(default=0, ge=0)
    conditions: dict[str, Condition]
    directions: Directions = Directions()
    mcd: Training = Training()
    judges: tuple[Judge, ...] = ()
    capability: Capability | None = None
    generation: dict[str, str | int | float | bool] = {}

    @field_validator("models", mode="before")
    @classmethod
    def _models(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            name: {"pretrained": entry} if isinstance(entry, str) else entry
            for name, entry in value.items()
        }

    @field_validator("conditions", mode="before")
    @classmethod
    def _conditions(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [value]
        if isinstance(value, list):
            value = {name: None for name in value if isinstance(name, str)}
        if not isinstance(value, dict):
            return value
        if not all(isinstance(settings, dict | None) for settings in value.values()):
            return value
        return {name: _settled(name, value) for name in value}

    @field_validator("judges", mode="before")
    @classmethod
    def _judges(cls, value: Any) -> Any:
        return [{"judge": one} if isinstance(one, str) else one for one in _listed(value)]

    @model_validator(mode="after")
    def _known_names(self) -> Study:
        for kind, names in (("model", self.models), ("condition", self.conditions)):
            if not names:
                raise ValueError(f"a study needs a {kind}")
            for name in names:
                if not _NAME.fullmatch(name):
                    raise ValueError(
                        f"the {kind} {name!r} needs a name of letters, digits, blanks and ._+-"
                    )
        for name in self.datasets:
            if name not in DATASETS:
                raise ValueError(_unknown(f"no data set {name!r}", name, DATASETS))
        spoken = self._languages()
        asked = [self.directions.source, *self.directions.transfer, *self.directions.targets]
        asked += [*self.directions.geometry, *self.mcd.languages, *(self.languages or ())]
        for language in asked:
            if language not in spoken:
                raise ValueError(_unknown(f"no language {language!r}", language, spoken))
        for judge in self.judges:
            if judge.judge not in judge_names() and not judge.judge.startswith("openai:"):
                raise ValueError(_unknown(f"no judge {judge.judge!r}", judge.judge, judge_names()))
        return self

    def _languages(self) -> tuple[str, ...]:
        return (
            tuple(
                dict.fromkeys(
                    language
                    for name in self.datasets
                    for family in DATASETS[name]
                    for language in family.languages
                )
            )
            or LANGUAGES
        )


def read(path: Path) -> Study:
    """The study that a file holds.

    Raises:
        BadStudy: it cannot be read, is no YAML, or has a key or a name that is not known.
    """
    try:
        content = yaml.load(read_bytes(path, MOST_BYTES).decode("utf-8"), _Loader)
    except (OSError, UnicodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise BadStudy(f"The study {path} cannot be read ({reason}).") from None
    except yaml.YAMLError as error:
        raise BadStudy(f"The study {path} is no YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise BadStudy(
            f"The study {path} has no keys; `polyrefuse study init` writes one to begin with."
        )
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        raise BadStudy(f"The study {path}: {_explained(error)}.") from None


class _Loader(yaml.SafeLoader):
    """YAML in which a key stands once, and in which "no" is Norwegian."""


def _once(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    for place, key in enumerate(keys):
        if key in keys[:place]:
            raise yaml.YAMLError(f"{key!r} is there twice, in line {node.start_mark.line + 1}")
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _once)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, found) for tag, found in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(?:true|True|false|False)$"), list("tTfF")
)


def _settled(name: str, conditions: Mapping[str, Any], through: tuple[str, ...] = ()) -> Any:
    """A condition's settings with those of what it is `like`."""
    if name in through:
        raise ValueError(f"the conditions {' -> '.join((*through, name))} are like each other")
    settings = dict(conditions.get(name) or {})
    like = settings.pop("like", None)
    if like is not None:
        if like not in conditions and like not in CONDITIONS:
            known = dict.fromkeys((*conditions, *CONDITIONS))
            raise ValueError(_unknown(f"no condition {like!r}", str(like), known))
        return _settled(like, conditions, (*through, name)) | settings
    if name not in CONDITIONS and "model" not in settings:
        raise ValueError(
            f"{_unknown(f'no condition {name!r}', name, CONDITIONS)}; one of your own needs "
            f"like: one of these, or model: one of {', '.join(WRAPPERS)}"
        )
    if name == "system-prompt" and "system_file" not in settings:
        raise ValueError("the condition system-prompt needs system_file: FILE")
    return CONDITIONS.get(name, {}) | settings


def _explained(error: ValidationError) -> str:
    """The first thing that is wrong, with what was meant where that can be told."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    where = ".".join(place)
    if first["type"] == "extra_forbidden":
        known = _keys(place[:-1])
        within = f" in {'.'.join(place[:-1])}" if place[:-1] else ""
        return _unknown(f"no key {place[-1]!r}{within}", place[-1], known)
    if first["type"] == "missing":
        return f"{where} is missing"
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    said = first["msg"][0].lower() + first["msg"][1:]
    return f"{where} is {first['input']!r}: {said}"


def _keys(place: list[str]) -> Iterable[str]:
    parts: dict[str, type[BaseModel]] = {
        "directions": Directions, "mcd": Training, "judges": Judge, "capability": Capability
    }  # fmt: skip
    return parts[place[0]].model_fields if place else Study.model_fields


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean {near[0]!r}? There are" if near else "there are"
    return f"there is {what}: {meant} {', '.join(known)}"
