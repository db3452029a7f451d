"""Why a language can be a loophole: where its prompts lie along the refusal direction.

The paper's explanation of cross-lingual jailbreaks (2505.17306, sec. 5) without generating a word:
harmful and harmless prompts of each language are projected on the direction at its own position
and layer. A language whose harmful prompts lie closer to English's harmless ones than English's
harmful ones do is one that refuses less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polyrefuse_models import organism
from polyrefuse_models.anatomy import decoder_blocks
from polyrefuse_models.directions.artifact import BadDirection
from polyrefuse_models.directions.extract import observe
from polyrefuse_models.directions.prompts import kinds_of
from polyrefuse_models.interventions import check_layers
from polyrefuse_models.versions import versions
from polyrefuse_tasks import data
from polyrefuse_tasks.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polyrefuse_models.chat import ChatModel
    from polyrefuse_models.directions.artifact import Direction

SCHEMA = 1
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def geometry(
    chat: ChatModel,
    direction: Direction,
    languages: Sequence[str],
    *,
    dataset: str = "polyrefuse",
    limit: int | None = 128,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Project the test prompts of each language on the direction.

    Args:
        chat: the model, without an intervention.
        direction: with `position` and `layer` in its metadata.
        languages: ISO 639-1 codes; English is always among what is measured, as the reference.
        dataset: a key of `prompts.DATASETS`.
        limit: prompts of each kind and language; all where None.

    Returns:
        the JSON document, and for the picture each language's
        points [prompt, 3]: their first two principal components (of all languages' states
        together) and whether they are harmful.

    Raises:
        UserError: unknown language or data set; the model's states are not all finite.
        BadDirection: its metadata have no position or layer, a position that the model's chat
            template does not have, or a place where all states are equal.
        LayerOutOfRange: a layer that the model does not have.
    """
    from sklearn.decomposition import PCA
    from sklearn.metrics import roc_auc_score, silhouette_score

    try:
        position, layer = direction.metadata["position"], direction.metadata["layer"]
    except KeyError as missing:
        raise BadDirection(
            f"The direction's metadata have no {missing}: give an artifact that `polyrefuse "
            "direction extract` wrote."
        ) from None
    check_layers(range(layer, layer + 1), len(decoder_blocks(chat.model)))
    n_positions = max(1, len(chat.suffix))
    if not -n_positions <= position < 0:
        raise BadDirection(
            f"The direction's position {position} is none of this model's: its chat template puts "
            f"{n_positions} tokens after the user's text; extract a direction from this model."
        )
    kinds = kinds_of(dataset)
    unit = (direction.direction.double() / direction.direction.double().norm()).numpy()
    asked = list(dict.fromkeys(["en", *languages]))
    states: dict[str, np.ndarray] = {}
    harmful: dict[str, np.ndarray] = {}
    for language in asked:
        rows = [data.load(kind, language)[:limit] for kind in kinds]
        prompts = [row.prompt for part in rows for row in part]
        seen = observe(chat, prompts, -position).states[:, 0, layer]
        if not seen.isfinite().all():
            raise UserError(
                f"The model's states for {language} have NaN or infinite entries at layer {layer}; "
                "load it with another dtype, such as float32."
            )
        states[language] = seen.double().numpy()
        harmful[language] = np.arange(len(prompts)) < len(rows[0])

    everything = np.concatenate(list(states.values()))
    if not np.ptp(everything, axis=0).any():
        raise BadDirection(
            f"All prompts have the same state at the direction's position {position} and layer "
            f"{layer}: nothing can be measured there; extract a direction from this model."
        )
    # Row by row, unlike a matrix product, so that equal states have equal projections.
    projected = {language: (states[language] * unit).sum(axis=1) for language in asked}
    safe = projected["en"][~harmful["en"]].mean()
    refused = projected["en"][harmful["en"]].mean()
    plane = PCA(n_components=2).fit(everything)
    points = {
        language: np.column_stack([plane.transform(states[language]), harmful[language]])
        for language in asked
    }
    return {
        "schema": SCHEMA,
        "model": organism.name_of(chat.model.config._name_or_path),
        **chat.system,
        "dataset": dataset,
        "direction_sha256": direction.sha256,
        "position": position,
        "layer": layer,
        "explained_variance": plane.explained_variance_ratio_.tolist(),
        "languages": {
            language: {
                "harmful": _distribution(projected[language][harmful[language]]),
                "harmless": _distribution(projected[language][~harmful[language]]),
                "auc": float(roc_auc_score(harmful[language], projected[language])),
                "silhouette": float(silhouette_score(states[language], harmful[language])),
                # 0 where English's harmless prompts lie, 1 where its harmful ones do.
                "harmful_against_english": _share(
                    projected[language][harmful[language]].mean() - safe, refused - safe
                ),
            }
            for language in asked
        },
        "versions": versions(),
    }, points


def _share(part: float, whole: float) -> float | None:
    """None of nothing."""
    return float(part / whole) if whole else None


def _distribution(projections: np.ndarray) -> dict[str, Any]:
    return {
        "n": len(projections),
        "mean": float(projections.mean()),
        "std": float(projections.std(ddof=1)),
        "quantiles": {str(q): float(np.quantile(projections, q)) for q in QUANTILES},
        "projections": [round(float(value), 6) for value in projections],
    }
