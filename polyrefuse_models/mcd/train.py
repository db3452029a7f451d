"""Train a soft prompt by Multilingual Collaborative Defense (2505.11835, based on DRO, 2401.18018).

The basis and the probes are fitted on the states of the anchors without a safety prompt and under
three safety prompts in words. The base is measured under the safety prompt in words that training
starts from. Both are computed once. Training then changes only the vectors, so that in every
language the refusal probe predicts more refusals of harmful prompts and fewer of harmless ones,
while the rest of the state stays as it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from polyrefuse_models.anatomy import input_device
from polyrefuse_models.chat_model import within_memory
from polyrefuse_models.interventions import SoftPrompt, embed_text, installed
from polyrefuse_models.mcd import probes, published_probes
from polyrefuse_models.mcd.artifact import Prompt
from polyrefuse_models.mcd.labels import soft_labels
from polyrefuse_models.mcd.loss import Base, Terms, terms, weighted
from polyrefuse_models.mcd.probes import Measure, fit
from polyrefuse_models.mcd.published_labels import published_labels
from polyrefuse_models.mcd.safety_prompts import SAFETY_PROMPTS
from polyrefuse_models.mcd.settings import Settings
from polyrefuse_models.mcd.states import batch_states, states, under
from polyrefuse_models.provenance import model_of
from polyrefuse_models.weights import weights_identity
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.versions import versions

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformers import PreTrainedModel

    from polyrefuse_models.chat_model import ChatModel
    from polyrefuse_models.mcd.anchors import Anchors
    from polyrefuse_models.mcd.checkpoint import Checkpoint


FLAT = 0.02
"""The refusal probe is useless if its predictions for all anchors differ by less than this."""

_SEEDS = 10_000
"""The distance between two trainings' seeds. Each pair of condition and language has its own seed,
and this is more than there are pairs."""


PROBES = {"regularised": probes.regularised, "published": published_probes.published}
"""The functions that fit the two probes, by the names that `Settings.probes` takes."""


class Diverged(UserError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class Prepared:
    """What is computed once before the first step.

    Attributes:
        measure: the basis and the probes.
        base: the measurements of the anchors, by language.
        not_refused: the mean soft labels by condition, language and kind of anchor.
        warnings: what is wrong with the probes, as clauses without a full stop.
    """

    measure: Measure
    base: dict[str, Base]
    not_refused: dict[str, dict[str, dict[str, float]]]
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Trained:
    """A soft prompt, and what its pictures show.

    Attributes:
        prompt: the soft prompt.
        measure: the basis and the probes.
        losses: the terms of the loss at every step, before they are weighted.
        labels: 0 for harmful and 1 for harmless anchors.
        before: the anchors' coordinates in the basis under the initial safety prompt, by language.
        after: the anchors' coordinates in the basis under the soft prompt, by language.
    """

    prompt: Prompt
    measure: Measure
    losses: list[Terms]
    labels: Float[Tensor, "n"]
    before: dict[str, Float[Tensor, "n d"]]
    after: dict[str, Float[Tensor, "n d"]]


def identity(chat: ChatModel, anchors: Anchors, settings: Settings) -> dict[str, Any]:
    """Collect everything that the result of training depends on, in values that JSON can hold."""
    return {
        **model_of(chat.model.config),
        **chat.system,
        "weights": weights_identity(chat.model, of_the_hub=False),
        "dataset": anchors.dataset,
        "languages": list(anchors.languages),
        "anchors": {"ids": list(anchors.ids), "sha256": anchors.sha256},
        "settings": asdict(settings) | {"weights": settings.weights._asdict()},
        "batch_size": chat.batch_size,
        "versions": versions(),
    }


def train(chat: ChatModel, anchors: Anchors, settings: Settings, checkpoint: Checkpoint) -> Trained:
    """Train a soft prompt, or continue a training that was interrupted.

    If the memory of a GPU is too small for `chat.batch_size` rows without gradients, that part of
    the work is repeated with half as many.

    Args:
        chat: the model, whose weights do not change.
        anchors: the anchors to train on.
        settings: the settings of the training.
        checkpoint: the checkpoint with the `identity` of this training.

    Raises:
        UserError: the prompt has no place in the template or in the window, a state or a loss is
            not finite, the judge does not know a language, the disk is full, or the memory is too
            small even for half of the rows.
    """
    with _frozen(chat.model):
        prepared = within_memory(chat, lambda chat: prepare(chat, anchors, settings, checkpoint))
        device = input_device(chat.model)
        words = embed_text(chat.model, chat.tokenizer, SAFETY_PROMPTS[settings.init])
        precision = chat.model.dtype if settings.precision == "model" else torch.float32
        vectors = nn.Parameter(words.to(device, precision).clone())
        with installed(chat.model, SoftPrompt(chat.tokenizer, vectors)) as soft:
            prompted = under(chat, soft.text)
            losses = _optimise(prompted, vectors, anchors, prepared, settings, checkpoint)
            after = within_memory(
                prompted,
                lambda chat: {
                    language: prepared.measure.coordinates(states(chat, anchors.prompts(language)))
                    for language in anchors.languages
                },
            )
    return Trained(
        prompt=Prompt(
            vectors.detach().cpu().clone(), _metadata(chat, anchors, settings, prepared, losses)
        ),
        measure=prepared.measure,
        losses=losses,
        labels=torch.tensor(anchors.labels).float(),
        before={language: base.coordinates for language, base in prepared.base.items()},
        after=after,
    )


def texts_in_front() -> dict[str, str | None]:
    """Map names to the safety prompts under which anchors are observed; None for no prompt."""
    return {"none": None, **SAFETY_PROMPTS}


def observations(
    languages: tuple[str, ...], settings: Settings
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """List the pairs (name of a safety prompt, language) to observe.

    Returns:
        The pairs to sample labels for; and the pairs to read states for, which include them.
    """
    fitted = settings.fitted(languages)
    labelled = [(name, language) for name in texts_in_front() for language in fitted]
    others = [(settings.init, language) for language in languages if language not in fitted]
    return labelled, labelled + others


def epochs(languages: tuple[str, ...], settings: Settings) -> list[tuple[str, ...]]:
    """List the languages of each epoch, in order."""
    groups = [languages] if settings.mixed else [(language,) for language in languages]
    return [group for group in groups for _ in range(settings.epochs)]


def steps(n_anchors: int, group: tuple[str, ...], settings: Settings) -> int:
    """Count the steps of an epoch over some languages."""
    return math.ceil(n_anchors * len(group) / settings.batch_size)


def prepare(
    chat: ChatModel, anchors: Anchors, settings: Settings, checkpoint: Checkpoint
) -> Prepared:
    """Read states and soft labels under each condition, fit the probes, and measure the base.

    Raises:
        UserError: as in `train`.
    """
    conditions = texts_in_front()
    fitted = settings.fitted(anchors.languages)
    labelled, wanted = observations(anchors.languages, settings)
    chats = {name: under(chat, text) for name, text in conditions.items()}

    def observed(name: str, language: str) -> Float[Tensor, "n d"]:
        return checkpoint.once(
            f"states-{name}-{language}", lambda: states(chats[name], anchors.prompts(language))
        )

    def sampled(index: int, name: str, language: str) -> Float[Tensor, "n"]:
        return checkpoint.once(
            f"labels-{name}-{language}",
            lambda: _labels(
                chats[name], anchors, language, settings, settings.seed * _SEEDS + index
            ),
        )

    seen = {key: observed(*key) for key in tqdm(wanted, desc="States of the anchors", disable=None)}
    bar = tqdm(labelled, desc="Soft refusal labels", disable=None)
    labels = {key: sampled(index, *key) for index, key in enumerate(bar)}
    harmless = torch.tensor(anchors.labels).float()
    not_refused = torch.cat(list(labels.values()))
    kinds = harmless.repeat(len(labels))
    labelled_states = torch.cat([seen[key] for key in labels])
    measure = fit(
        labelled_states,
        [language for _, language in labels for _ in anchors.ids],
        not_refused,
        kinds,
        settings.seed,
        PROBES[settings.probes],
    )
    base_states = {lang: seen[settings.init, lang] for lang in anchors.languages}
    return Prepared(
        measure=measure,
        base=_bases(base_states, harmless, measure, settings.pivot),
        not_refused={
            name: {
                lang: {
                    kind: labels[name, lang][harmless == label].mean().item()
                    for kind, label in (("harmful", 0), ("harmless", 1))
                }
                for lang in fitted
            }
            for name in conditions
        },
        warnings=_warnings(not_refused, kinds, measure.not_refused(labelled_states)),
    )


def _warnings(
    not_refused: Float[Tensor, "n"], harmless: Float[Tensor, "n"], predicted: Float[Tensor, "n"]
) -> list[str]:
    """List what is wrong with the refusal probe, as clauses without a full stop.

    Args:
        not_refused: the soft labels of the anchors under every condition.
        harmless: the labels 0 or 1 of the same anchors.
        predicted: the predictions of the refusal probe for the same anchors.
    """
    if not_refused.min() == not_refused.max():
        return [
            f"the refusal probe says nothing: under every condition the model refused "
            f"{1 - not_refused[0]:.0%} of the answers to each anchor"
        ]
    if not_refused[harmless == 0].max() == 0:
        return [
            "the refusal probe separates harmful from harmless anchors, and not refused from "
            "answered ones: no answer to a harmful anchor was compliance under any condition "
            "(with --preset paper, compliance needs more than two lines)"
        ]
    least, most = predicted.min().item(), predicted.max().item()
    if most - least < FLAT:
        return [
            "the refusal probe says nothing: the model refused "
            f"{1 - not_refused.mean().item():.1%} of all answers to the anchors, and the probe "
            f"predicts {1 - most:.1%} to {1 - least:.1%} for every anchor under every condition, "
            "so the refusal term trains nothing"
        ]
    return []


def _labels(
    chat: ChatModel, anchors: Anchors, language: str, settings: Settings, seed: int
) -> Float[Tensor, "n"]:
    """Sample the soft labels of the harmful and then of the harmless anchors."""
    sampling = {
        "answers": settings.answers,
        "max_new_tokens": settings.max_new_tokens,
        "seed": seed,
    }
    if settings.labels == "published":
        harmful, harmless = anchors.harmful[language], anchors.harmless[language]
        return published_labels(chat, harmful, harmless, language, **sampling)
    return soft_labels(chat, anchors.prompts(language), language, **sampling)


def _bases(
    seen: dict[str, Float[Tensor, "n d"]],
    labels: Float[Tensor, "n"],
    measure: Measure,
    pivot: bool,
) -> dict[str, Base]:
    """Measure the base of each language. With `pivot`, all have the first language's logits."""
    coordinates = {language: measure.coordinates(own) for language, own in seen.items()}
    first = next(iter(coordinates.values()))
    bases = {}
    for language, own in coordinates.items():
        others = [x for other, x in coordinates.items() if other != language]
        probed = first if pivot else own
        bases[language] = Base(
            labels=labels,
            refusal=measure.refusal(probed),
            harmfulness=measure.harmfulness(probed),
            coordinates=own,
            others=torch.stack(others).mean(dim=0) if others else None,
        )
    return bases


def _optimise(
    prompted: ChatModel,
    vectors: nn.Parameter,
    anchors: Anchors,
    prepared: Prepared,
    settings: Settings,
    checkpoint: Checkpoint,
) -> list[Terms]:
    """Train the vectors epoch by epoch, and return the terms of the loss at every step."""
    device = vectors.device
    measure = prepared.measure.to(device)
    all_epochs = epochs(anchors.languages, settings)
    optimizer = torch.optim.AdamW([vectors], lr=settings.learning_rate)
    losses: list[Terms] = []
    done = 0
    if (left := checkpoint.read("epoch")) is not None:
        vectors.data.copy_(left["vectors"])
        optimizer.load_state_dict(left["optimizer"])
        losses = [Terms(*step) for step in left["losses"]]
        done = left["done"]
    total = sum(steps(len(anchors.ids), group, settings) for group in all_epochs)
    with tqdm(total=total, initial=len(losses), desc="Training", disable=None) as bar:
        for number, group in enumerate(all_epochs[done:], done):
            prompts = [prompt for language in group for prompt in anchors.prompts(language)]
            base = Base.join([prepared.base[language] for language in group]).to(device)
            # The epoch's number decides its order, wherever training was interrupted.
            drawn = number if settings.reshuffled else number % settings.epochs
            order = np.random.default_rng([settings.seed, drawn]).permutation(len(prompts))
            for start in range(0, len(order), settings.batch_size):
                rows = order[start : start + settings.batch_size].tolist()
                of_batch = terms(
                    batch_states(prompted, [prompts[i] for i in rows]), base[rows], measure
                )
                loss = weighted(of_batch, settings.weights)
                if not loss.isfinite():
                    raise Diverged(
                        "The loss is no longer a number; give a lower --learning-rate, or load the "
                        "model with --dtype float32."
                    )
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_([vectors], settings.clip)
                optimizer.step()
                losses.append(of_batch.numbers())
                rounded = {name: f"{value:.3g}" for name, value in losses[-1]._asdict().items()}
                bar.set_postfix(rounded, refresh=False)
                bar.update()
            checkpoint.write(
                "epoch",
                {
                    "done": number + 1,
                    "vectors": vectors.detach().cpu(),
                    "optimizer": optimizer.state_dict(),
                    "losses": [list(step) for step in losses],
                },
            )
    return losses


@contextmanager
def _frozen(model: PreTrainedModel) -> Iterator[None]:
    """Switch the weights' gradients and dropout off during a `with` block."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    training = model.training
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        model.train(training)
        for weight in trained:
            weight.requires_grad_(True)


def _metadata(
    chat: ChatModel,
    anchors: Anchors,
    settings: Settings,
    prepared: Prepared,
    losses: list[Terms],
) -> dict[str, Any]:
    trained_with = identity(chat, anchors, settings)
    measure = prepared.measure
    per_epoch = len(losses) // len(epochs(anchors.languages, settings))
    return {
        **{
            key: trained_with[key]
            for key in (
                *model_of(chat.model.config),
                *chat.system,
                "dataset",
                "languages",
                "settings",
            )
        },
        "anchors": {
            **trained_with["anchors"],
            "harmful": anchors.labels.count(0),
            "harmless": anchors.labels.count(1),
            "overlap": anchors.overlap,
        },
        "losses": {
            "first_epoch": _mean(losses[:per_epoch]),
            "last_epoch": _mean(losses[-per_epoch:]),
        },
        "not_refused": prepared.not_refused,
        "probes": {
            "fitted_on": list(settings.fitted(anchors.languages)),
            "explained_variance": list(measure.explained),
            "refusal_held_out_loss": measure.refusal.held_out_loss,
            "harmfulness_held_out_loss": measure.harmfulness.held_out_loss,
        },
        "warnings": prepared.warnings,
        "versions": trained_with["versions"],
    }


def _mean(losses: list[Terms]) -> dict[str, float]:
    """Average each term over some steps."""
    return {
        name: sum(column) / len(losses)
        for name, column in zip(Terms._fields, zip(*losses, strict=True), strict=True)
    }
