"""The arguments that ask for a refusal direction, and the direction that they ask for."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from polyrefuse_models.interventions import LayerOutOfRange
from polyrefuse_models.wrappers.ranks import ALONE, Ranks
from polyrefuse_shared.errors import UserError, first_line
from polyrefuse_shared.limits import MOST_SEED, seed_of
from polyrefuse_shared.log import logger

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from polyrefuse_models.chat_model import ChatModel


@dataclass(frozen=True)
class DirectionArguments:
    """What a model's arguments say of the direction.

    Attributes:
        direction: folder of a direction artifact, a safetensors file with one vector
            (`direction`), or "auto": extract one now, or take the one extracted before.
        source_lang: language of the prompts that "auto" extracts from.
        dataset: whose prompts they are, "polyrefuse" or "toyrefuse"; by default the organism's own
            for the organism and PolyRefuse's for any other model.
        refusal_tokens: tokens that open a refusal, separated by "|"; "auto" derives them from the
            prompts where none are given.
        direction_seed: chooses the prompts that "auto" extracts from.
        rule: name of the rule by which "auto" chooses a candidate, a key of `select.RULES`.
        coefficient: how much of the direction is removed or added.
        control: "random" takes a random direction in its place.
        control_seed: chooses the random one.
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
        """Take those arguments out of a model's that are about the direction."""
        names = [field.name for field in fields(cls) if field.name in arguments]
        return cls(**{name: arguments.pop(name) for name in names})


class AskedDirection:
    """A direction that was asked for, read or yet to be extracted.

    Loading a model may take minutes and extracting hours, so each mistake is told before both where
    it can be.

    Args:
        arguments: of the model.
        pretrained: the model's own, which chooses the prompts where no data set is named.

    Raises:
        UserError: no usable direction, data set, rule or coefficient.
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
        """Where the direction is from, as it was asked for."""
        return f"direction={self._arguments.direction}"

    def require_harmless_mean(self, wanted_by: str) -> None:
        """Refuse a direction that was read without the mean of harmless prompts.

        Args:
            wanted_by: what needs it, as it was asked for.

        Raises:
            BadDirection: there is none; one that is extracted has it.
        """
        if self._given is not None:
            self._given.require_harmless_mean(wanted_by, self.origin)

    def require_subspace(self, rank: int) -> None:
        """Refuse a direction without as many vectors, where that is known before a model is loaded.

        Raises:
            BadDirection: it was read and has fewer, or none that is extracted has as many.
        """
        if self._given is not None:
            self._given.require_subspace(rank, self.origin)
        elif rank > RANK:
            raise BadDirection(
                f"rank={rank} is more than the {RANK} vectors that {self.origin} keeps; extract "
                f"them with `polyrefuse direction extract --rank {rank}` and name their folder."
            )

    def find(
        self,
        chat: ChatModel,
        whole_model: Callable[[], AbstractContextManager[ChatModel]],
        ranks: Ranks = ALONE,
    ) -> Direction:
        """The direction that fits a model; of several processes one extracts it for all.

        Args:
            chat: the model, whose weights may be stand-ins.
            whole_model: the model as it was loaded, without a prompt in front of what is asked;
                called where a direction is to be extracted.
            ranks: the processes that measure the model together.

        Raises:
            UserError: it does not fit, or none could be extracted.
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
        if self._given is not None:  # `find_direction` warns of those that it extracted.
            for warning in direction.metadata.get("warnings", []):
                logger.warning("%s: %s.", origin, warning)
        return (
            direction if self._control_seed is None else control_of(direction, self._control_seed)
        )


def provenance(direction: Direction, warnings: list[str]) -> dict[str, Any]:
    """What results say of a direction.

    Args:
        direction: with its metadata.
        warnings: what speaks against it, as sentences without a full stop.
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
    """What speaks against a direction, as sentences without a full stop."""
    return list(direction.metadata.get("warnings", []))


def without_effect(direction: Direction) -> list[str]:
    """That adding a direction does not make the model refuse, where that is known.

    The scores are the direction's own, and say nothing of its control.
    """
    if is_control(direction.metadata):
        return []
    at = (direction.metadata.get("position"), direction.metadata.get("layer"))
    return [
        "adding this direction did not make harmless prompts refused: with it added at layer "
        f"{candidate.layer} (coefficient 1) their mean refusal score was "
        f"{candidate.steering_score:.3f}, below 0, so rates under addition are not those of a "
        "model that refuses"
        for candidate in direction.scores
        if (candidate.position, candidate.layer) == at and (candidate.steering_score or 0) < 0
    ]


def another_system_text(direction: Direction, text: str | None) -> str | None:
    """A sentence where a direction was extracted with another system text than `text`."""
    metadata = direction.metadata
    if "system" not in metadata or metadata.get("system_text") == text:
        return None
    return (
        f"The direction was extracted with the system text {metadata.get('system_text')!r} and "
        f"is used with {text!r} (None is no text): directions differ by it; extract with "
        "this run's text: system= and system_file= name it."
    )


def token_ids(tokenizer: PreTrainedTokenizerBase, tokens: str | None) -> list[int] | None:
    """Ids of refusal tokens given as text, separated by "|".

    Raises:
        UserError: one of them is not a single token of the model's.
    """
    if tokens is None:
        return None
    ids = []
    for text in str(tokens).split("|"):
        token = tokenizer(text, add_special_tokens=False).input_ids
        if len(token) != 1:
            raise UserError(
                f"refusal_tokens: {text!r} is {len(token)} tokens of this model; "
                "give single tokens, separated by '|'."
            )
        ids += token
    return ids


def read_direction(given: str) -> Direction:
    """An artifact folder, or a safetensors file with one vector.

    Raises:
        BadDirection: it is neither.
    """
    from safetensors import SafetensorError

    path = Path(str(given))
    if not os.path.isfile(path):
        return artifact.load(path, "direction=", ", a safetensors file with one vector, or auto")
    if path.suffix != ".safetensors":
        raise BadDirection(
            f"direction={path} is no safetensors file; other formats are not read, since a pickle "
            "can run code: save the vector with safetensors."
        )
    try:
        tensors = artifact_folder.read_tensors(path)
    except (SafetensorError, OSError, ValueError, KeyError) as broken:
        raise BadDirection(
            f"direction={path} is no safetensors file: {first_line(broken)}."
        ) from None
    vector = tensors.get("direction") if len(tensors) > 1 else next(iter(tensors.values()), None)
    if vector is None or vector.dim() != 1:
        raise BadDirection(
            f"direction={path} holds {', '.join(tensors) or 'no tensors'}; give one vector, or "
            "one named `direction`."
        )
    return Direction(direction=vector, candidates=vector[None, None])


def parse_layers(given: str | int) -> range | None:
    """Read the argument `layers=`: "all" gives None, "5" range(5, 6), "3-8" range(3, 9).

    Raises:
        LayerOutOfRange: it is none of these.
    """
    if given == "all":
        return None
    match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", str(given))
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if first > last:
        raise LayerOutOfRange(f"layers={given} is no run of layers; give one like 3-8, or all.")
    return range(first, last + 1)


def parse_rank(given: str | int) -> int:
    """How many directions, as it was written.

    Raises:
        UserError: it is no number from 1.
    """
    if not re.fullmatch(r"[1-9]\d{0,5}", str(given)):
        raise UserError(f"rank={given} is no rank; give how many directions to remove, from 1.")
    return int(given)


def parse_layer(given: str | int) -> int:
    """A layer's number as it was written.

    Raises:
        LayerOutOfRange: it is none.
    """
    if not re.fullmatch(r"\d{1,9}", str(given)):
        raise LayerOutOfRange(f"layer={given} is no layer; give its number, counted from 0.")
    return int(given)


def parse_seed(given: str | int) -> int:
    """A seed as it was written.

    Raises:
        UserError: it is none.
    """
    seed = seed_of(given)
    if seed is None:
        raise UserError(f"direction_seed={given} is no seed; give a number from 0 to {MOST_SEED}.")
    return seed


def parse_coefficient(given: str | float) -> float:
    """A finite number as it was written.

    Raises:
        UserError: it is none.
    """
    try:
        coefficient = float(str(given))
    except ValueError:
        coefficient = math.nan
    if not math.isfinite(coefficient):
        raise UserError(f"coefficient={given} is no finite number; give one such as 1.0.")
    return coefficient
