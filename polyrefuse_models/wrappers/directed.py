"""`ablated-hf` and `refusal-added-hf`: a model with its refusal direction removed, or added."""

from __future__ import annotations

import logging
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyrefuse_models.anatomy import decoder_blocks, width
from polyrefuse_models.bundled import own_dataset
from polyrefuse_models.directions import artifact
from polyrefuse_models.directions.artifact import BadDirection, Direction
from polyrefuse_models.directions.auto import find_direction
from polyrefuse_models.directions.prompts import sample
from polyrefuse_models.directions.select import DEFAULT, rule_named
from polyrefuse_models.interventions import Ablation, Addition, LayerOutOfRange, check_layers
from polyrefuse_models.interventions.orthogonalise import NotExact, obstacle, orthogonalise
from polyrefuse_models.wrappers.prompted import PromptedHF
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.lm_eval_internals import asked_of_lm_eval

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Below lm-eval's own logger, so that its format and --verbosity hold for ours.
logger = logging.getLogger("lm_eval.polyrefuse")

METHODS = ("auto", "hooks", "weights")


class DirectedHF(PromptedHF):
    """A chat model and a refusal direction, read or extracted.

    Args:
        pretrained: as BaselineHF's.
        direction: folder of a direction artifact, a safetensors file with one vector
            (`direction`), or "auto": extract one now, or take the one extracted before.
        source_lang: language of the prompts that "auto" extracts from.
        dataset: whose prompts they are, "polyrefuse" or "toyrefuse"; by default the organism's own
            for the organism and PolyRefuse's for any other model.
        refusal_tokens: tokens that open a refusal, separated by "|"; "auto" derives them from the
            prompts where none are given.
        direction_seed: of the choice of prompts of "auto".
        rule: name of the rule by which "auto" chooses a candidate, a key of `select.RULES`.
        coefficient: how much of it is removed or added.
        kwargs: as PromptedHF's; with `prompt`, "auto" extracts from the model without it.

    Raises:
        UserError: no usable direction, or a model in which what it needs was not found.
    """

    def __init__(
        self,
        pretrained: str | PreTrainedModel | None = None,
        *,
        direction: str = "auto",
        source_lang: str = "en",
        dataset: str | None = None,
        refusal_tokens: str | None = None,
        direction_seed: int = 0,
        rule: str | float = DEFAULT.name,
        coefficient: float = 1.0,
        **kwargs: Any,
    ) -> None:
        # Loading may take minutes and extracting hours, so each mistake is told before both where
        # it can be.
        self.coefficient = parse_coefficient(coefficient)
        chosen_by = rule_named(rule)
        auto = direction == "auto"
        if auto:
            prompts = sample(dataset or own_dataset(pretrained), source_lang, direction_seed)
        else:
            given = read_direction(direction)
        super().__init__(pretrained=pretrained, **kwargs)
        self.settle()
        if auto:
            tokens = self._token_ids(refusal_tokens)
            given = find_direction(self.chat_model, prompts, tokens=tokens, rule=chosen_by)
        given.check(width(self.model), f"direction={direction}")
        self.direction = given
        given.warn_of_another_model(self.model.config)
        if not auto:  # `find_direction` has told those of the one that it found
            for warning in given.metadata.get("warnings", []):
                logger.warning("direction=%s: %s.", direction, warning)
        self._warn_of_another_system_text()

    def _warn_of_another_system_text(self) -> None:
        """Say so where the direction was extracted with another system text than this run's."""
        then = self.direction.metadata
        now = asked_of_lm_eval("system_instruction") or self.chat_model.system["system_text"]
        if "system" in then and then.get("system_text") != now:
            self.warn(
                f"The direction was extracted with the system text {then.get('system_text')!r} and "
                f"is used with {now!r} (None is no text): directions differ by it; extract with "
                "this run's text: system= and system_file= name it."
            )

    def settle(self) -> None:
        """Fit the settings to the model that was loaded, before a direction is extracted.

        Raises:
            UserError: they do not fit.
        """
        raise NotImplementedError

    def identity(self) -> dict[str, Any]:
        """PromptedHF's, and which direction it is."""
        found = self.direction.metadata
        return super().identity() | {
            "direction_sha256": self.direction.sha256,
            "direction_dataset": found.get("dataset"),
            "source_lang": found.get("source_lang"),
            "position": found.get("position"),
            "layer": found.get("layer"),
            "coefficient": self.coefficient,
            "direction_seed": found.get("seed"),
            "rule": found.get("rule"),
            "direction_warnings": self.direction_warnings(),
        }

    def direction_warnings(self) -> list[str]:
        """What speaks against the direction, as sentences without a full stop."""
        return list(self.direction.metadata.get("warnings", []))

    def _token_ids(self, tokens: str | None) -> list[int] | None:
        """Ids of refusal tokens given as text.

        Raises:
            UserError: one of them is not a single token of the model's.
        """
        if tokens is None:
            return None
        ids = []
        for text in str(tokens).split("|"):
            token = self.tokenizer(text, add_special_tokens=False).input_ids
            if len(token) != 1:
                raise UserError(
                    f"refusal_tokens: {text!r} is {len(token)} tokens of this model; "
                    "give single tokens, separated by '|'."
                )
            ids += token
        return ids


class AblatedHF(DirectedHF):
    """A chat model with its refusal direction ablated (2505.17306, eq. 3).

    Args:
        pretrained: as BaselineHF's.
        method: "hooks" on every write to the residual stream, "weights" that cannot write along
            the direction, or "auto": weights where they are exact and the model was loaded here.
        layers: blocks to ablate in, such as "3-8"; "all" of them and the embedding by default.
        kwargs: as DirectedHF's; `coefficient` is the share of the component that is removed.

    Raises:
        UserError: also where method=weights would not be exact.
    """

    condition = "ablation"

    def __init__(
        self,
        pretrained: str | PreTrainedModel | None = None,
        *,
        method: str = "auto",
        layers: str | int = "all",
        **kwargs: Any,
    ) -> None:
        if method not in METHODS:
            raise UserError(f"method={method} is not known; use one of {', '.join(METHODS)}.")
        self.method = method
        self.layers = parse_layers(layers)
        super().__init__(pretrained=pretrained, **kwargs)
        settings = {"coefficient": self.coefficient, "layers": self.layers}
        if self.method == "weights":
            _ = self.weights  # as loaded: edited on another device they differ by rounding
            orthogonalise(self.model, self.direction.direction, **settings)
            # The embedding's rows cannot write along it any more; a prompt's vectors still could.
            self.place_prompt(without=self.direction.direction)
        else:
            self.ablation = Ablation(self.model, self.direction.direction, **settings)
            self.place_prompt()

    def settle(self) -> None:
        """Check the layers, and choose the method where that is left open.

        Raises:
            LayerOutOfRange: the model has no such layers.
            NotExact: method=weights would not be exact.
        """
        n_layers = len(decoder_blocks(self.model))
        if self.layers is not None:
            check_layers(self.layers, n_layers)
            if self.layers == range(n_layers):
                self.layers = None
        if self.method == "hooks":
            return
        reason = obstacle(self.model, coefficient=self.coefficient, layers=self.layers)
        if self.method == "auto":
            # A model that the caller made is the caller's: its weights are not touched unasked.
            by_weights = isinstance(self.pretrained, str) and reason is None
            self.method = "weights" if by_weights else "hooks"
        elif reason:
            raise NotExact(f"method=weights is not exact: {reason}; use method=hooks.")

    def identity(self) -> dict[str, Any]:
        """DirectedHF's, and how it is ablated."""
        chosen = self.layers
        return super().identity() | {
            "method": self.method,
            "layers": "all" if chosen is None else f"{chosen.start}-{chosen.stop - 1}",
        }


class RefusalAddedHF(DirectedHF):
    """A chat model with its refusal direction added at one layer (2505.17306, eq. 2).

    Args:
        pretrained: as BaselineHF's.
        layer: the block at whose input it is added; the artifact's where not given.
        kwargs: as DirectedHF's; `coefficient` is the multiple of the direction that is added.

    Raises:
        UserError: also where no layer is known, or the model does not have it.
    """

    condition = "addition"

    def __init__(
        self,
        pretrained: str | PreTrainedModel | None = None,
        *,
        layer: str | int | None = None,
        **kwargs: Any,
    ) -> None:
        self.layer = None if layer is None else parse_layer(layer)
        super().__init__(pretrained=pretrained, **kwargs)
        if self.layer is None:
            self.layer = self.direction.metadata.get("layer")
        if self.layer is None:
            raise UserError("A direction from a bare file has no layer; give layer=N.")
        self.addition = Addition(
            self.model, self.direction.direction, self.layer, coefficient=self.coefficient
        )
        for warning in self._without_effect():
            logger.warning("%s.", warning)
        self.place_prompt()

    def direction_warnings(self) -> list[str]:
        """DirectedHF's, and that adding the direction does not make the model refuse."""
        return super().direction_warnings() + self._without_effect()

    def _without_effect(self) -> list[str]:
        """Of a direction whose steering score is known and below 0."""
        at = (self.direction.metadata.get("position"), self.direction.metadata.get("layer"))
        return [
            "adding this direction did not make harmless prompts refused: with it added at layer "
            f"{chosen.layer} (coefficient 1) their mean refusal score was "
            f"{chosen.steering_score:.3f}, below 0, so rates under addition are not those of a "
            "model that refuses"
            for chosen in self.direction.scores
            if (chosen.position, chosen.layer) == at and (chosen.steering_score or 0) < 0
        ]

    def settle(self) -> None:
        """Check a layer that was given.

        Raises:
            LayerOutOfRange: the model has no such layer.
        """
        if self.layer is not None:
            check_layers(range(self.layer, self.layer + 1), len(decoder_blocks(self.model)))

    def identity(self) -> dict[str, Any]:
        """DirectedHF's, with the layer that it is added at."""
        return super().identity() | {"layer": self.layer, "method": "hooks"}


def read_direction(given: str) -> Direction:
    """An artifact folder, or a safetensors file with one vector.

    Raises:
        BadDirection: it is neither.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(str(given))
    if not os.path.isfile(path):
        return artifact.load(path)
    if path.suffix != ".safetensors":
        raise BadDirection(
            f"direction={path} is no safetensors file; other formats are not read, since a pickle "
            "can run code: save the vector with safetensors."
        )
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as broken:
        raise BadDirection(f"direction={path} is no safetensors file: {broken}.") from None
    vector = tensors.get("direction") if len(tensors) > 1 else next(iter(tensors.values()), None)
    if vector is None or vector.dim() != 1:
        raise BadDirection(
            f"direction={path} holds {', '.join(tensors) or 'no tensors'}; give one vector, or "
            "one named `direction`."
        )
    return Direction(direction=vector, candidates=vector[None, None])


def parse_layers(given: str | int) -> range | None:
    """ "all" -> None, "5" -> range(5, 6), "3-8" -> range(3, 9).

    Raises:
        LayerOutOfRange: it is none of these.
    """
    if given == "all":
        return None
    found = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", str(given))
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if first > last:
        raise LayerOutOfRange(f"layers={given} is no run of layers; give one like 3-8, or all.")
    return range(first, last + 1)


def parse_layer(given: str | int) -> int:
    """A layer's number as it was written.

    Raises:
        LayerOutOfRange: it is none.
    """
    if not re.fullmatch(r"\d{1,9}", str(given)):
        raise LayerOutOfRange(f"layer={given} is no layer; give its number, counted from 0.")
    return int(given)


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
