"""Train a soft safety prompt: multilingual collaborative defense (2505.11835) on DRO (2401.18018).

The states of the anchors, under no system prompt and under three in words, give the basis and the
probes; the prompt in words that training begins with gives the base. Both are computed once. Then
the vectors alone are moved, so that the refusal probe says "refused" more of harmful queries and
less of harmless ones, in every language, while the rest of the state stays what it was.
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
"""The refusal probe says nothing where its predictions of all anchors lie within this share."""

_SEEDS = 10_000
"""More than there are pairs of a condition and a language: each has a seed of its own."""


PROBES = {"regularised": probes.regularised, "published": published_probes.published}
"""What `Settings.probes` names -> the function that fits the two probes."""


class Diverged(UserError):
    """A loss that is no longer a number."""


@dataclass(frozen=True)
class Prepared:
    """What is computed once, before the first step.

    Attributes:
        measure: basis and probes.
        base: language -> what is known of its anchors.
        not_refused: condition -> language -> mean soft label of harmful and of harmless anchors.
        warnings: what makes the probes less than they should be.
    """

    measure: Measure
    base: dict[str, Base]
    not_refused: dict[str, dict[str, dict[str, float]]]
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Trained:
    """A soft prompt, and what its pictures show.

    Attributes:
        prompt: the artifact.
        measure: basis and probes.
        losses: of every step.
        labels: 0 harmful, 1 harmless.
        before: language -> the anchors' states in the basis, under the initial text prompt.
        after: the same under the soft prompt.
    """

    prompt: Prompt
    measure: Measure
    losses: list[Terms]
    labels: Float[Tensor, "n"]
    before: dict[str, Float[Tensor, "n d"]]
    after: dict[str, Float[Tensor, "n d"]]


def identity(chat: ChatModel, anchors: Anchors, settings: Settings) -> dict[str, Any]:
    """All that training depends on, in values that JSON can hold."""
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
    """Train a soft prompt, or go on where training was killed.

    Where a GPU's memory is too small for `chat.batch_size` rows without a gradient, what is left of
    them is done with half.

    Args:
        chat: the model; its weights are not touched.
        checkpoint: of this training's `identity`.

    Raises:
        UserError: the prompt has no place in the template or in the window, the states or a loss
            are not finite, the judge does not know a language, the disk is full, or memory is
            too small for half of the rows, too.
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
    """Name -> safety prompt in words under which the anchors are observed; None for no prompt."""
    return {"none": None, **SAFETY_PROMPTS}


def observations(
    languages: tuple[str, ...], settings: Settings
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Pairs (name of a text in front, language) of which labels are sampled, and states read."""
    fitted = settings.fitted(languages)
    labelled = [(name, language) for name in texts_in_front() for language in fitted]
    others = [(settings.init, language) for language in languages if language not in fitted]
    return labelled, labelled + others


def epochs(languages: tuple[str, ...], settings: Settings) -> list[tuple[str, ...]]:
    """The languages of each epoch, in order."""
    groups = [languages] if settings.mixed else [(language,) for language in languages]
    return [group for group in groups for _ in range(settings.epochs)]


def steps(n_anchors: int, group: tuple[str, ...], settings: Settings) -> int:
    """Steps of an epoch over some languages."""
    return math.ceil(n_anchors * len(group) / settings.batch_size)


def prepare(
    chat: ChatModel, anchors: Anchors, settings: Settings, checkpoint: Checkpoint
) -> Prepared:
    """States and soft labels under each condition, the probes fitted on them, and the base.

    Raises:
        UserError: as `train`.
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
    """What makes the refusal probe less than it should be, as clauses without a full stop.

    Args:
        not_refused: soft labels under every condition.
        harmless: 0 or 1.
        predicted: what the refusal probe makes of the same anchors.
    """
    if not_refused.min() == not_refused.max():
        return [
            f"the refusal probe says nothing: under every condition the model refused "
            f"{1 - not_refused[0]:.0%} of the answers to each anchor"
        ]
    if not_refused[harmless == 0].max() == 0:
        return [
            "the refusal probe tells harmful anchors from harmless ones, not refused from answered "
            "ones: under no condition was an answer to a harmful anchor compliance (with --preset "
            "paper it needs more than two lines to be)"
        ]
    least, most = predicted.min().item(), predicted.max().item()
    if most - least < FLAT:
        return [
            "the refusal probe says nothing: the model refused "
            f"{1 - not_refused.mean().item():.1%} of all answers to the anchors, and the probe "
            f"predicts {1 - most:.1%} to {1 - least:.1%} of every anchor under every condition, so "
            "that the refusal term trains nothing"
        ]
    return []


def _labels(
    chat: ChatModel, anchors: Anchors, language: str, settings: Settings, seed: int
) -> Float[Tensor, "n"]:
    """The soft labels of the harmful anchors and then the harmless ones."""
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
    """The base of each language; the probes' logits are the first language's where `pivot`."""
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
    """Move `vectors`, epoch by epoch, and return the losses of every step."""
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
            # By the epoch's number, so that an epoch is the same wherever training began.
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
                        "The loss is no longer a number: give a lower --learning-rate, or load the "
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
    """No gradient into the weights and no dropout for the length of a `with` block."""
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
    """The mean of each term over some steps."""
    return {
        name: sum(column) / len(losses)
        for name, column in zip(Terms._fields, zip(*losses, strict=True), strict=True)
    }
