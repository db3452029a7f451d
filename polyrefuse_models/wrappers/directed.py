"""`ablated-hf` and `refusal-added-hf`: a model with its refusal direction removed, or added."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyrefuse_models.anatomy import width
from polyrefuse_models.directions import artifact
from polyrefuse_models.directions.artifact import BadDirection, Direction
from polyrefuse_models.directions.auto import find_direction
from polyrefuse_models.directions.prompts import sample
from polyrefuse_models.interventions import Ablation, Addition, LayerOutOfRange
from polyrefuse_models.orthogonalise import obstacle, orthogonalise
from polyrefuse_models.wrappers.hf import BaselineHF
from polyrefuse_tasks.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

METHODS = ("auto", "hooks", "weights")


class DirectedHF(BaselineHF):
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
        coefficient: how much of it is removed or added.
        kwargs: as BaselineHF's.

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
        coefficient: float = 1.0,
        **kwargs: Any,
    ) -> None:
        given = None if direction == "auto" else read_direction(direction)
        super().__init__(pretrained=pretrained, **kwargs)
        if given is None:
            given = find_direction(
                self.chat_model,
                sample(dataset or self.own_dataset, source_lang, direction_seed),
                tokens=self._token_ids(refusal_tokens),
            )
        given.check(width(self.model), f"direction={direction}")
        self.direction = given
        given.warn_of_another_model(self.model.config)
        self.coefficient = float(coefficient)

    def identity(self) -> dict[str, Any]:
        """BaselineHF's, and which direction it is."""
        found = self.direction.metadata
        return super().identity() | {
            "direction_sha256": self.direction.sha256,
            "direction_dataset": found.get("dataset"),
            "source_lang": found.get("source_lang"),
            "position": found.get("position"),
            "layer": found.get("layer"),
            "coefficient": self.coefficient,
            "direction_seed": found.get("seed"),
            "direction_warnings": found.get("warnings", []),
        }

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
        self.layers = parse_layers(layers)
        super().__init__(pretrained=pretrained, **kwargs)
        settings = {"coefficient": self.coefficient, "layers": self.layers}
        if method == "auto":
            # A model that the caller made is the caller's: its weights are not touched unasked.
            by_weights = (
                isinstance(self.pretrained, str) and obstacle(self.model, **settings) is None
            )
            method = "weights" if by_weights else "hooks"
        self.method = method
        if method == "weights":
            orthogonalise(self.model, self.direction.direction, **settings)
        else:
            self.ablation = Ablation(self.model, self.direction.direction, **settings)

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
        layer: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(pretrained=pretrained, **kwargs)
        known = self.direction.metadata.get("layer") if layer is None else layer
        if known is None:
            raise UserError("A direction from a bare file has no layer; give layer=N.")
        self.layer = int(known)
        self.addition = Addition(
            self.model, self.direction.direction, self.layer, coefficient=self.coefficient
        )

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

    path = Path(given)
    if not path.is_file():
        return artifact.load(path)
    if path.suffix != ".safetensors":
        raise BadDirection(
            f"direction={path} is no safetensors file; other formats are not read, since a pickle "
            "can run code: save the vector with safetensors."
        )
    try:
        tensors = load_file(path)
    except SafetensorError as broken:
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
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", str(given))
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if first > last:
        raise LayerOutOfRange(f"layers={given} is no run of layers; give one like 3-8, or all.")
    return range(first, last + 1)
