"""Why a language can be a loophole: where its prompts lie along the refusal direction.

The paper's explanation of cross-lingual jailbreaks (2505.17306, sec. 5) without generating a word:
harmful and harmless prompts of each language are projected on the direction at its own position
and layer. A language whose harmful prompts lie closer to English's harmless ones than English's
harmful ones do is one that refuses less.

What is labelled is the prompt, harmful or harmless, and not what the model does: AUC and silhouette
say whether it tells the two apart. A chat model that refuses nothing had AUCs of .94 to 1.00.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from polyrefuse_models.anatomy import decoder_blocks
from polyrefuse_models.chat_model import within_memory
from polyrefuse_models.directions.artifact import BadDirection
from polyrefuse_models.directions.extract import cosines, difference_of_means, observe
from polyrefuse_models.directions.prompts import kinds_of
from polyrefuse_models.interventions import check_layers
from polyrefuse_models.provenance import model_of
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.versions import versions
from polyrefuse_tasks import data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float
    from torch import Tensor

    from polyrefuse_models.chat_model import ChatModel
    from polyrefuse_models.directions.artifact import Direction

SCHEMA = 2

MEANING = (
    "auc and silhouette tell whether the model's states tell harmful prompts from harmless ones, "
    "not whether it refuses: a chat model that refuses nothing can have an AUC of 1"
)
"""Stands in the JSON document, and in short in the pictures."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def geometry(
    chat: ChatModel,
    direction: Direction,
    languages: Sequence[str],
    *,
    dataset: str = "polyrefuse",
    limit: int | None = 128,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Project the test prompts of each language on the direction, at its own layer and at each.

    Args:
        chat: the model, without an intervention.
        direction: with `position` and `layer` in its metadata.
        languages: ISO 639-1 codes; English is always among what is measured, as the reference.
        dataset: a key of `prompts.sources`.
        limit: prompts of each kind and language; all where None.

    Returns:
        the JSON document, and for the picture each language's
        points [prompt, 3]: their first two principal components (of all languages' states
        together) and whether they are harmful. `languages` is of the direction's own layer;
        `layers` has, of each layer's input at the same position, each language's `auc` along the
        same direction and `silhouette`, and `cosine` [language, language] between the languages'
        differences of means, in the order of `languages`; null where all states are the same.

    Raises:
        UserError: unknown language or data set; the model's states are not all finite; memory is
            too small for half of the rows, too.
        BadDirection: its metadata have no position or layer, a position that the model's chat
            template does not have, or a place where all states are equal.
        LayerOutOfRange: a layer that the model does not have.
    """
    from sklearn.decomposition import PCA

    try:
        position, layer = direction.metadata["position"], direction.metadata["layer"]
    except KeyError as missing:
        raise BadDirection(
            f"The direction's metadata have no {missing}: give an artifact that `polyrefuse "
            "direction extract` wrote."
        ) from None
    n_layers = len(decoder_blocks(chat.model))
    check_layers(range(layer, layer + 1), n_layers)
    n_positions = max(1, len(chat.suffix))
    if not -n_positions <= position < 0:
        raise BadDirection(
            f"The direction's position {position} is none of this model's: its chat template puts "
            f"{n_positions} tokens after the user's text; extract a direction from this model."
        )
    kinds = kinds_of(dataset)
    unit = (direction.direction.double() / direction.direction.double().norm()).numpy()
    asked = list(dict.fromkeys(["en", *languages]))
    rows = {language: [data.load(kind, language)[:limit] for kind in kinds] for language in asked}
    harmful = {
        language: np.repeat([True, False], [len(part) for part in parts])
        for language, parts in rows.items()
    }
    prompts = {
        language: [row.prompt for part in parts for row in part] for language, parts in rows.items()
    }
    seen = within_memory(chat, lambda chat: _states(chat, prompts, position))

    states = {language: _at(seen[language], layer) for language in asked}
    everything = np.concatenate(list(states.values()))
    if not np.ptp(everything, axis=0).any():
        raise BadDirection(
            f"All prompts have the same state at the direction's position {position} and layer "
            f"{layer}: nothing can be measured there; extract a direction from this model."
        )
    projected = {language: _projected(states[language], unit) for language in asked}
    safe = projected["en"][~harmful["en"]].mean()
    refused = projected["en"][harmful["en"]].mean()
    plane = PCA(n_components=2).fit(everything)
    points = {
        language: np.column_stack([plane.transform(states[language]), harmful[language]])
        for language in asked
    }
    return {
        "schema": SCHEMA,
        **model_of(chat.model.config),
        **chat.system,
        "dataset": dataset,
        "direction_sha256": direction.sha256,
        "position": position,
        "layer": layer,
        "meaning": MEANING,
        "explained_variance": plane.explained_variance_ratio_.tolist(),
        "languages": {
            language: {
                "harmful": _distribution(projected[language][harmful[language]]),
                "harmless": _distribution(projected[language][~harmful[language]]),
                **_apart(states[language], harmful[language], unit),
                # 0 where English's harmless prompts lie, 1 where its harmful ones do.
                "harmful_against_english": _share(
                    projected[language][harmful[language]].mean() - safe, refused - safe
                ),
            }
            for language in asked
        },
        "layers": [
            _of_layer(at, {name: _at(seen[name], at) for name in asked}, harmful, unit)
            for at in range(n_layers)
        ],
        "versions": versions(),
    }, points


def _states(
    chat: ChatModel, prompts: dict[str, list[str]], position: int
) -> dict[str, Float[Tensor, "prompt layer d"]]:
    """Language -> what every block reads at a position of its prompts.

    Raises:
        UserError: not all of it is finite.
    """
    seen = {}
    for language, asked in prompts.items():
        seen[language] = observe(chat, asked, -position).states[:, 0].clone()
        whole = seen[language].isfinite().all(dim=2).all(dim=0)
        if not whole.all():
            raise UserError(
                f"The model's states for {language} have NaN or infinite entries at layer "
                f"{whole.int().argmin().item()}; load it with another dtype, such as float32."
            )
    return seen


def _at(states: Float[Tensor, "prompt layer d"], layer: int) -> np.ndarray:
    return states[:, layer].double().numpy()


def _of_layer(
    layer: int, states: dict[str, np.ndarray], harmful: dict[str, np.ndarray], unit: np.ndarray
) -> dict[str, Any]:
    """The entry of one layer in the document's `layers`."""
    varied = {language: bool(np.ptp(x, axis=0).any()) for language, x in states.items()}
    differences = [
        difference_of_means(*(torch.from_numpy(x[of]) for of in (harmful[name], ~harmful[name])))
        for name, x in states.items()
    ]
    cosine = cosines(torch.stack(differences)).tolist()
    return {
        "layer": layer,
        "languages": {
            name: _apart(x, harmful[name], unit)
            if varied[name]
            else {"auc": None, "silhouette": None}
            for name, x in states.items()
        },
        "cosine": [
            [value if a and b else None for value, b in zip(row, varied.values(), strict=True)]
            for row, a in zip(cosine, varied.values(), strict=True)
        ],
    }


def _apart(states: np.ndarray, harmful: np.ndarray, unit: np.ndarray) -> dict[str, float]:
    """How well harmful and harmless prompts are told apart, along the direction and as clouds."""
    from sklearn.metrics import roc_auc_score, silhouette_score

    return {
        "auc": float(roc_auc_score(harmful, _projected(states, unit))),
        "silhouette": float(silhouette_score(states, harmful)),
    }


def _projected(states: np.ndarray, unit: np.ndarray) -> np.ndarray:
    # Row by row, unlike a matrix product, so that equal states have equal projections.
    return (states * unit).sum(axis=1)


def _share(part: float, whole: float) -> float | None:
    """`part` of `whole`; None where `whole` is 0."""
    return float(part / whole) if whole else None


def _distribution(projections: np.ndarray) -> dict[str, Any]:
    return {
        "n": len(projections),
        "mean": float(projections.mean()),
        "std": float(projections.std(ddof=1)),
        "quantiles": {str(q): float(np.quantile(projections, q)) for q in QUANTILES},
        "projections": [round(float(value), 6) for value in projections],
    }
