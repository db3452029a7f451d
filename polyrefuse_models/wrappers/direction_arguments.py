"""Read the arguments that ask for a refusal direction, and find that direction."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from polyrefuse_models import artifact_folder
from polyrefuse_models.anatomy import width
from polyrefuse_models.bundled import own_dataset
from polyrefuse_models.directions import artifact
from polyrefuse_models.directions.artifact import BadDirection, Direction
from polyrefuse_models.directions.auto import find_direction
from polyrefuse_models.directions.control import (
    OF_CONTROL,
    control_of,
    is_control,
    parse_control,
)
from polyrefuse_models.directions.prompts import Prompts, sample
from polyrefuse_models.directions.select import DEFAULT, Rule, rule_named
from polyrefuse_models.directions.subspace import RANK
from polyrefuse_models.interventions import LayerOutOfRange, check_multiple
from polyrefuse_models.wrappers.ranks import ALONE, Ranks
from polyrefuse_shared.errors import UserError, first_line
from polyrefuse_shared.limits import MOST_SEED, seed_of
from polyrefuse_shared.log import logger

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from polyrefuse_models.chat_model import ChatModel


@dataclass(frozen=True)
class DirectionArguments:
    """The arguments of a model that say which direction to use.

    Attributes:
        direction: the folder of a direction artifact, a safetensors file with one vector (named
            `direction` if there are others), or "auto", which extracts a direction or uses one that
            was extracted before.
        source_lang: the language of the prompts that "auto" extracts from.
        dataset: the dataset of these prompts, "polyrefuse", "toyrefuse" or one of your own. The
            default is "toyrefuse" for a bundled organism and "polyrefuse" for any other model.
        refusal_tokens: the tokens that refusals begin with, separated by "|". By default "auto"
            derives them from the prompts.
        direction_seed: the seed of the choice of prompts that "auto" makes.
        rule: the name of the rule by which "auto" chooses a candidate (`directions.select`).
        coefficient: the share of the component that is removed, or the multiple that is added.
        control: "random" uses a random direction instead. By default the direction itself is used.
        control_seed: the seed of the random direction. The default is 0.
    """

    direction: str = "auto"
    source_lang: str = "en"
    dataset: str | None = None
    refusal_tokens: str | None = None
    direction_seed: str | int = 0
    rule: str | float = DEFAULT.name
    coefficient: str | float = 1.0
    control: str | None = None
    control_seed: str | int | None = None

    @classmethod
    def taken_from(cls, arguments: dict[str, Any]) -> DirectionArguments:
        """Take the arguments about the direction out of a model's arguments."""
        names = [field.name for field in fields(cls) if field.name in arguments]
        return cls(**{name: arguments.pop(name) for name in names})


class AskedDirection:
    """A direction that was asked for: it is read here, or will be extracted.

    Loading a model may take minutes and extraction hours. Every mistake that can be found before
    that is therefore reported here.

    Args:
        arguments: the arguments about the direction.
        pretrained: the model. It decides about the dataset if none is named.

    Raises:
        UserError: the direction, dataset, rule or coefficient cannot be used.
    """

    def __init__(self, arguments: DirectionArguments, pretrained: object) -> None:
        self.coefficient = parse_coefficient(arguments.coefficient)
        self._arguments = arguments
        self._rule: Rule = rule_named(arguments.rule)
        self._rule.check_tokens(arguments.refusal_tokens)
        self._control_seed = parse_control(
            arguments.control, arguments.control_seed, ("control=", "control_seed=")
        )
        self._prompts: Prompts | None = None
        self._given: Direction | None = None
        if arguments.direction == "auto":
            dataset = arguments.dataset or own_dataset(pretrained)
            seed = parse_seed(arguments.direction_seed)
            self._prompts = sample(str(dataset), str(arguments.source_lang), seed)
        else:
            self._given = read_direction(arguments.direction)

    @property
    def origin(self) -> str:
        """The argument that asked for the direction, for messages."""
        return f"direction={self._arguments.direction}"

    def require_harmless_mean(self, wanted_by: str) -> None:
        """Refuse a direction that was read and lacks the mean of harmless prompts.

        Args:
            wanted_by: the argument that needs the mean.

        Raises:
            BadDirection: there is no mean. A direction that will be extracted has one.
        """
        if self._given is not None:
            self._given.require_harmless_mean(wanted_by, self.origin)

    def require_subspace(self, rank: int) -> None:
        """Refuse a direction with fewer than `rank` vectors, as far as this is known already.

        Raises:
            BadDirection: the direction was read and has fewer, or `rank` is more than any direction
                that "auto" extracts has.
        """
        if self._given is not None:
            self._given.require_subspace(rank, self.origin)
        elif rank > RANK:
            raise BadDirection(
                f"rank={rank} is more than the {RANK} vectors that {self.origin} keeps; extract "
                f"more with `polyrefuse direction extract --rank {rank}`, and give the folder that "
                "it writes as direction=."
            )

    def check_given_multiple(self) -> None:
        """Refuse a coefficient that, for a direction that was read, is too large for any model.

        Raises:
            UserError: as in `interventions.check_multiple` with float32, which no type of weights
                exceeds.
        """
        if self._given is not None:
            self.check_multiple(self._given, torch.float32)

    def check_multiple(self, direction: Direction, dtype: torch.dtype) -> None:
        """Refuse a coefficient with which the addition of a direction overflows.

        Raises:
            UserError: as in `interventions.check_multiple`.
        """
        check_multiple(direction.direction, self.coefficient, dtype, "coefficient=")

    def find(
        self,
        chat: ChatModel,
        whole_model: Callable[[], AbstractContextManager[ChatModel]],
        ranks: Ranks = ALONE,
    ) -> Direction:
        """Return the direction for a model. If there are several processes, one extracts for all.

        Args:
            chat: the model, whose weights may be stand-ins.
            whole_model: a function that gives the model as it was loaded, without a safety prompt.
                It is called only if a direction has to be extracted.
            ranks: the processes that measure the model together.

        Raises:
            UserError: the direction does not fit, or none could be extracted.
        """
        direction, origin = self._given, self.origin
        if direction is None:
            prompts = self._prompts
            assert prompts is not None
            tokens = token_ids(chat.tokenizer, self._arguments.refusal_tokens)

            def extract() -> Direction:
                with whole_model() as whole:
                    return find_direction(whole, prompts, tokens=tokens, rule=self._rule)

            direction = ranks.first(extract)
        direction.check(width(chat.model), origin)
        direction.warn_of_another_model(chat.model.config)
        if self._given is not None:  # `find_direction` warns about those that it extracted.
            for warning in direction.metadata.get("warnings", []):
                logger.warning("%s: %s.", origin, warning)
        return (
            direction if self._control_seed is None else control_of(direction, self._control_seed)
        )


def provenance(direction: Direction, warnings: list[str]) -> dict[str, Any]:
    """Return what results record about a direction.

    Args:
        direction: the direction with its metadata.
        warnings: reasons to doubt it, as sentences without a full stop.
    """
    metadata = direction.metadata
    return {
        "direction_sha256": direction.sha256,
        "direction_recipe_sha256": metadata.get("recipe_sha256"),
        "direction_dataset": metadata.get("dataset"),
        "source_lang": metadata.get("source_lang"),
        "position": metadata.get("position"),
        "layer": metadata.get("layer"),
        "direction_seed": metadata.get("seed"),
        "rule": metadata.get("rule"),
        "direction_warnings": warnings,
        **{name: metadata[name] for name in OF_CONTROL if name in metadata},
    }


def warnings_of(direction: Direction) -> list[str]:
    """Return the reasons to doubt a direction, as sentences without a full stop."""
    return list(direction.metadata.get("warnings", []))


def without_effect(direction: Direction) -> list[str]:
    """Return a warning if adding a direction is known not to make the model refuse.

    The scores belong to the direction itself, and say nothing about a control of it.
    """
    if is_control(direction.metadata):
        return []
    at = (direction.metadata.get("position"), direction.metadata.get("layer"))
    return [
        "adding this direction did not make the model refuse harmless prompts: with the direction "
        f"added at layer {candidate.layer} (coefficient 1) their mean refusal score was "
        f"{candidate.steering_score:.3f}, which is below 0, so rates under addition are not those "
        "of a model that refuses"
        for candidate in direction.scores
        if (candidate.position, candidate.layer) == at and (candidate.steering_score or 0) < 0
    ]


def another_system_text(direction: Direction, text: str | None) -> str | None:
    """Return a sentence if a direction was extracted with another system text than `text`."""
    metadata = direction.metadata
    if "system" not in metadata or metadata.get("system_text") == text:
        return None
    return (
        f"The direction was extracted with the system text {metadata.get('system_text')!r} and "
        f"is used with {text!r} (None means no text), although directions depend on the text; "
        "extract a direction with this run's text, which system= and system_file= choose."
    )


def token_ids(tokenizer: PreTrainedTokenizerBase, tokens: str | None) -> list[int] | None:
    """Return the ids of refusal tokens that are given as text, separated by "|".

    Raises:
        UserError: one of them is not a single token of the model.
    """
    if tokens is None:
        return None
    ids = []
    for text in str(tokens).split("|"):
        token = tokenizer(text, add_special_tokens=False).input_ids
        if len(token) != 1:
            raise UserError(
                f"refusal_tokens has {text!r}, which is {len(token)} tokens of this model; give "
                "single tokens, separated by '|'."
            )
        ids += token
    return ids


def read_direction(given: str) -> Direction:
    """Read a direction from an artifact folder, or from a safetensors file with one vector.

    Raises:
        BadDirection: `given` is neither.
    """
    from safetensors import SafetensorError

    path = Path(str(given))
    if not os.path.isfile(path):
        return artifact.load(path, "direction=", ", a safetensors file with one vector, or auto")
    if path.suffix != ".safetensors":
        raise BadDirection(
            f"direction={path} is not a safetensors file, and other formats are not read, because "
            "a pickle can run code; save the vector with safetensors."
        )
    try:
        tensors = artifact_folder.read_tensors(path)
    except (SafetensorError, OSError, ValueError, KeyError) as broken:
        raise BadDirection(
            f"direction={path} is not a safetensors file: {first_line(broken)}; save the vector "
            "with safetensors."
        ) from None
    vector = tensors.get("direction") if len(tensors) > 1 else next(iter(tensors.values()), None)
    if vector is None or vector.dim() != 1:
        raise BadDirection(
            f"direction={path} holds {', '.join(tensors) or 'no tensors'}; give a file with one "
            "vector, or with a vector named `direction`."
        )
    return Direction(direction=vector, candidates=vector[None, None])


def parse_layers(given: str | int) -> range | None:
    """Read the argument `layers=`: "all" gives None, "5" gives range(5, 6), "3-8" range(3, 9).

    Raises:
        LayerOutOfRange: the value has none of these forms.
    """
    if given == "all":
        return None
    match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", str(given))
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if first > last:
        raise LayerOutOfRange(
            f"layers={given} is not a range of layers; give a range such as 3-8, or all."
        )
    return range(first, last + 1)


def parse_rank(given: str | int) -> int:
    """Read the argument `rank=`, the number of directions.

    Raises:
        UserError: the value is not a whole number from 1 to 999999.
    """
    if not re.fullmatch(r"[1-9]\d{0,5}", str(given)):
        raise UserError(
            f"rank={given} is not a rank; give the number of directions to remove, 1 or more."
        )
    return int(given)


def parse_layer(given: str | int) -> int:
    """Read the argument `layer=`.

    Raises:
        LayerOutOfRange: the value is not a whole number from 0.
    """
    if not re.fullmatch(r"\d{1,9}", str(given)):
        raise LayerOutOfRange(f"layer={given} is not a layer; give its number, counted from 0.")
    return int(given)


def parse_seed(given: str | int) -> int:
    """Read the argument `direction_seed=`.

    Raises:
        UserError: the value is not a whole number from 0 to `MOST_SEED`.
    """
    seed = seed_of(given)
    if seed is None:
        raise UserError(
            f"direction_seed={given} is not a seed; give a number from 0 to {MOST_SEED}."
        )
    return seed


def parse_coefficient(given: str | float) -> float:
    """Read the argument `coefficient=`.

    Raises:
        UserError: the value is not a finite number.
    """
    try:
        coefficient = float(str(given))
    except ValueError:
        coefficient = math.nan
    if not math.isfinite(coefficient):
        raise UserError(f"coefficient={given} is not a finite number; give a number such as 1.0.")
    return coefficient
