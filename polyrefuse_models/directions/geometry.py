"""Why a language can be a loophole: where its prompts lie along the refusal direction.

The paper's explanation of cross-lingual jailbreaks (2505.17306, sec. 5) without generating a word:
harmful and harmless prompts of each language are projected on the direction at its own position
and layer. A language whose harmful prompts lie closer to English's harmless ones than English's
harmful ones do is one that refuses less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polyrefuse_models.directions.artifact import BadDirection
from polyrefuse_models.directions.extract import observe
from polyrefuse_models.directions.prompts import DATASETS
from polyrefuse_models.versions import versions
from polyrefuse_tasks import data

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
        the JSON document, and for the picture each language's points [prompt, 3]: their first two
        principal components (of all languages' states together) and whether they are harmful.

    Raises:
        UserError: unknown language or data set.
        BadDirection: its metadata have no position or layer.
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
    unit = (direction.direction.double() / direction.direction.double().norm()).numpy()
    asked = list(dict.fromkeys(["en", *languages]))
    states: dict[str, np.ndarray] = {}
    harmful: dict[str, np.ndarray] = {}
    for language in asked:
        kinds = [data.load(kind, language)[:limit] for kind in DATASETS[dataset]]
        prompts = [row.prompt for rows in kinds for row in rows]
        seen = observe(chat, prompts, -position).states[:, 0, layer]
        states[language] = seen.double().numpy()
        harmful[language] = np.arange(len(prompts)) < len(kinds[0])

    projected = {language: states[language] @ unit for language in asked}
    safe = projected["en"][~harmful["en"]].mean()
    refused = projected["en"][harmful["en"]].mean()
    plane = PCA(n_components=2).fit(np.concatenate(list(states.values())))
    points = {
        language: np.column_stack([plane.transform(states[language]), harmful[language]])
        for language in asked
    }
    return {
        "schema": SCHEMA,
        "model": chat.model.config._name_or_path,
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
                "harmful_against_english": float(
                    (projected[language][harmful[language]].mean() - safe) / (refused - safe)
                ),
            }
            for language in asked
        },
        "versions": versions(),
    }, points


def _distribution(projections: np.ndarray) -> dict[str, Any]:
    return {
        "n": len(projections),
        "mean": float(projections.mean()),
        "std": float(projections.std(ddof=1)),
        "quantiles": {str(q): float(np.quantile(projections, q)) for q in QUANTILES},
        "projections": [round(float(value), 6) for value in projections],
    }
