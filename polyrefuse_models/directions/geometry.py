"""Show where the prompts of each language lie along the refusal direction.

This is how the paper explains cross-lingual jailbreaks (2505.17306, sec. 5). The model generates no
answers for it. Harmful and harmless prompts of each language are projected on the direction at its
own position and layer. A model refuses less in a language whose harmful prompts lie closer to the
harmless prompts of English than the harmful prompts of English do.

Prompts are labelled as harmful or harmless, whatever the model does with them. AUC and silhouette
say whether the model's states separate the two kinds, which they can even in a model that refuses
nothing (docs/explanation/real-model.md). What the model does is known from the answers of a run
(`success`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from polyrefuse_models.anatomy import decoder_blocks
from polyrefuse_models.chat_model import within_memory
from polyrefuse_models.directions.areas import area
from polyrefuse_models.directions.artifact import BadDirection
from polyrefuse_models.directions.effects import described, prompts_of
from polyrefuse_models.directions.extract import cosines, difference_of_means
from polyrefuse_models.directions.harmfulness import harmfulness
from polyrefuse_models.directions.monitor import monitor
from polyrefuse_models.directions.prompts import kinds_of
from polyrefuse_models.directions.states import Positions, see
from polyrefuse_models.directions.success import success
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
    from polyrefuse_models.directions.answered import Answers
    from polyrefuse_models.directions.artifact import Direction

SCHEMA = 5
"""The version of the document. Version 4 added the description of the direction that the reports on
its effects have (`effects.described`), and `plane`, the points of `geometry.png`. Version 5 added
the intervals of `harmfulness`."""

MEANING = (
    "auc and silhouette say whether the model's states separate harmful from harmless prompts, "
    "not whether it refuses: a chat model that refuses nothing can have an AUC of 1"
)
"""A remark for the JSON document. The pictures have a shorter form of it."""

LEAST = 2
"""The fewest prompts of each kind and language that have a spread to measure."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def check_request(
    direction: Direction,
    languages: Sequence[str],
    dataset: str,
    limit: int | None,
    calibrated_in: str,
) -> None:
    """Refuse what `geometry` would refuse, as far as this is known without the model.

    Args:
        direction, languages, dataset, limit, calibrated_in: as in `geometry`.

    Raises:
        UserError: unknown language or dataset; too few prompts; `calibrated_in` is not measured.
        BadDirection: the direction's metadata has no position or layer.
    """
    _place_of(direction)
    asked = measured(languages)
    if calibrated_in not in asked:
        raise UserError(
            f"--calibrated-in {calibrated_in} is not one of the languages that are measured "
            f"({', '.join(asked)}); name it in --langs too."
        )
    for kind in kinds_of(dataset):
        for language in asked:
            rows, _ = prompts_of(kind, [language], limit)
            if len(rows) < LEAST:
                raise UserError(
                    f"{kind} has one test prompt in {language}, and a geometry needs at least "
                    f"{LEAST}; leave that language out."
                )


def measured(languages: Sequence[str]) -> list[str]:
    """Return the languages to measure: English, which is the reference, and those asked for."""
    return list(dict.fromkeys(["en", *languages]))


def geometry(
    chat: ChatModel,
    direction: Direction,
    languages: Sequence[str],
    *,
    dataset: str = "polyrefuse",
    limit: int | None = 128,
    calibrated_in: str = "en",
    false_alarms: float = 0.05,
    seed: int = 0,
    answers: Answers | None = None,
) -> dict[str, Any]:
    """Project the test prompts of each language on the direction, at its own and every layer.

    Args:
        chat: the model, without an intervention.
        direction: a direction with `position` and `layer` in its metadata.
        languages: ISO 639-1 codes. English is always measured too, as the reference.
        dataset: a key of `prompts.sources`.
        limit: the number of prompts of each kind and language; None takes all.
        calibrated_in: the language of the monitor's calibration: English or one of `languages`.
        false_alarms: the share of harmless prompts that may raise an alarm, between 0 and 1.
        seed: the seed of the choice of prompts that the monitor is calibrated on.
        answers: the answers of a run of the same model. The model reads all prompts of the run too;
            `limit` does not apply to them.

    Returns:
        The JSON document. `plane` has each language's points by kind, [prompt, 2]: the first two
        principal components of the states of all languages together. `languages` describes the
        layer of the direction. `layers` describes the input of each layer at the same position: the
        `auc` of each language along the same direction, its `silhouette`, and the `cosine`
        [language, language] between the languages' differences of means, in the order of
        `languages`; null if all states are the same. `monitor`, `harmfulness` and `success` are
        what the functions of these names return; `success` is null without `answers`.

    Raises:
        UserError: unknown language or dataset; too few prompts; `calibrated_in` is not measured; a
            state is not finite; or the memory is too small even for half of the rows.
        BadDirection: the direction's metadata has no position or layer, or a position that the
            model's chat template does not have; or all states there are equal.
        LayerOutOfRange: the model does not have the layer.
    """
    from sklearn.decomposition import PCA

    position, layer = _place(chat, direction)
    kinds = kinds_of(dataset)
    unit = direction.direction.double() / direction.direction.double().norm()
    check_request(direction, languages, dataset, limit, calibrated_in)
    asked = measured(languages)
    rows = {language: [data.load(kind, language)[:limit] for kind in kinds] for language in asked}
    harmful = {
        language: np.repeat([True, False], [len(part) for part in parts])
        for language, parts in rows.items()
    }
    first = {language: [row for part in parts for row in part] for language, parts in rows.items()}
    answered: dict[str, list[str]] = {language: [] for language in asked}
    for one in answers.prompts if answers else ():
        answered[one.language].append(one.prompt)
    # A prompt of the run that is also a test prompt is not read twice.
    prompts = {
        language: [row.prompt for row in first[language]]
        + sorted(set(answered[language]).difference(row.prompt for row in first[language]))
        for language in asked
    }
    positions = Positions.of(chat, position)
    seen = within_memory(
        chat,
        lambda chat: {
            name: see(chat, prompts[name], harmful[name].tolist(), positions, unit, layer, name)
            for name in asked
        },
    )

    states = {language: _at(seen[language].states, layer) for language in asked}
    everything = np.concatenate(list(states.values()))
    if not np.ptp(everything, axis=0).any():
        raise BadDirection(
            f"All prompts have the same state at the direction's position {position} and layer "
            f"{layer}, so nothing can be measured there; extract a direction from this model."
        )
    watched = {
        "position": positions.last,
        "layer": layer,
        **monitor(
            {name: _of_first(seen[name].last, harmful[name])[:, layer] for name in asked},
            harmful,
            {name: [row.id for row in first[name]] for name in asked},
            calibrated_in=calibrated_in,
            false_alarms=false_alarms,
            seed=seed,
        ),
    }
    along = {name: _of_first(seen[name].own, harmful[name]) for name in asked}
    projected = {language: along[language][:, layer] for language in asked}
    safe = projected["en"][~harmful["en"]].mean()
    refused = projected["en"][harmful["en"]].mean()
    plane = PCA(n_components=2).fit(everything)
    points = {language: plane.transform(states[language]) for language in asked}
    return {
        "schema": SCHEMA,
        **model_of(chat.model.config),
        **chat.system,
        "dataset": dataset,
        "direction_sha256": direction.sha256,
        "direction": described(direction),
        "position": position,
        "layer": layer,
        "meaning": MEANING,
        "explained_variance": plane.explained_variance_ratio_.tolist(),
        "plane": {
            language: {
                "harmful": placed[harmful[language]].tolist(),
                "harmless": placed[~harmful[language]].tolist(),
            }
            for language, placed in points.items()
        },
        "languages": {
            language: {
                "harmful": _distribution(projected[language][harmful[language]]),
                "harmless": _distribution(projected[language][~harmful[language]]),
                **_apart(states[language], along[language][:, layer], harmful[language]),
                # 0 is where the harmless prompts of English lie, and 1 where its harmful ones lie.
                "harmful_against_english": _share(
                    projected[language][harmful[language]].mean() - safe, refused - safe
                ),
            }
            for language in asked
        },
        "layers": [
            _of_layer(
                at,
                {name: _at(seen[name].states, at) for name in asked},
                {name: along[name][:, at] for name in asked},
                harmful,
            )
            for at in range(len(decoder_blocks(chat.model)))
        ],
        "monitor": watched,
        "harmfulness": harmfulness(
            {name: seen[name].means for name in asked},
            {name: seen[name].noise for name in asked},
            {
                name: (seen[name].at_layer[of], seen[name].at_layer[~of])
                for name, of in harmful.items()
            },
            layer,
            unit,
            positions,
        ),
        "success": answers
        and success(
            answers,
            {name: seen[name].own[_found(prompts[name], answered[name])].numpy() for name in asked},
            {
                name: seen[name].last[_found(prompts[name], answered[name]), layer].numpy()
                for name in asked
            },
            layer=layer,
            limit=watched["threshold"],
        ),
        "versions": versions(),
    }


def _place(chat: ChatModel, direction: Direction) -> tuple[int, int]:
    """Find the position and layer of a direction in a model.

    Raises:
        BadDirection: its metadata has none, or a position that the chat template does not have.
        LayerOutOfRange: the model does not have the layer.
    """
    position, layer = _place_of(direction)
    check_layers(range(layer, layer + 1), len(decoder_blocks(chat.model)))
    n_positions = max(1, len(chat.suffix))
    if not -n_positions <= position < 0:
        raise BadDirection(
            f"The direction's position {position} does not exist in this model: its chat template "
            f"puts {n_positions} tokens after the user's text; extract a direction from this model."
        )
    return position, layer


def _place_of(direction: Direction) -> tuple[int, int]:
    """Find the position and layer in the metadata of a direction.

    Raises:
        BadDirection: the metadata lacks one of them.
    """
    try:
        return direction.metadata["position"], direction.metadata["layer"]
    except KeyError as missing:
        raise BadDirection(
            f"The direction's metadata has no {missing}; give an artifact that `polyrefuse "
            "direction extract` wrote."
        ) from None


def _of_first(
    projections: Float[Tensor, "prompt layer"], harmful: np.ndarray
) -> Float[np.ndarray, "first layer"]:
    """Select the prompts that are known to be harmful or harmless, which were read first."""
    return projections[: len(harmful)].numpy()


def _found(prompts: Sequence[str], answered: Sequence[str]) -> list[int]:
    """Find the places of a run's prompts among those that were read."""
    places = {prompt: place for place, prompt in enumerate(prompts)}
    return [places[prompt] for prompt in answered]


def _at(states: Float[Tensor, "prompt layer d"], layer: int) -> np.ndarray:
    return states[:, layer].double().numpy()


def _of_layer(
    layer: int,
    states: dict[str, np.ndarray],
    projected: dict[str, np.ndarray],
    harmful: dict[str, np.ndarray],
) -> dict[str, Any]:
    """Make the entry of one layer in `layers` of the document."""
    varied = {language: bool(np.ptp(x, axis=0).any()) for language, x in states.items()}
    differences = [
        difference_of_means(*(torch.from_numpy(x[of]) for of in (harmful[name], ~harmful[name])))
        for name, x in states.items()
    ]
    cosine = cosines(torch.stack(differences)).tolist()
    return {
        "layer": layer,
        "languages": {
            name: _apart(x, projected[name], harmful[name])
            if varied[name]
            else dict.fromkeys(("auc", "auc_low", "auc_high", "silhouette"))
            for name, x in states.items()
        },
        "cosine": [
            [value if a and b else None for value, b in zip(row, varied.values(), strict=True)]
            for row, a in zip(cosine, varied.values(), strict=True)
        ],
    }


def _apart(states: np.ndarray, projected: np.ndarray, harmful: np.ndarray) -> dict[str, float]:
    """Measure how well the states separate harmful from harmless prompts."""
    from sklearn.metrics import silhouette_score

    whole = area(projected[harmful], projected[~harmful])
    return {
        "auc": whole.auc,
        "auc_low": whole.low,
        "auc_high": whole.high,
        "silhouette": float(silhouette_score(states, harmful)),
    }


def _share(part: float, whole: float) -> float | None:
    """Divide `part` by `whole`; None if `whole` is 0."""
    return float(part / whole) if whole else None


def _distribution(projections: np.ndarray) -> dict[str, Any]:
    return {
        "n": len(projections),
        "mean": float(projections.mean()),
        "std": float(projections.std(ddof=1)),
        "quantiles": {str(q): float(np.quantile(projections, q)) for q in QUANTILES},
        "projections": [round(float(value), 6) for value in projections],
    }
