"""What each model name asks for: its arguments, and the interventions that they become.

An engine reads the arguments before it loads a model, so that a mistake in them is reported at
once. Once the model is loaded, the engine calls `fit` to make the interventions for it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from polyrefuse_models.anatomy import decoder_blocks
from polyrefuse_models.directions.artifact import checksum
from polyrefuse_models.directions.projected import projected
from polyrefuse_models.interventions import (
    Ablation,
    Addition,
    AffineAblation,
    Intervention,
    SubspaceAblation,
    check_layers,
)
from polyrefuse_models.interventions.ablation import METHODS, settle_layers, settle_method
from polyrefuse_models.mcd.safety_prompts import SAFETY_PROMPTS
from polyrefuse_models.wrappers.direction_arguments import (
    AskedDirection,
    DirectionArguments,
    another_system_text,
    parse_layer,
    parse_layers,
    parse_rank,
    provenance,
    warnings_of,
    without_effect,
)
from polyrefuse_models.wrappers.prompt_arguments import AskedPrompt, read_prompt
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.lm_eval_internals import asked_of_lm_eval
from polyrefuse_shared.log import logger

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polyrefuse_models.chat_model import ChatModel
    from polyrefuse_models.directions.artifact import Direction
    from polyrefuse_models.wrappers.ranks import Ranks

ABLATIONS = ("plain", "affine", "projected")
"""The values that `ablation=` takes (`AskedAblation`)."""

Arguments = dict[str, Any]
"""A model's arguments by name. Reading an argument removes it."""


class Engine(Protocol):
    """What `fit` needs from an engine that has loaded its model.

    Attributes:
        model: the model as loaded.
        tokenizer: the model's tokenizer.
        chat_model: the model, and how prompts reach it. Its weights may be stand-ins.
        whole_model: a context manager that gives `chat_model` with its own weights, for extraction.
        own_model: whether the model was loaded for this measurement, so that its weights may be
            edited.
        ranks: the processes that measure the model together.
        warn: a function that records a warning in the results.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    ranks: Ranks
    warn: Callable[[str], None]

    @property
    def chat_model(self) -> ChatModel: ...

    def whole_model(self) -> AbstractContextManager[ChatModel]: ...

    @property
    def own_model(self) -> bool: ...


class Nothing:
    """No intervention: `baseline-hf`."""

    def __init__(self, arguments: Arguments, pretrained: object) -> None:
        """Leave `arguments` as they are."""

    def fit(self, engine: Engine) -> list[Intervention]:
        """Return no interventions."""
        return []


class AskedMcd:
    """A safety prompt, either a soft prompt (2505.11835) or one in words: `mcd-hf`.

    The argument is `prompt`: the folder of a soft prompt or of a PEFT prompt-tuning checkpoint, or
    the name of a safety prompt in words.

    Raises:
        UserError: no prompt is given, or it cannot be used with the other arguments.
    """

    def __init__(self, arguments: Arguments, pretrained: object) -> None:
        prompt = _take_prompt(arguments)
        if prompt is None:
            raise UserError(
                "mcd-hf and mcd-vllm need a safety prompt; give the folder of a soft prompt, or "
                f"one of {', '.join(SAFETY_PROMPTS)}, as prompt=."
            )
        self.prompt = prompt

    def fit(self, engine: Engine) -> list[Intervention]:
        """Fit the safety prompt to the engine's model.

        Raises:
            BadPrompt: the prompt does not fit the model.
        """
        self.prompt.check(engine.model)
        return [self.prompt.fit(engine.model, engine.tokenizer)]


class _AskedDirected:
    """What ablation and addition share: a direction, and optionally a safety prompt.

    With `direction=auto`, the direction is extracted from the model as it was loaded, without the
    safety prompt.

    Attributes:
        direction: the direction. It is known only after `fit`.
    """

    direction: Direction

    def __init__(self, arguments: Arguments, pretrained: object) -> None:
        self._asked = AskedDirection(DirectionArguments.taken_from(arguments), pretrained)
        self._prompt = _take_prompt(arguments)

    def fit(self, engine: Engine) -> list[Intervention]:
        """Make the interventions for the engine's model.

        Raises:
            UserError: there is no usable direction, or something does not fit the model.
        """
        self.settle(engine)
        if self._prompt is not None:
            self._prompt.check(engine.model)
        self.direction = self._asked.find(engine.chat_model, engine.whole_model, engine.ranks)
        now = asked_of_lm_eval("system_instruction") or engine.chat_model.system["system_text"]
        if sentence := another_system_text(self.direction, now):
            engine.warn(sentence)
        intervention = self.intervene(engine)
        if self._prompt is None:
            return [intervention]
        without = None
        if isinstance(intervention, Ablation) and intervention.edits_weights:
            # Edited weights cannot write along the direction, but the prompt's vectors still could.
            without = intervention.direction
        return [intervention, self._prompt.fit(engine.model, engine.tokenizer, without)]

    def settle(self, engine: Engine) -> None:
        """Check and complete the settings for the model, before a direction is extracted.

        Raises:
            UserError: the settings do not fit the model.
        """
        raise NotImplementedError

    def intervene(self, engine: Engine) -> Intervention:
        """Make the intervention that uses the direction.

        Raises:
            UserError: the direction cannot be used in this way.
        """
        raise NotImplementedError


class AskedAblation(_AskedDirected):
    """Ablation of the refusal direction (2505.17306, eq. 3): `ablated-hf`.

    The arguments are those of `DirectionArguments`, where `coefficient` is the share of the
    component that is removed, `prompt` as in `AskedMcd` but optional, and

    - `ablation`: "plain" removes the component, "affine" sets it to that of the mean of harmless
      prompts at each layer (2411.09003), and "projected" removes the component along the part of
      the direction that is orthogonal to that mean; the default is "plain";
    - `rank`: the number of vectors of the direction's subspace that are removed; the first of them
      is the direction, and the default is 1;
    - `method`: "hooks" projects every write to the residual stream, "weights" edits the weights so
      that they cannot write along the direction, and "auto", the default, edits weights if that is
      exact and the model was loaded here;
    - `layers`: the blocks to ablate in, such as "3-8"; the default, "all", includes the embedding.

    Raises:
        UserError: there is no usable direction or prompt, or the value of an argument is unknown.
    """

    def __init__(self, arguments: Arguments, pretrained: object) -> None:
        self._ablation = arguments.pop("ablation", "plain")
        if self._ablation not in ABLATIONS:
            raise UserError(
                f"ablation={self._ablation} is not known; use one of {', '.join(ABLATIONS)}."
            )
        self._method = arguments.pop("method", "auto")
        if self._method not in METHODS:
            raise UserError(f"method={self._method} is not known; use one of {', '.join(METHODS)}.")
        self._layers = parse_layers(arguments.pop("layers", "all"))
        self._rank = parse_rank(arguments.pop("rank", 1))
        if self._rank > 1 and self._ablation != "plain":
            raise UserError(
                f"rank={self._rank} removes several directions, but ablation={self._ablation} "
                "works along one; give only one of the two arguments."
            )
        super().__init__(arguments, pretrained)
        if self._rank > 1:
            self._asked.require_subspace(self._rank)
        if self._ablation != "plain":
            self._asked.require_harmless_mean(f"ablation={self._ablation}")
        if self._ablation == "affine":
            self._check_affine()

    def _check_affine(self) -> None:
        """Choose hooks as the method, because only hooks can set a component at each layer.

        Raises:
            UserError: method=weights or a coefficient was asked for.
        """
        if self._method == "weights":
            raise UserError(
                "ablation=affine sets a different component at each layer, which edited weights "
                "cannot do; use method=hooks."
            )
        if self._asked.coefficient != 1:
            raise UserError(
                f"coefficient={self._asked.coefficient:g} is the share of the component to remove, "
                "but ablation=affine sets the whole component; leave coefficient out."
            )
        self._method = "hooks"

    def settle(self, engine: Engine) -> None:
        """Check the layers, and choose the method if it is "auto".

        Raises:
            LayerOutOfRange: the model has no such layers.
            NotExact: method=weights would not be exact.
        """
        self._layers = settle_layers(engine.model, self._layers)
        self._method = settle_method(
            engine.model,
            self._method,
            coefficient=self._asked.coefficient,
            layers=self._layers,
            own_model=engine.own_model,
        )

    def intervene(self, engine: Engine) -> Ablation | AffineAblation:
        """Make the ablation, by the method that `settle` chose.

        Raises:
            BadDirection: the direction lacks what this kind of ablation needs.
        """
        direction = self.direction
        said = provenance(direction, warnings_of(direction))
        if self._rank > 1:
            return self._along_several(said)
        if self._ablation == "plain":
            return self._along(direction.direction, "ablation", said)
        asked, origin = f"ablation={self._ablation}", self._asked.origin
        mean = direction.require_harmless_mean(asked, origin)
        said |= {"ablation": self._ablation, "harmless_mean_sha256": checksum(mean)}
        if self._ablation == "projected":
            return self._along(projected(direction, origin), "projected-ablation", said)
        return AffineAblation(
            direction.direction,
            mean,
            layers=self._layers,
            control=direction.metadata.get("control"),
            provenance=said,
        )

    def _along_several(self, said: dict[str, Any]) -> SubspaceAblation:
        vectors = self.direction.require_subspace(self._rank, self._asked.origin)
        made = self.direction.metadata.get("subspace", {})
        return SubspaceAblation(
            vectors,
            coefficient=self._asked.coefficient,
            layers=self._layers,
            method=self._method,
            control=self.direction.metadata.get("control"),
            provenance=said
            | {
                "subspace_of": made.get("of"),
                "subspace_langs": made.get("langs"),
                "subspace_sha256": checksum(vectors),
            },
        )

    def _along(self, vector: Float[Tensor, "d"], called: str, said: dict[str, Any]) -> Ablation:
        return Ablation(
            vector,
            coefficient=self._asked.coefficient,
            layers=self._layers,
            method=self._method,
            control=self.direction.metadata.get("control"),
            called=called,
            provenance=said,
        )


class AskedAddition(_AskedDirected):
    """Addition of the refusal direction at one layer (2505.17306, eq. 2): `refusal-added-hf`.

    The arguments are those of `DirectionArguments`, where `coefficient` is the multiple of the
    direction that is added, `prompt` as in `AskedMcd` but optional, and

    - `layer`: the block at whose input the direction is added; the default is the direction's own.

    Raises:
        UserError: there is no usable direction or prompt, the layer is not a number, or what is
            added overflows.
    """

    def __init__(self, arguments: Arguments, pretrained: object) -> None:
        layer = arguments.pop("layer", None)
        self._layer = None if layer is None else parse_layer(layer)
        super().__init__(arguments, pretrained)
        self._asked.check_given_multiple()

    def settle(self, engine: Engine) -> None:
        """Check the layer, if one was given.

        Raises:
            LayerOutOfRange: the model has no such layer.
        """
        if self._layer is not None:
            check_layers(range(self._layer, self._layer + 1), len(decoder_blocks(engine.model)))

    def intervene(self, engine: Engine) -> Addition:
        """Make the addition, with a warning if it is known to have no effect.

        Raises:
            UserError: no layer is known, or what is added overflows (`check_multiple`).
        """
        layer = self._layer
        if layer is None:
            layer = self.direction.metadata.get("layer")
        if layer is None:
            raise UserError(
                "The direction comes from a file with one vector, which names no layer; give "
                "layer=N."
            )
        self._asked.check_multiple(self.direction, engine.model.dtype)
        ineffective = without_effect(self.direction)
        for warning in ineffective:
            logger.warning("%s.", warning)
        return Addition(
            self.direction.direction,
            layer,
            coefficient=self._asked.coefficient,
            control=self.direction.metadata.get("control"),
            provenance=provenance(self.direction, warnings_of(self.direction) + ineffective),
        )


class Asked(Protocol):
    """The arguments that belong to a model name, taken out of all arguments of the model."""

    def __init__(self, arguments: Arguments, pretrained: object) -> None: ...

    def fit(self, engine: Engine) -> list[Intervention]: ...


def _take_prompt(arguments: Arguments) -> AskedPrompt | None:
    """Take `prompt` out of a model's arguments, and read the safety prompt that it names.

    Raises:
        UserError: the prompt cannot be used at all, or not with the other arguments.
    """
    given = arguments.pop("prompt", None)
    if given is None:
        return None
    prompt = read_prompt(given)
    prompt.check_beside(arguments)
    return prompt
